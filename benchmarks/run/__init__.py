"""The measurements that can be started: each is `python -m benchmarks.run.<name>`."""
