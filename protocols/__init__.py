"""The library: what a user asks for, on top of `mpc`."""

from protocols.aggregation import mean, secure_sum, weighted_mean
from protocols.comparison import argmax, argmin, equal, less_equal, less_than, maximum, minimum
from protocols.declare import PROTOCOLS
from protocols.descriptive import standard_deviation, variance
from protocols.linear_model import LinearRegression
from protocols.nonlinear import absolute, clip, relu, select
from protocols.ordering import ranks, sort

__all__ = [
    "PROTOCOLS",
    "LinearRegression",
    "absolute",
    "argmax",
    "argmin",
    "clip",
    "equal",
    "less_equal",
    "less_than",
    "maximum",
    "mean",
    "minimum",
    "ranks",
    "relu",
    "secure_sum",
    "select",
    "sort",
    "standard_deviation",
    "variance",
    "weighted_mean",
]
