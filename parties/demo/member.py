"""One process of the demo: `python -m parties.demo.member FD CONFIG [DATA]`, a hospital with a folder of data, or else the dealer.

FD is a bound socket from the parent, or - over MQTT, where no process needs one.  When standard input ends, the parent is gone.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path

import mpc
from parties.child import attended, exit_of
from parties.data import load_csv
from parties.demo.study import Holding, study

JOB = "diabetes-study"


async def hospital(config: Path, listener: socket.socket | None, data: Path) -> None:
    """Take part in the study with this hospital's data, and print the results."""
    own = Holding(load_csv(data / "patients.csv"), load_csv(data / "columns.csv"))
    async with mpc.connect(config, job=JOB, program="parties.demo.study/1", listener=listener) as s:
        results = await study(s, own)
    print(json.dumps(results), flush=True)


async def dealer(config: Path, listener: socket.socket | None) -> None:
    """Serve correlations until cancelled."""
    async with mpc.open_node(config, listener=listener):
        await asyncio.Event().wait()


async def member(config: Path, listener: socket.socket | None, data: Path | None) -> None:
    """Run this process's part; stop when the parent is gone."""
    await attended(hospital(config, listener, data) if data else dealer(config, listener))


def main(argv: list[str]) -> int:
    """Return exit status 0, 1 after a fault (printed on standard error), or 130 when stopped."""
    fd, config, *data = argv
    listener = None if fd == "-" else socket.socket(fileno=int(fd))
    return exit_of(member(Path(config), listener, Path(data[0]) if data else None))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
