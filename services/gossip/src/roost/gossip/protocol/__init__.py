"""The gossip protocol as a pure library: no sockets, no clocks, no threads. Begin with `node.Node`."""
