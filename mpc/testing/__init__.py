"""Run programs with real parties in one process.  Never imported by production code."""

from mpc.testing.oracle import ExceededBoundError, MaskOracle, ReusedRandomnessError
from mpc.testing.simulate import simulate, simulate_async

__all__ = ["ExceededBoundError", "MaskOracle", "ReusedRandomnessError", "simulate", "simulate_async"]
