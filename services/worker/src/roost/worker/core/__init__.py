"""A worker's jobs, without a clock, a wire or a task of its own: `WorkerCore` is the way in."""
