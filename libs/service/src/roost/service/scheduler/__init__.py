"""`roost.v1.Scheduler` for whoever has a view and a placer: the coordinator and every sidecar serve it with this code."""
