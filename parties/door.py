"""The requests at a node's control socket: alive and check; a party's also run, jobs, show, cancel, approve, deny and rotate."""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mpc.errors import ConfigError
from parties.check import MAX_PATIENCE, PATIENCE, examine
from parties.jobs.job import unpack_task
from parties.jobs.states import Approved, Done, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpc.node import Node
    from parties.control import Handler, Say
    from parties.jobs.records import Record
    from parties.jobs.service import Service

MAX_WAIT = 1_000_000
PERIOD = 0.2
"""Seconds between two progress messages."""


def handler(node: Node, service: Service | None = None) -> Handler:
    """Return the handler of requests to `node`, with the `service` of a party; a dealer has none."""

    async def handle(request: dict[str, Any], say: Say) -> None:
        action = request.get("do")
        if action == "alive":
            say({"alive": node.mesh.identity.name})
        elif action == "check":
            await _check(node, service, request, say)
        elif service is None:
            msg = f"{node.mesh.identity.name} is the dealer: it takes no jobs. Ask the node of a party"
            raise ConfigError(msg)
        elif not isinstance(action, str) or action not in _ACTIONS:
            msg = f"this node does not know how to {action!r}: it is of another version than `beaver`; start it again"
            raise ConfigError(msg)
        else:
            await _ACTIONS[action](service, request, say)

    return handle


async def _check(node: Node, service: Service | None, request: dict[str, Any], say: Say) -> None:
    wait = request.get("wait")
    rows = await examine(node, float(wait) if isinstance(wait, int | float) and 0 <= wait <= MAX_PATIENCE else PATIENCE)
    used = node.mesh.roster
    answer = {"peers": list(map(asdict, rows)), "process": os.getpid()}
    answer["roster"] = {"version": used.content.version, "digest": used.digest.hex()}
    if service is not None:
        rules = service.admission.config.rules
        answer["policy"] = {"version": rules.version, "digest": rules.digest.hex()}
    say(answer)


async def _run(service: Service, request: dict[str, Any], say: Say) -> None:
    wait = request.get("wait")
    if isinstance(wait, bool) or not isinstance(wait, int | float) or not 0 <= wait <= MAX_WAIT:
        msg = f"a job waits from 0 to {MAX_WAIT} seconds; correct --wait"
        raise ConfigError(msg)
    record = service.asked(unpack_task(request.get("task")), float(wait), lambda text: say({"event": text}))
    telling = asyncio.create_task(_progress(record, say))
    try:
        done = await service.run(record)
    finally:
        telling.cancel()
        await service.journal.settled()
    say({"id": record.id, "progress": record.progress()})
    say(_result(record.id, done))


async def _progress(record: Record, say: Say) -> None:
    """Send the job's progress a few times a second.  This costs the job nothing: the figures are kept anyway."""
    said: dict[str, Any] | None = None
    while True:
        if (now := record.progress()) != said:
            say({"id": record.id, "progress": now})
            said = now
        await asyncio.sleep(PERIOD)


def _result(job: str, done: Done) -> dict[str, Any]:
    """Return a result, and the key of its digest in the audit log, for a receiver, which gets both."""
    return {"id": job, "result": done.result} | ({"seal": done.seal} if done.seal else {})


async def _jobs(service: Service, request: dict[str, Any], say: Say) -> None:  # noqa: ARG001
    # What the answer says is then in the audit log, too.
    await service.journal.settled()
    say({"jobs": [record.summary() for record in service.approvals.with_standing(service.records)]})


def _meant(service: Service, request: dict[str, Any]) -> str:
    """Return the id of the job that a request means by it or by its beginning.  Raises ConfigError if several ids begin like this."""
    given = str(request.get("id"))
    known = [record.id for record in service.approvals.with_standing(service.records)]
    alike = [job for job in known if given and job.startswith(given)]
    if len(alike) > 1:
        msg = f"{len(alike)} jobs here have an id that begins with {given!r}; give more of it"
        raise ConfigError(msg)
    return alike[0] if alike else given


async def _show(service: Service, request: dict[str, Any], say: Say) -> None:
    await service.journal.settled()
    job = _meant(service, request)
    record = service.records.get(job) or service.approvals.standing(job)
    if record is None:
        msg = f"no job {job!r} is known here; `beaver jobs list` lists them"
        raise ConfigError(msg)
    state = record.state
    if isinstance(state, Waiting | Approved):
        say(
            {
                "id": record.id,
                "job": record.summary(),
                "waiting": record.task.pack(),
                "digest": service.approvals.digest(record),
                "overlaps": service.journal.overlaps(record),
            }
        )
        return
    if not record.over:
        say({"id": record.id, "job": record.summary(), "running": record.task.pack()})
        return
    if not isinstance(state, Done):
        msg = f"job {record.id} has no result: {state.name}" + (f": {record.error}" if record.error else "")
        raise ConfigError(msg)
    say({**_result(record.id, state), "job": record.summary()})


async def _cancel(service: Service, request: dict[str, Any], say: Say) -> None:
    job = _meant(service, request)
    service.cancel(job)
    say({"id": job, "event": "cancelled"})


async def _approve(service: Service, request: dict[str, Any], say: Say) -> None:
    # By its whole id: another job whose id begins alike may have come since this one was shown.
    service.approvals.approve(str(request.get("id")), request["user"], str(request.get("digest", "")))
    say({"id": request["id"], "event": "approved"})


async def _deny(service: Service, request: dict[str, Any], say: Say) -> None:
    job = _meant(service, request)
    service.approvals.deny(job, request["user"])
    say({"id": job, "event": "denied"})


async def _rotate(service: Service, request: dict[str, Any], say: Say) -> None:  # noqa: ARG001
    say({"closed": await service.journal.rotate()})


_ACTIONS: dict[str, Callable[[Service, dict[str, Any], Say], Any]] = {
    "run": _run,
    "jobs": _jobs,
    "show": _show,
    "cancel": _cancel,
    "approve": _approve,
    "deny": _deny,
    "rotate": _rotate,
}
