"""The gossip plane's sidecar: `protocol` is pure; `codec` and `keyring` are layers beside it."""
