"""The sidecar's doors: wire types in, wire types out, and nothing decided here."""
