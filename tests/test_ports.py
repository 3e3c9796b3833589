"""Test processes that run at the same time, from one run of pytest or several, get different ports."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack

from tests.nodes import ROOT
from tests.ports import free_port

GIVEN = 900
"""So many that two processes which knew nothing of each other would surely get the same one."""
HOLDS = f"import sys; from tests.ports import free_port; print(*(free_port() for _ in range({GIVEN})), flush=True); sys.stdin.read()"


def test_no_port_is_given_to_two_processes():
    with ExitStack() as stack:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        others = [stack.enter_context(subprocess.Popen([sys.executable, "-c", HOLDS], cwd=ROOT, text=True, **pipes)) for _ in range(2)]
        given = [{int(port) for port in other.stdout.readline().split()} for other in others]
        given.append({free_port() for _ in range(GIVEN)})
        assert [len(ports) for ports in given] == [GIVEN] * 3
        assert len(set.union(*given)) == 3 * GIVEN
