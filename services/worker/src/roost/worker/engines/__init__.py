"""Engines: what makes tokens from loaded weights. One interface, three implementations."""
