"""One process of the demo: `python -m parties.demo.member FD CONFIG [DATA]`, a hospital with a folder of data, or else the dealer.

FD is a bound socket that the parent hands down, or - over MQTT, where nobody needs one.  The end of standard input means that the parent is gone.
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
    """Take part in the study with the own data, and print what came out."""
    own = Holding(load_csv(data / "patients.csv"), load_csv(data / "columns.csv"))
    async with mpc.connect(config, job=JOB, program="parties.demo.study/1", listener=listener) as s:
        results = await study(s, own)
    print(json.dumps(results), flush=True)


async def dealer(config: Path, listener: socket.socket | None) -> None:
    """Serve correlations until cancelled."""
    async with mpc.open_node(config, listener=listener):
        await asyncio.Event().wait()


async def member(config: Path, listener: socket.socket | None, data: Path | None) -> None:
    """Play the part; stop when the parent goes away."""
    await attended(hospital(config, listener, data) if data else dealer(config, listener))


def main(argv: list[str]) -> int:
    """Exit status 0, 1 after a fault (told on standard error), 130 when stopped."""
    fd, config, *data = argv
    listener = None if fd == "-" else socket.socket(fileno=int(fd))
    return exit_of(member(Path(config), listener, Path(data[0]) if data else None))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
