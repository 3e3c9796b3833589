"""`beaver audit`: read, check and copy the audit log, beside a running node or without one.  The secret key is not needed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mpc.durable import NewFile
from mpc.errors import ConfigError
from mpc.membership.identity import decode_key
from mpc.membership.lock import IdentityLock
from mpc.membership.roster import Roster
from parties.ask import request
from parties.auditing.audit import changed, log_of
from parties.auditing.differences import HEADINGS, as_object, cells, pairs
from parties.auditing.entries import ENDED, NOT_WRITTEN, RENEWED, STARTED, Chain, opened
from parties.auditing.head import known, path_of
from parties.auditing.verification import Verification
from parties.auditing.volumes import lines_of, volume
from parties.config import load_node_config
from parties.jobs.job import DIGEST
from parties.logs import printable
from parties.run import run
from parties.tables import listing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parties.auditing.entries import Entry
    from parties.config import NodeConfig

app = typer.Typer(no_args_is_help=True, help="Show, search, verify, rotate or export the audit log of this organisation's node.")

Config = Annotated[Path, typer.Option("--config", "-c", readable=False, help="This organisation's configuration file.")]
Log = Annotated[Path | None, typer.Option(readable=False, help="A copy of the log, instead of the one that the configuration names.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one entry to a line.")]


@app.command()
def show(
    config: Config,
    log: Log = None,
    job: Annotated[str | None, typer.Option(help="Only the entries of this job.")] = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Show the entries; `beaver audit verify` checks them."""
    path = _path(load_node_config(config), log)
    found = _entries(path, job)
    if as_json:
        for number, entry in found:
            print(json.dumps(entry or {"number": number, "kind": "unreadable"}))
    else:
        # Names in denied proposals are whatever a peer wrote.
        rows = (tuple(map(printable, _row(number, entry))) for number, entry in found)
        listing(("entry", "time (UTC)", "what", "job", "asked by", "details"), rows, ids="job")


def _entries(path: Path, job: str | None) -> Iterator[tuple[int, Entry | None]]:
    """Yield each line of the log, or of one job, with its number, and None if it is no entry.  Raises ConfigError if the job has none."""
    found = False
    for number, line in enumerate(lines_of(path), 1):
        try:
            entry = opened(line.data) if line.whole else None
        except ValueError:
            entry = None
        if job is None or (entry is not None and entry.get("job") == job):
            found = True
            yield number, entry
    if job is not None and not found:
        msg = f"{path}: has no entry of a job {job!r}; `beaver audit show` lists all"
        raise ConfigError(msg)


def _row(number: int, entry: Entry | None) -> tuple[str, ...]:
    try:
        if entry is not None:
            return _cells(entry)
    except NOT_WRITTEN:
        # No node writes such an entry: it is as unreadable as a line that is no entry.
        pass
    return (str(number), "", "unreadable", "", "", "run `beaver audit verify`")


def _cells(entry: Entry) -> tuple[str, ...]:
    task = entry.get("task") or {}
    about = f"{task['protocol']} on {task['dataset'] or 'rows of the client alone'}: {', '.join(task['columns'])}" if task else ""
    file = f"file {entry['file']}" if "file" in entry else ""
    if entry["kind"] == RENEWED:
        about = f"version {entry['roster_version']} of the roster, policy {entry['policy']['digest'][:16]}"
    text = "; ".join(part for part in (about, file, *_decided(entry), *_left(entry), str(entry.get("reason", ""))) if part)
    what = str(entry.get("outcome", entry["kind"]))
    time = str(entry.get("time", "")).replace("T", " ").removesuffix("+00:00")
    return (str(entry["number"]), time, what, str(entry.get("job", "")), str(entry.get("asker", "")), text)


def _decided(entry: Entry) -> Iterator[str]:
    """Yield, for the start of a job, who was to get its result, what for, and who approved it."""
    if entry["kind"] == STARTED:
        task, approval = entry["task"], entry.get("approval")
        yield f"to {', '.join(task['to'] or task['parties'])}"
        yield f"purpose {task['purpose']!r}" if task["purpose"] else ""
        yield f"approved by the user {approval['user']}" if approval else ""


def _left(entry: Entry) -> Iterator[str]:
    """Yield, for the end of a job, what it read here, and to whom something was revealed."""
    if entry["kind"] == ENDED:
        rows, names = entry.get("rows"), sorted({name for each in entry.get("released") or () for name in each["to"]})
        yield f"{rows:,} rows of this party" if rows is not None else ""
        yield f"revealed to {', '.join(names)}" if names else "numbers announced" if entry.get("announced") else ""


@app.command()
def differences(
    config: Config,
    log: Log = None,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Pairs that differ by fewer rows than this; the policy's min_rows if left out.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one pair to a line.")] = False,  # noqa: FBT002
) -> None:
    """List pairs of jobs whose rows of this organisation differ by few: whoever got both results can subtract, and learns about these few.

    Each job is paired with every earlier one that used the same dataset and some of the same columns, and of which the same others learned.
    Of earlier jobs with equal numbers of rows, only the last is paired.  Jobs of which nothing was revealed are left out.
    """
    settings = load_node_config(config)
    path = _path(settings, log)
    least = settings.rules.min_rows if rows is None else rows
    found = pairs(path, least)
    if as_json:
        for pair in found:
            print(json.dumps(as_object(pair)))
        return
    listed = list(found)
    if listed:
        listing(HEADINGS, map(cells, listed), ids="jobs")
    print(f"{path}: {len(listed)} pair(s) of jobs whose rows differ by fewer than {least}, and not by none")


