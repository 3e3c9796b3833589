"""How much memory this process may use: the machine's, or what the process's control groups allow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ASSUMED = 1 << 33
"""Bytes of memory that a machine is assumed to have where Python cannot tell, as on Windows."""
GROUPS, ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def half_of_all(groups: Path = GROUPS, root: Path = ROOT) -> int:
    """Half of the machine's memory in bytes, or of the limit of this container or service, if that is less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else ASSUMED
    return min([machine, *limits(groups, root)]) // 2


def limits(groups: Path, root: Path) -> Iterator[int]:
    """The memory limits in bytes of this process's control groups on Linux, of either version; none without such groups."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            base, file = root / "memory", "memory.limit_in_bytes"
        elif number == "0":
            base, file = root, "memory.max"
        else:
            continue
        # A group has no more than its parent groups. In a container, its own path may be the host's, with its group at the root.
        group = base / path.strip("/")
        for each in (group, *group.parents):
            text = _text(each / file) if each.is_relative_to(base) else ""
            if text.isdigit():
                yield int(text)


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
