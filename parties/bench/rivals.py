"""The times of other frameworks for the same workloads, measured before and written down here.

Measured on 2026-11-23 on two Xeon cores (AVX-512, AMX) with 24 GiB, over loopback without delay.  Every party is its own process,
preprocessing is included, and each time is the median of three or more.  All have a dealer and allow any n-1 parties to collude, as here:
MP-SPDZ v0.4.2-16 from source (dealer-ring over TLS), and in plaintext CrypTen 0.4.1 with a real dealer process and SPU 0.9.5 SEMI2K.
"""

from __future__ import annotations

from typing import NamedTuple

MP_SPDZ, CRYPTEN, SPU = "MP-SPDZ", "CrypTen", "SPU"
SEALED = {MP_SPDZ}


class Rival(NamedTuple):
    """A framework and its seconds."""

    name: str
    seconds: float

    @property
    def sealed(self) -> bool:
        """Whether the framework's links were sealed."""
        return self.name in SEALED


RECORDED: dict[tuple[str, int, int], dict[str, float]] = {
    ("W1", 1_000_000, 2): {MP_SPDZ: 0.151, CRYPTEN: 0.072, SPU: 0.156},
    ("W1", 1_000_000, 3): {MP_SPDZ: 0.204, CRYPTEN: 0.150, SPU: 0.351},
    ("W2", 1_000_000, 2): {CRYPTEN: 0.241, SPU: 0.642},
    ("W2", 1_000_000, 3): {CRYPTEN: 1.01, SPU: 1.93},
    ("W3", 1_000_000, 2): {MP_SPDZ: 0.425, CRYPTEN: 0.101, SPU: 0.240},
    ("W3", 1_000_000, 3): {MP_SPDZ: 0.640, CRYPTEN: 0.306, SPU: 0.493},
    ("W4", 1_000_000, 2): {MP_SPDZ: 0.667, CRYPTEN: 1.41, SPU: 1.12},
    ("W4", 1_000_000, 3): {MP_SPDZ: 1.02, CRYPTEN: 3.94, SPU: 6.90},
    ("W4", 100_000, 2): {MP_SPDZ: 0.066, CRYPTEN: 0.164, SPU: 0.106},
    ("W4", 100_000, 3): {MP_SPDZ: 0.118, CRYPTEN: 0.473, SPU: 0.752},
    ("W5", 1024, 2): {MP_SPDZ: 28.2, CRYPTEN: 0.568, SPU: 1.21},
    ("W5", 1024, 3): {MP_SPDZ: 37.0, CRYPTEN: 1.02, SPU: 1.84},
    ("W5-vector", 1000, 2): {MP_SPDZ: 0.0126, CRYPTEN: 0.013, SPU: 0.015},
    ("W5-vector", 1000, 3): {MP_SPDZ: 0.0215, CRYPTEN: 0.027, SPU: 0.024},
    ("W6", 1000, 2): {MP_SPDZ: 0.055},
    ("W6", 1000, 3): {MP_SPDZ: 0.126},
    ("W6-fixed", 1000, 2): {MP_SPDZ: 0.148, CRYPTEN: 3.99, SPU: 0.767},
    ("W6-fixed", 1000, 3): {CRYPTEN: 9.45, SPU: 1.53},
    ("W7", 10_000, 2): {MP_SPDZ: 0.249, CRYPTEN: 0.989, SPU: 0.392},
    ("W7", 10_000, 3): {MP_SPDZ: 0.423, CRYPTEN: 2.52, SPU: 0.745},
    ("W9", 10_000, 2): {MP_SPDZ: 0.031, CRYPTEN: 0.537, SPU: 0.068},
    ("W9", 10_000, 3): {MP_SPDZ: 0.041, CRYPTEN: 1.55, SPU: 0.283},
}
"""Seconds by workload, size and number of parties (without the dealer)."""


def best(key: str, size: int, parties: int) -> Rival | None:
    """Return the fastest framework, or None if none was measured."""
    measured = RECORDED.get((key, size, parties))
    return min((Rival(*entry) for entry in measured.items()), key=lambda rival: rival.seconds) if measured else None
