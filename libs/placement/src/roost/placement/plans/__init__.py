"""Plans: what a decider starts without being asked, each in a file of its own. They stand beside policies, which choose for a request."""
