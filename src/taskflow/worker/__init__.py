"""The worker process: pool, executors, heartbeat, shutdown. `Worker.from_runtime(runtime)` is the way in."""
