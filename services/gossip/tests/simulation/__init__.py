"""A cluster in one process, in virtual time, replayed from a seed: the network is an object and so is every fault."""
