"""The library: what a user asks for, on top of `mpc`."""

from protocols.aggregation import mean, secure_sum

__all__ = ["mean", "secure_sum"]
