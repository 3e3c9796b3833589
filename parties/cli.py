"""The command `beaver`."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import mpc
from mpc.framing.handshake import WIRE_VERSION
from mpc.membership.members import Transport
from parties import ask, nodes
from parties.commands import audit, bench, check, client, data, estimate, jobs, roster, setup
from parties.config import load_node_config
from parties.demo.organisations import demo
from parties.faults import LOCAL, as_object, exit_status
from parties.jobs.job import Task, chosen_in, names_in
from parties.logs import LogFormat, configure
from parties.programs import PROGRAMS, program, table_of_programs
from parties.run import commanded

if TYPE_CHECKING:
    from parties.config import NodeConfig

Config = Annotated[Path, typer.Option("--config", "-c", readable=False, help="This organisation's configuration file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")]
Form = Annotated[LogFormat, typer.Option("--log-format", help="How each event is written to standard error.")]
Dataset = Annotated[str, typer.Option(help="The dataset's name in every party's configuration.")]
Columns = Annotated[str, typer.Option(help="Its columns, with commas between.")]
DemoTransport = Annotated[Transport, typer.Option(help="How they speak: directly, or through a broker that the demo starts.")]
Parameters = Annotated[list[str] | None, typer.Option("--set", help="A parameter of the protocol, NAME=VALUE; see `beaver protocols`.")]

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Compute on data that may not be pooled."
)
app.add_typer(data.app, name="data")


def _version(asked: bool) -> None:  # noqa: FBT001  typer's callback
    if asked:
        from importlib.metadata import version  # noqa: PLC0415  a tenth of the start of every command

        print(f"beaver {version('beaver-mpc')}")
        print(f"wire {WIRE_VERSION}")
        print("protocols " + " ".join(f"{entry.name}@{entry.version}" for entry in PROGRAMS.values()))
        raise typer.Exit


@app.callback()
def beaver(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the versions and exit.")] = False,  # noqa: FBT002
) -> None:
    """Compute on data that may not be pooled."""


app.command()(setup.init)
app.command()(setup.keygen)
app.command()(check.check)
app.command()(check.alive)
app.command()(bench.bench)
app.command()(estimate.estimate)
app.command()(client.client)
app.add_typer(roster.app, name="roster")
app.add_typer(jobs.app, name="jobs")
app.add_typer(audit.app, name="audit")


@app.command("demo")
def demo_command(
    transport: DemoTransport = "tcp",
) -> None:
    """Three hospitals and a dealer, as processes of this machine, compute on real data."""
    if not commanded(demo(transport)):
        print("a result differs from the pooled plaintext by more than its tolerance", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def party(config: Config, verbose: Verbose = False, log_format: Form = LogFormat.TEXT) -> None:  # noqa: FBT002
    """Run this organisation's node until stopped: it takes jobs that its configuration allows."""
    configure(int(verbose), form=log_format)
    commanded(nodes.party(config))


@app.command()
def dealer(config: Config, verbose: Verbose = False, log_format: Form = LogFormat.TEXT) -> None:  # noqa: FBT002
    """Serve correlated randomness to the parties of the roster until stopped."""
    configure(int(verbose), form=log_format)
    commanded(nodes.dealer(config))


@app.command("run")
def run_command(
    protocol: Annotated[str, typer.Argument(help="What to compute; `beaver protocols` lists what there is.")],
    dataset: Dataset,
    columns: Columns,
    config: Config,
    parties: Annotated[str | None, typer.Option(help="Who takes part, with commas between; all parties of the roster by default.")] = None,
    to: Annotated[str | None, typer.Option(help="Who gets the result, with commas between; all parties by default.")] = None,
    parameters: Parameters = None,
    purpose: Annotated[str, typer.Option(help="What the result is for; every party's policy decides whether that is allowed.")] = "",
    wait: Annotated[float, typer.Option(min=0.0, help="Seconds to wait for parties that are missing, busy, or must approve.")] = 60.0,
    out: Annotated[Path | None, typer.Option(readable=False, help="Also write the result as JSON to this new file (0600).")] = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Propose a job through this organisation's own node, and show the result.

    Ctrl-C cancels the job at every party; a second one quits at once.
    """
    with contextlib.ExitStack() as stack:
        with as_object(wanted=as_json):
            settings = load_node_config(config)
            task = replace(_task(settings, protocol, dataset, columns, parties, to, parameters), purpose=purpose)
            save = stack.enter_context(ask.reserved(out))
            answer = commanded(ask.run(settings, task, wait))
        try:
            save(answer)
        finally:
            ask.show(answer, as_json=as_json)


def _task(
    settings: NodeConfig, protocol: str, dataset: str, columns: str, parties: str | None, to: str | None, parameters: list[str] | None
) -> Task:
    roster = settings.load_roster()
    everyone = tuple(sorted(chosen_in("--parties", parties) or (member.name for member in roster.parties)))
    receivers = chosen_in("--to", to)
    task = Task(
        protocol, dataset, settings.expand(dataset, names_in(columns)), everyone, receivers, program(protocol).parse(parameters or [])
    )
    program(protocol).check(task, len(everyone))
    return task


@app.command("protocols")
def protocols_command() -> None:
    """List what can be computed: what each protocol reveals, its parameters and its cost."""
    table_of_programs()


def main() -> None:
    """Run the command line; faults become one clear line and an exit status."""
    status = None
    try:
        app()
    except SystemExit as end:
        # Typer ends every command like this.  If standard output is a closed pipe, Typer or Rich raises only this, too.
        pipe = end.__context__
        status = _unwritten(pipe, None) if isinstance(pipe, BrokenPipeError) else end.code
    except mpc.BeaverError as fault:
        print(f"{type(fault).__name__}: {fault}", file=sys.stderr)
        status = exit_status(fault)
    except OSError as fault:
        status = _unwritten(fault, None)
    try:
        sys.stdout.flush()
    except OSError as fault:
        status = _unwritten(fault, status)
    sys.exit(status)


def _unwritten(fault: OSError, status: str | int | None) -> str | int:
    """Report that standard output is a full disk or a closed pipe.

    Return the exit status, which is that of an earlier fault if there was one.
    """
    # The interpreter must not try to flush it again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    where = f" to {fault.filename}" if fault.filename else ""
    print(f"OutputError: cannot write the output{where}: {fault.strerror}", file=sys.stderr)
    return status or LOCAL
