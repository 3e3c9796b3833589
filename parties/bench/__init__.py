"""The benchmark: workloads, the processes that run them, and the output."""
