"""The machine that the benchmark runs on, and what one of its processes has used."""

from __future__ import annotations

import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

if sys.platform != "win32":
    import resource

_STATUS = Path("/proc/self/status")
_CPU_INFO = Path("/proc/cpuinfo")
_SCHEDULED = 2
"""CPUCLOCK_SCHED: the CPU time of all threads of a process."""


def machine() -> dict[str, Any]:
    """Return processor, cores, memory and versions."""
    names = [line.partition(":")[2].strip() for line in _lines(_CPU_INFO) if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "beaver": version("beaver-mpc"),
    }


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []


def cpu_seconds(process: int) -> float:
    """Return the CPU time of all threads of another process of this machine; 0 if the system has no such clock."""
    if sys.platform != "linux":
        return 0.0
    # The clock id that clock_getcpuclockid makes from a process id.
    return time.clock_gettime((~process << 3) | _SCHEDULED)


class Memory:
    """This process's memory in bytes: `start` when this object was made, and `peak` since the last `reset`."""

    def __init__(self) -> None:
        self.start = self._status("VmRSS") or self.peak

    def reset(self) -> None:
        """Forget the peak so far; only Linux can."""
        try:
            Path("/proc/self/clear_refs").write_text("5", "ascii")
        except OSError:
            return

    @property
    def peak(self) -> int:
        """The largest memory so far."""
        return self._status("VmHWM") or self._largest()

    @staticmethod
    def _status(name: str) -> int:
        return next((1024 * int(line.split()[1]) for line in _lines(_STATUS) if line.startswith(f"{name}:")), 0)

    @staticmethod
    def _largest() -> int:
        # In bytes on macOS, in kilobytes elsewhere.  On Linux the status file is better: it does not count what the parent had.
        return 0 if sys.platform == "win32" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
