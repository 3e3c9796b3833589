"""Beaver's engine: parties that compute on additive secret shares in Z_2^64 over mutually authenticated channels."""

from mpc.blocking import connect_sync
from mpc.errors import (
    AuthenticationFailed,
    BeaverError,
    ConfigError,
    Disagreement,
    JobCancelled,
    PeerLost,
    PeerMisbehaved,
    PolicyDenied,
    PrecisionError,
    ProgramError,
    Refused,
)
from mpc.estimate import estimate
from mpc.fixed_point import Floats, beyond, rounded_bound
from mpc.ledger import Cost
from mpc.naming.correlations import MAX_OPERANDS
from mpc.naming.scope import check_session, protocol
from mpc.node import Node, connect, open_node
from mpc.ops.arithmetic import dot, mask_cost, matmul, mul, square
from mpc.ops.boolean import and_, not_, or_, xor
from mpc.ops.conversion import b2a, select
from mpc.ops.declare import OPS, Like
from mpc.ops.sign import eqz, ltz
from mpc.ops.truncation import matmul_trunc, mul_trunc, scale, trunc
from mpc.preprocessing.plan import Plan
from mpc.session import Session
from mpc.tabular import as_numbers, column_names, column_of
from mpc.values.bshare import BShare
from mpc.values.joining import concatenate, stack
from mpc.values.masked import Masked
from mpc.values.shares import AShare, Encoded

__all__ = [
    "MAX_OPERANDS",
    "OPS",
    "AShare",
    "AuthenticationFailed",
    "BShare",
    "BeaverError",
    "ConfigError",
    "Cost",
    "Disagreement",
    "Encoded",
    "Floats",
    "JobCancelled",
    "Like",
    "Masked",
    "Node",
    "PeerLost",
    "PeerMisbehaved",
    "Plan",
    "PolicyDenied",
    "PrecisionError",
    "ProgramError",
    "Refused",
    "Session",
    "and_",
    "as_numbers",
    "b2a",
    "beyond",
    "check_session",
    "column_names",
    "column_of",
    "concatenate",
    "connect",
    "connect_sync",
    "dot",
    "eqz",
    "estimate",
    "ltz",
    "mask_cost",
    "matmul",
    "matmul_trunc",
    "mul",
    "mul_trunc",
    "not_",
    "open_node",
    "or_",
    "protocol",
    "rounded_bound",
    "scale",
    "select",
    "square",
    "stack",
    "trunc",
    "xor",
]
