"""What a sidecar makes of what it hears and tells, as values: no IO, no clock, no wire. The simulator drives the same code."""
