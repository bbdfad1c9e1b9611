"""How a decider chooses: one idea in each file, by name in `registry`."""
