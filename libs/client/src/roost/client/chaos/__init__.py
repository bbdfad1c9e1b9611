"""Faults on a real local cluster under checked load: what callers lost, and for how long nothing came.

`core` decides (which faults, when, what a stream was worth, the verdict); the modules beside it start, signal and call processes.
"""
