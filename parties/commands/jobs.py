"""`beaver jobs`: what this organisation's node knows of jobs, and what someone here decides about them."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpc.errors import ConfigError
from parties import ask, tables
from parties.config import load_node_config
from parties.faults import as_object
from parties.jobs.job import unpack_task
from parties.jobs.progress import Foresight, described
from parties.jobs.states import Approved
from parties.programs import program
from parties.programs.forecast import Forecast
from parties.run import run

if TYPE_CHECKING:
    from parties.jobs.job import Task

PATIENCE = 1.0
"""Seconds for the totals of a job that is shown before it is over."""
ROWS = 1000
"""Rows of each party for which the cost of a job is shown; nobody knows yet how many there are."""

app = typer.Typer(no_args_is_help=True, help="List the jobs of this organisation's node, show, cancel, approve or deny one.")

Config = Annotated[Path, typer.Option("--config", "-c", readable=False, help="This organisation's configuration file.")]
Id = Annotated[str, typer.Argument(help="The job, as `beaver jobs list` names it, or a beginning of that which no other has.")]
Whole = Annotated[str, typer.Argument(help="The job, as `beaver jobs list` names it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def _asked(config: Path, do: str, **more: str) -> dict[str, Any]:
    return run(ask.request(load_node_config(config), {"do": do, **more}))


@app.command("list")
def list_command(config: Config, as_json: AsJson = False) -> None:  # noqa: FBT002
    """List the jobs that the node knows: all that are not over, and the last that are."""
    with as_object(wanted=as_json):
        jobs = _asked(config, "jobs")["jobs"]
    if as_json:
        print(json.dumps(jobs))
        return
    headings = ("id", "protocol", "dataset", "parties", "asked by", "since (UTC)", "state", "progress")
    tables.listing(headings, map(_row, jobs), ids="id")


def _row(job: dict[str, Any]) -> tuple[str, ...]:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(job["since"]))
    state = job["state"] + (f": {job['error']}" if job["error"] else "")
    return (job["id"], job["protocol"], job["dataset"], ", ".join(job["parties"]), job["asker"], since, state, _progress(job))


def _progress(job: dict[str, Any]) -> str:
    """Return what a job has done so far, and its phase if it runs."""
    figures = job["progress"]
    if figures["rows"] is None:
        return ""
    cost = f"{figures['rounds']:,} rounds, {figures['bytes']:,} bytes"
    return cost if figures["phase"] == job["state"] else f"{figures['phase']}: {cost}"


@app.command()
def show(
    job: Id,
    config: Config,
    out: Annotated[Path | None, typer.Option(readable=False, help="Also write the result as JSON to this new file (0600).")] = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Show the result of a job; while it runs, how far it is; while it waits for approval, who asks for what, what it reveals and costs."""
    with as_object(wanted=as_json):
        answer = _asked(config, "show", id=job)
        if out is not None and "result" not in answer:
            msg = f"job {job!r} is not over ({answer['job']['state']}), so {out} is not written; ask again when it is done"
            raise ConfigError(msg)
    if "waiting" in answer:
        _show_waiting(answer, config, as_json=as_json)
    elif "running" in answer:
        _show_running(answer, load_node_config(config).name, as_json=as_json)
    else:
        with as_object(wanted=as_json), ask.reserved(out) as save:
            save(answer)
        ask.show(answer, as_json=as_json)


def _show_running(answer: dict[str, Any], me: str, *, as_json: bool) -> None:
    foresight = Foresight(unpack_task(answer["running"]))
    told = answer["job"]["progress"]
    foresight.begin(told)
    foresight.wait(PATIENCE)
    foresight.stop()
    progress = described(told, foresight.totals(told, me))
    if as_json:
        print(json.dumps({"id": answer["id"], "state": answer["job"]["state"], **progress}))
        return
    print(f"job {answer['id']} has no result yet")
    rows = [("phase", progress["phase"])]
    for name, planned in (("rounds", "planned_rounds"), ("bytes", "planned_bytes")):
        rows.append((name, f"{progress[name]:,}" + ("" if progress[planned] is None else f" of {progress[planned]:,}")))
    seconds = [name for name in ("seconds", "seconds_left") if progress[name] is not None]
    rows += [(name.replace("_", " "), f"{progress[name]:.1f}") for name in seconds]
    tables.pairs(rows)


def _show_waiting(answer: dict[str, Any], config: Path, *, as_json: bool) -> None:
    task, job, standing = unpack_task(answer["waiting"]), answer["id"], answer["job"]["state"] == Approved.name
    request = {
        **_request(task),
        "earlier jobs": answer["overlaps"],
        "asked by": answer["job"]["asker"],
        "digest": answer["digest"],
    }
    if as_json:
        whole = {"id": job, "state": answer["job"]["state"], **request, "cost": _cost(task)}
        print(json.dumps({name.replace(" ", "_"): value for name, value in whole.items()}, allow_nan=False))
        return
    print(f"job {job} " + ("is approved and has not started" if standing else "waits for approval here"))
    tables.pairs((name, _text(value)) for name, value in request.items())
    # Printed first: an asker could make the cost so hard to work out that nothing else would ever be shown.
    sys.stdout.flush()
    tables.pairs([("cost", _text(_cost(task) or f"is not known: to work it out takes longer than {PATIENCE:g} s"))])
    if standing:
        print(f"Take that back with `beaver jobs deny {job} -c {config}`.")
    else:
        print(f"Decide with `beaver jobs approve {job} {answer['digest']} -c {config}`, or `beaver jobs deny`.")


@app.command()
def cancel(job: Id, config: Config) -> None:
    """Cancel a running job, at every party."""
    print(f"job {_asked(config, 'cancel', id=job)['id']} is cancelled")


@app.command()
def approve(
    job: Whole,
    config: Config,
    digest: Annotated[
        str, typer.Argument(help="Its digest, as `beaver jobs show` prints it: then no job can be approved but the one that was shown.")
    ] = "",
) -> None:
    """Let a job run that waits for approval."""
    _asked(config, "approve", id=job, digest=digest)
    print(f"job {job} is approved: it runs once all other parties accept it")


@app.command()
def deny(job: Id, config: Config) -> None:
    """Deny a job that waits for approval, or that was approved and has not started; the others learn who denied it, and no more."""
    print(f"job {_asked(config, 'deny', id=job)['id']} is denied")


def _request(task: Task) -> dict[str, Any]:
    """Return all that is known of a job before it runs, except its cost."""
    wanted = program(task.protocol)
    return {
        "purpose": task.purpose or "none is stated",
        "protocol": f"{task.protocol}@{wanted.version}: {wanted.summary}",
        "parameters": dict(task.parameters),
        "dataset": task.dataset or "none: only the client gives rows",
        "columns": list(task.columns),
        "parties": list(task.parties),
        "receivers": list(task.receivers),
        "reveals": wanted.reveals,
        "rows wanted": task.pool,
        **({} if task.client is None else {"rows given by the client": task.given}),
    }


def _cost(task: Task) -> dict[str, Any] | None:
    """Return what a job costs, or None if that takes too long to work out."""
    foresight = Foresight(task)
    foresight.begin({"rows": ROWS, "pool": task.pool})
    foresight.wait(PATIENCE)
    foresight.stop()
    if foresight.plans is None:
        return None
    forecast = Forecast.of(foresight.plans, task.parties)
    return {
        "rows of each party": ROWS,
        "rounds": forecast.rounds,
        "bytes to each peer": forecast.payload,
        "bytes from the dealer": forecast.dealt,
    }


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_text(entry)}" for name, entry in value.items()) or "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
