"""The command `beaver`."""

from __future__ import annotations

import asyncio
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

import mpc
from mpc.identity import Identity, encode_key
from parties.demo.organisations import demo
from parties.run import INTERRUPTED, run

if TYPE_CHECKING:
    from collections.abc import Coroutine

R = TypeVar("R")

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Compute on data that may not be pooled."
)


def _run(work: Coroutine[Any, Any, R]) -> R:
    try:
        return run(work)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def _version(asked: bool) -> None:  # noqa: FBT001  typer's callback
    if asked:
        print(f"beaver {version('beaver-mpc')}")
        raise typer.Exit


@app.callback()
def beaver(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,  # noqa: FBT002
) -> None:
    """Compute on data that may not be pooled."""


@app.command("demo")
def demo_command() -> None:
    """Three hospitals and a dealer, as processes of this machine, compute on real data."""
    if not _run(demo()):
        print("a result differs from the pooled plaintext by more than its tolerance", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def keygen(
    name: Annotated[str, typer.Argument(help="This organisation's name in the roster.")],
    out: Annotated[Path | None, typer.Option(help="The key file to write; NAME.key by default.")] = None,
) -> None:
    """Make a key and print the public line for the roster."""
    identity = Identity.generate(name)
    path = out or Path(f"{name}.key")
    identity.save(path)
    print(f'[[member]]\nname = "{name}"\nkey = "{encode_key(identity.public)}"\nendpoint = "HOST:PORT"\nrole = "party"')
    print(f"The secret half is in {path}, readable by you only. Add the lines above to the roster that all members share.", file=sys.stderr)


@app.command()
def dealer(
    config: Annotated[Path, typer.Option("--config", "-c", help="The dealer's configuration file.")],
) -> None:
    """Serve correlated randomness to the parties of the roster until stopped."""
    _run(_deal(config))


async def _deal(config: Path) -> None:
    node = mpc.open_node(config)
    me = node.mesh.identity.name
    if node.mesh.roster[me].role != "dealer":
        msg = f'{config}: {me} is no dealer; its role in the roster must be "dealer"'
        raise mpc.ConfigError(msg)
    async with node:
        print(f"{me} serves {len(node.mesh.roster.parties)} parties; stop it with Ctrl-C", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Run the command line; faults become one clear line and exit status 1."""
    try:
        app()
        sys.stdout.flush()
    except mpc.BeaverError as fault:
        print(f"{type(fault).__name__}: {fault}", file=sys.stderr)
        sys.exit(1)
    except OSError as fault:
        # Standard output is a full disk or a closed pipe; the interpreter must not try to flush it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"cannot write the output: {fault.strerror}", file=sys.stderr)
        sys.exit(1)
