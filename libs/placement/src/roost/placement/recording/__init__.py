"""Decisions written down with all that they were made of, so that they can be made again: by the same policy, or by another."""