@app.command()
def export(
    config: Config,
    out: Annotated[Path, typer.Option(readable=False, help="The new file to write (0600).")],
) -> None:
    """Copy all whole entries as they are into one file, for an auditor: with the roster, the copy can be verified elsewhere."""
    path = load_node_config(config).audit_file
    try:
        with NewFile(out) as copy:
            count, last = _copied(path, copy)
            copy.finish()
    except OSError as fault:
        msg = f"{out}: cannot be written ({fault.strerror}); choose a new file with --out"
        raise ConfigError(msg) from None
    print(f"{count} entries are in {out}. Tell the auditor the last, {last}: `beaver audit verify --head` misses what is cut off the copy")


def _copied(path: Path, copy: NewFile) -> tuple[int, str]:
    """Return how many entries were copied, and the digest of the last.

    Raises ConfigError if one is missing, even one that only the head knows of.
    """
    # Read before the log: a running node may add to the log meanwhile.
    head, chain = known(path), Chain()
    missing = set() if head is None else {head.digest} - {chain.head}
    for line in lines_of(path):
        if line.whole:
            try:
                chain.take(line.data)
            except ValueError as fault:
                raise changed(line, str(fault)) from None
            copy.write(line.data + b"\n")
            missing.discard(chain.head)
    if missing:
        msg = (
            f"{path}: lacks an entry that {path_of(path)} knows of, so nothing was copied. `beaver audit "
            "verify` tells more; keep both files"
        )
        raise ConfigError(msg)
    return chain.number, chain.head


@app.command()
def rotate(config: Config) -> None:
    """Close the file of the log and begin a new one, beside a running node or without one.

    `verify` and all other commands read the closed files, too.
    """
    settings = load_node_config(config)
    # A dealer and a client have no log, and this makes none for them.
    next(lines_of(settings.audit_file), None)
    file = volume(settings.audit_file, run(_rotated(settings)))
    print(f"{file} is closed; keep it where it is. The log goes on in {settings.audit_file}")


async def _rotated(settings: NodeConfig) -> int:
    """Return the number of the closed file.

    Whoever holds the identity writes the log: the running node, or else this command for a moment.
    """
    identity = IdentityLock(settings.key_path)
    try:
        identity.acquire()
    except ConfigError:
        return int((await request(settings, {"do": "rotate"}))["closed"])
    try:
        async with log_of(settings, Roster.load(settings.roster_path)) as log:
            return await asyncio.to_thread(log.rotate)
    finally:
        identity.release()


@app.command()
def verify(
    config: Config,
    log: Log = None,
    key: Annotated[
        list[str] | None, typer.Option(help="An earlier public key of this member that the roster does not list any more.")
    ] = None,
    head: Annotated[str | None, typer.Option(help="Digest of an entry that must be there, as an earlier `verify` printed it.")] = None,
    result: Annotated[
        Path | None, typer.Option(readable=False, help="A result file of `beaver run --out`: is it what the log says?")
    ] = None,
) -> None:
    """Check every entry: form, order, chain, this member's signature, and every party's signature of each job."""
    settings = load_node_config(config)
    path = _path(settings, log)
    if head is not None and not DIGEST.fullmatch(head):
        msg = f"--head {head!r} is no digest of an entry: give all 64 digits that an earlier `beaver audit verify` printed"
        raise ConfigError(msg)
    # Read before the log: a running node may add to the log meanwhile.
    last = known(path)
    wanted = ([(head, "--head")] if head is not None else []) + ([(last.digest, str(path_of(path)))] if last is not None else [])
    check = Verification(settings, [decode_key(text) for text in key or ()], [text for text, _ in wanted])
    found = [f"{line.place}: {text}" for line, text in check.problems(path)]
    if other := check.stranger():
        msg = (
            f"{path}: is the audit log of {other}, who signed every entry, and {config} is of {settings.name}: give a configuration of "
            f"{other}. To verify, `name`, `roster` and `key` are enough, and the key need not be there"
        )
        raise ConfigError(msg)
    found += [f"{path}, after entry {check.chain.number}: {text} ({source})" for each, source in wanted if (text := check.missing(each))]
    if found:
        print("\n".join(found))
        msg = (
            f"{path}: {len(found)} fault(s) in the audit log, listed above: it is not as the node wrote it. Keep "
            "it for whoever looks into that"
        )
        raise ConfigError(msg)
    if check.chain.number:
        files = f" in {len(check.files)} files" if len(check.files) > 1 else ""
        print(f"{path}: {check.chain.number} entries{files}, all in order and signed; the last is {check.chain.head}")
    else:
        print(_empty(path, path_of(path) if last is not None else "--head" if head is not None else None))
    if check.endless:
        print(f"What these jobs revealed is not known, since the node stopped in them or they run now: {', '.join(check.endless)}")
    if result is not None:
        print(f"{result}: the result of job {check.job_of(result)}, as it was handed over")
    if last is None:
        print(
            f"Nothing says whether more followed: {path_of(path)} is not there. Compare the last digest with one kept elsewhere (--head)."
        )


def _empty(path: Path, source: Path | str | None) -> str:
    """Return what is known of a log without entries if `source` says that it has none.  Raises ConfigError if nothing says so."""
    if source is None:
        msg = (
            f"{path}: has no entries, and nothing says whether it had any: {path_of(path)} is not there, or is empty. If this member "
            "took part in a job since the log began, the log was emptied; the other parties' logs have the start of each such job. "
            "If it never did, start the node, which writes that file, and verify again; of a copy, give the digest that `beaver "
            "audit export` printed (--head)"
        )
        raise ConfigError(msg)
    return (
        f"{path}: has no entries, so nothing was verified. {source} says that none was written yet, which is right only if this member "
        "took part in no job since the log began: the other parties' logs have the start of each"
    )


def _path(config: NodeConfig, log: Path | None) -> Path:
    return config.audit_file if log is None else log
