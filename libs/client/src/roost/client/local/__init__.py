"""A whole cluster as processes of this machine: planned, started, watched and stopped."""
