"""Where a request should run: one pure core that the coordinator and every sidecar decide with."""
