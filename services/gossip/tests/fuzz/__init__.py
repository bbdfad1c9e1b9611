"""Hostile bytes: a stored corpus of them, and a storm made from it."""
