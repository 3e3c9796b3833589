"""`beaver client`: give rows to a computation without being a party of it, or get its result."""

from __future__ import annotations

import contextlib
import sys
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mpc.errors import ConfigError
from parties import ask
from parties.client import ME, Rows, declared
from parties.client import ask as ask_parties
from parties.config import NodeConfig, load_node_config
from parties.faults import as_object
from parties.jobs.job import chosen_in, names_in
from parties.nodes import check_role
from parties.programs import program
from parties.reading import Reading, in_time
from parties.run import commanded
from parties.schema import ColumnSettings, DatasetSettings

UNASKED = "stopped before the rows were read, so nobody was asked"
"""What an interrupt prints while this client reads."""

PRINTED = "no node keeps the result: take it from standard output"
"""What to do if the result cannot be written."""


def client(
    protocol: Annotated[str, typer.Argument(help="What to compute; `beaver protocols` lists what there is.")],
    columns: Annotated[str, typer.Option(help="The columns, with commas between.")],
    config: Annotated[Path, typer.Option("--config", "-c", readable=False, help="This client's configuration file.")],
    data: Annotated[
        str | None, typer.Option(help="The rows to give: a dataset of the configuration, or a file. They go to the parties as shares.")
    ] = None,
    dataset: Annotated[str, typer.Option(help="A dataset of the parties, whose own rows then count, too.")] = "",
    to: Annotated[str, typer.Option(help="Who gets the result: me, parties, both, or names with commas between.")] = ME,
    parties: Annotated[str | None, typer.Option(help="Who computes, with commas between; all parties of the roster by default.")] = None,
    parameters: Annotated[list[str] | None, typer.Option("--set", help="A parameter of the protocol, NAME=VALUE.")] = None,
    purpose: Annotated[str, typer.Option(help="What the result is for; every party's policy decides whether that is allowed.")] = "",
    wait: Annotated[float, typer.Option(min=0.0, help="Seconds to wait for parties that are missing, busy, or must approve.")] = 60.0,
    out: Annotated[Path | None, typer.Option(readable=False, help="Also write the result as JSON to this new file (0600).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,  # noqa: FBT002
) -> None:
    """Give rows to the parties as shares, get a result that they compute, or both, without running a node."""
    with contextlib.ExitStack() as stack:
        with as_object(wanted=as_json):
            settings, names = load_node_config(config), names_in(columns)
            if data is None and not dataset:
                msg = "nothing to compute on: name rows of this client with --data, a dataset of the parties with --dataset, or both"
                raise ConfigError(msg)
            save = stack.enter_context(ask.reserved(out, PRINTED))
            start = time.monotonic()
            work = ask_parties(
                config,
                protocol,
                dataset=dataset,
                columns=settings.expand(dataset, names),
                to=to if to.strip() and "," not in to and to not in settings.load_roster() else chosen_in("--to", to),
                parameters=program(protocol).parse(parameters or []),
                parties=chosen_in("--parties", parties),
                purpose=purpose,
                wait=wait,
                tell=lambda text: print(f"{time.monotonic() - start:7.2f} s  {text}", file=sys.stderr, flush=True),
                # Last: this may take long, and all other errors are then known.
                rows=None if data is None else _rows(settings, data, names, config),
            )
            answer = commanded(work)
        try:
            save(answer)
        finally:
            # No node keeps the result.
            ask.show(answer, as_json=as_json)


def _rows(config: NodeConfig, data: str, columns: tuple[str, ...], file: Path) -> Rows:
    """Return the rows of a declared dataset, or of a file whose columns are all numbers.  `file` is the configuration's, for errors."""
    if data not in config.datasets:
        if not _is_there(Path(data)):
            known = ", ".join(config.datasets) or "none"
            msg = f"--data {data}: is no file, and no dataset of this configuration ({known})"
            raise ConfigError(msg)
        there = DatasetSettings(path=str(Path(data).absolute()), columns={name: ColumnSettings() for name in columns})
        config = config.model_copy(update={"datasets": {data: there}})
    # Checked before all is read, which may take long.
    check_role(config.load_roster(), config.name, file, "client")
    return commanded(_read(config, data, columns), UNASKED)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # The path is in a folder that is closed to this user: the error comes when it is read.
        return True


async def _read(config: NodeConfig, dataset: str, columns: tuple[str, ...]) -> Rows:
    return await in_time(Reading(partial(declared, config, dataset, columns)), config, dataset)


__all__ = ["client"]
