"""What operators, and deciders, have workers do: load, unload, drain. Both planes use it; they differ in how a worker is reached."""
