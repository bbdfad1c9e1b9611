"""The life of a process: settings, logging, metrics, the gRPC server and its errors, signals. Services are built on it."""
