"""How much memory a dealer may use: what the machine has, or what the control groups around it allow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mpc.preprocessing.memory_limit import ASSUMED, half_of_all, limits

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
LEGACY, UNIFIED = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
ROOMS = {
    "a service": (
        "0::/system.slice/beaver.service",
        {"system.slice/memory.max": "max", "system.slice/beaver.service/memory.max": "300"},
        [300],
    ),
    "within one that has less": ("0::/a/b", {"a/memory.max": "200", "a/b/memory.max": "300"}, [300, 200]),
    "a container": ("0::/", {"memory.max": "500"}, [500]),
    "the machine itself": ("0::/", {}, []),
    "version 1": (
        "12:cpu,cpuacct:/x\n4:memory:/docker/1\n0::/",
        {"memory/docker/1/memory.limit_in_bytes": "700", "memory/memory.limit_in_bytes": "9223372036854771712", "x/memory.max": "1"},
        [700, 9223372036854771712],
    ),
    "a container of version 1": ("4:memory:/docker/1\n0::/", {"memory/memory.limit_in_bytes": "700"}, [700]),
    "a path with colons": ("0::/a:b", {"a:b/memory.max": "5"}, [5]),
}


@pytest.mark.parametrize("case", ROOMS)
def test_limits_are_those_of_the_groups_and_of_what_they_are_in(tmp_path, case):
    groups, files, found = ROOMS[case]
    (tmp_path / "cgroup").write_text(groups + "\n")
    for name, text in files.items():
        file = tmp_path / "fs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    assert list(limits(tmp_path / "cgroup", tmp_path / "fs")) == found
    assert half_of_all(tmp_path / "cgroup", tmp_path / "fs") == min([MACHINE, *found]) // 2


def test_where_there_are_no_groups_it_is_the_machine(tmp_path):
    assert list(limits(tmp_path / "none", tmp_path)) == []
    assert half_of_all(tmp_path / "none", tmp_path) == MACHINE // 2
    assert 0 < half_of_all() <= MACHINE // 2


def test_where_python_cannot_tell_what_the_machine_has_an_amount_is_assumed(tmp_path, monkeypatch):
    monkeypatch.delattr("os.sysconf")
    assert half_of_all(tmp_path / "none", tmp_path) == ASSUMED // 2


def test_a_process_in_a_group_of_its_own_takes_half_of_that():
    name = f"beaver-{os.getpid()}"
    group, file = (LEGACY / name, "memory.limit_in_bytes") if LEGACY.is_dir() else (UNIFIED / name, "memory.max")
    try:
        group.mkdir()
        (group / file).write_text(str(1 << 28))
    except OSError as fault:
        if group.is_dir():
            group.rmdir()
        pytest.skip(f"no control group can be made here: {fault}")
    try:
        enter = f"import os, pathlib; pathlib.Path({str(group / 'cgroup.procs')!r}).write_text(str(os.getpid()))"
        said = subprocess.run(
            [sys.executable, "-c", f"{enter}\nfrom mpc.preprocessing.memory_limit import half_of_all\nprint(half_of_all())"],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert int(said.stdout) == 1 << 27
    finally:
        group.rmdir()
