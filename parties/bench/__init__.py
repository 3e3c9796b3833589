"""The benchmark: workloads, the processes that run them, and what is shown of them."""
