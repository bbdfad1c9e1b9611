"""The `roost` command: one module a family of verbs."""
