"""Beaver's engine: parties that compute on additive secret shares in Z_2^64 over mutually authenticated channels."""

from mpc.errors import (
    AuthenticationFailed,
    BeaverError,
    ConfigError,
    Disagreement,
    PeerLost,
    PeerMisbehaved,
    PolicyDenied,
    PrecisionError,
    ProgramError,
)
from mpc.fixed_point import Floats
from mpc.node import Node, connect, open_node
from mpc.ops.arithmetic import mul
from mpc.scope import protocol
from mpc.session import Session
from mpc.shares import AShare, Masked

__all__ = [
    "AShare",
    "AuthenticationFailed",
    "BeaverError",
    "ConfigError",
    "Disagreement",
    "Floats",
    "Masked",
    "Node",
    "PeerLost",
    "PeerMisbehaved",
    "PolicyDenied",
    "PrecisionError",
    "ProgramError",
    "Session",
    "connect",
    "mul",
    "open_node",
    "protocol",
]
