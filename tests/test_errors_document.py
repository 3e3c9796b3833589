"""docs/errors.md: every row has exactly one case that provokes it, here or in a file that is imported here."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import re

import numpy as np
import pytest

import mpc
import protocols
from mpc import Node
from mpc.errors import BeaverError, LocalFault, RemoteFault
from mpc.framing import wire
from mpc.framing.handshake import negotiate
from mpc.membership.roster import Member, Roster
from mpc.testing.simulate import MemoryNetwork, simulated_roster
from mpc.transport.incoming import IncomingStream
from parties.cli import exit_status
from tests.attackers import flipped
from tests.channels import greet, hello, live, people, responder
from tests.error_rows import DOCUMENT, ROWS, row_of
from tests.lost_links import PATIENT, broken, cut, deafen, each, misbehave, one_is_lost_early, swallow, unplug
from tests.test_agreement import nodes
from tests.test_approvals import APPROVALS
from tests.test_audit import AUDIT
from tests.test_bench import BENCH
from tests.test_bindings import BOUND
from tests.test_check import DEALERS
from tests.test_client import CLIENTS
from tests.test_client_faults import CLIENT_FAULTS
from tests.test_command_line import DEMO
from tests.test_connect_misuse import CONNECT
from tests.test_connect_sync import SYNC
from tests.test_dealer_limits import small_machine
from tests.test_departures import no_room
from tests.test_differences import DIFFERENCES
from tests.test_dry_runs import ENDLESS
from tests.test_errors_of_commands import COMMANDS
from tests.test_errors_of_datasets import DATASETS
from tests.test_errors_of_jobs import JOBS
from tests.test_errors_of_programs import CASES as PROGRAMS
from tests.test_errors_of_programs import OF_NODES
from tests.test_errors_of_setup import SETUP
from tests.test_flow import FLOW
from tests.test_full_disks import DISKS
from tests.test_goodbyes import CLOSING
from tests.test_handshake import MINE, THEIRS, pair
from tests.test_identity_lock import LOCK
from tests.test_jobs import ASKED
from tests.test_links import LINKS
from tests.test_members_that_cheat import full
from tests.test_mqtt import RELAYED
from tests.test_open_files import FILES
from tests.test_ops_misuse import LOCAL, flags, numbers
from tests.test_order import other_length, other_op
from tests.test_policy import POLICY
from tests.test_policy_jobs import POLICY_JOBS
from tests.test_policy_names import NAMES
from tests.test_policy_parameters import PARAMETERS
from tests.test_protocols_edges import EDGES
from tests.test_reading import SECONDS
from tests.test_remembered import REMEMBERED
from tests.test_renewal import RENEWAL
from tests.test_renewed_rosters import FOLLOWED
from tests.test_scribe import SCRIBE
from tests.test_services import STOPPED
from tests.test_waits import WAITS
from tests.waiting import until

# -- cases ------------------------------------------------------------------------------------------------------


async def joined(*calls, n=2):
    """The outcomes of sessions whose settings are given per node."""
    async with nodes(n, dataclasses.replace(PATIENT, join=0.5)) as opened:

        async def one(number, job, more):
            async with opened[number].session(job, **more) as s:
                return await protocols.secure_sum(s, [1.0])

        return await asyncio.gather(*(one(*call) for call in calls), return_exceptions=True)


MISUSES = {
    **EDGES,
    **LOCAL,
    "is no party of this session": lambda s: s.party("zed"),
    "PLACE is not a finite number": lambda s: s.encode([1.0, np.nan]),
    "is beyond the declared bound": lambda s: s.encode([[3.0]], bound=2.0),
    "numbers are needed": lambda s: s.encode(["x"]),
    "which with N fractional bits exceeds the ring": lambda s: s.encode([1.0], bound=2.0**50),
    "a party announces up to N integers": lambda s: s.announce((-1,)),
    "would keep fewer than N bits beside larger ones": lambda s: mpc.scale(s, s.input([1.0] if s.index == 0 else None, 0, 1), [1e-7, 1.0]),
    "is too large to truncate": lambda s: mpc.trunc(s, s.input([1.0] if s.index == 0 else None, 0, 1, frac=32, bound=2.0**30), 20),
    "is too large to scale by": lambda s: mpc.scale(s, s.input([1.0] if s.index == 0 else None, 0, 1, bound=2.0**42), 1e-6),
    "a secret is never an index": lambda s: numbers(s, 3)[numbers(s)],
    "shapes SHAPE and SHAPE do not": lambda s: mpc.matmul(s, numbers(s, 2, 3), numbers(s, 2, 3)),
    "dot takes two vectors": lambda s: mpc.dot(s, numbers(s, 2, 2), numbers(s, 2, 2)),
    "a truncation drops": lambda s: mpc.trunc(s, numbers(s, 2), 33),
    "cannot be added; truncate": lambda s: s.zero(2) + s.zero(2, frac=8),
    "cannot be added to an AShare": lambda s: s.zero(3) + flags(s, 3),
    "a product of two secrets": lambda s: s.zero(2) * s.zero(2),
    "only integers multiply": lambda s: s.zero(2) * 1.5,
    "public bits are": lambda s: mpc.xor(s, flags(s, 2), np.array([0, 2])),
    "is the owner of this input": lambda s: s.input(None, s.index, 2),
    "owns this input": lambda s: s.input([1.0], 1 - s.index),
    "but the declared public shape": lambda s: s.input([1.0], s.index, 2),
    "at least one receiver": lambda s: s.reveal(s.zero(1), to=[]),
}


async def contents_of_a_share():
    faults = []

    def program(s):
        x = s.zero(2)
        for call in (bool, float, list, np.asarray, copy.deepcopy, lambda x: x == 1, lambda x: x != 1, lambda x: x < 1):
            with pytest.raises(BeaverError) as caught:
                call(x)
            faults.append(caught.value)

    await each(program)
    return faults


async def another_session():
    strangers = []
    await each(lambda s: strangers.append(s.zero(2)))
    return await each(lambda s: s.zero(2) + strangers[s.index])


async def foreign_task(s):
    async def part():
        await protocols.secure_sum(s, [1.0])

    await s.reveal(s.zero(1))
    await asyncio.create_task(part())


async def after_the_end(program):
    """The error of an op in p0's session after the session has ended."""
    kept = {}

    async def kept_too(s):
        kept[s.index] = s
        await program(s)

    await each(kept_too)
    with pytest.raises(BeaverError) as caught:
        kept[0]._ops.check_alive()
    return [caught.value]


async def cancelled(s):
    if s.index == 0:
        async with asyncio.timeout(0.1):
            await s.reveal(s.zero(1))
    await until(s._ops.check_alive)


async def looks_at_unmade_words(s):
    x = await s.mask(s.zero(1, frac=0))
    return (await mpc.mul(s, x, x)).words


async def divides(s):
    await s.reveal(s.zero(1))
    if s.index == 0:
        return 1 // 0
    return await s.reveal(s.zero(1))


async def left_behind():
    left = []

    async def program(s):
        left.append(asyncio.create_task(s.reveal(s.zero(1))))
        await asyncio.sleep(0)

    await each(program)
    return await asyncio.gather(*left, return_exceptions=True)


async def two_disagree(s):
    """p1 sends to p0, and to nobody else, what p0 does not expect."""
    await s.reveal(s.zero(1) * (1 + (s.index == 1)), to=0)
    await s.reveal(s.zero(1))


async def forked():
    async with nodes(2) as opened:
        opened[0]._pid = 0  # as a child finds it
        with pytest.raises(BeaverError) as caught:
            await opened[0].session("j").__aenter__()
        return [caught.value]


async def no_dealer():
    identities, _ = simulated_roster(2)
    roster = Roster([Member(who.name, who.public, ("memory", 1)) for who in identities[:2]])
    async with Node(identities[0], roster, MemoryNetwork().of("p0")) as node:
        with pytest.raises(BeaverError) as caught:
            await node.session("j").__aenter__()
        return [caught.value]


async def stalled(s):
    await s.reveal(s.zero(1))
    if s.index == 1:
        await until(s._ops.check_alive)
    await s.reveal(s.zero(1))


async def takes_late(s):
    if s.index == 1:
        await asyncio.sleep(1.5)
    await s.reveal(s.zero(5 << 20), to=1)  # more than a window


async def alone():
    identities, roster = simulated_roster(2)
    async with Node(identities[0], roster, MemoryNetwork().of("p0"), clocks=dataclasses.replace(PATIENT, join=0.2)) as node:
        with pytest.raises(BeaverError) as caught:
            await node.session("j").__aenter__()
        return [caught.value]


async def at_the_channel(act):
    (a, b), roster = people("a", "b")
    raw, up, _, sealer = await live(roster, a, b)
    act(raw.link, lambda body: sealer.seal(wire.record_head(0, 0) + body))
    kind, text = (await up.until("closed"))[1:]
    party, _, said = text.partition(": ")
    return [getattr(mpc, kind)(party, said)]


async def stranger():
    (a, _), roster = people("a", "b")
    raw, up, _ = responder(a, roster)
    await greet(raw, hello("mallory", "a", roster))
    kind, text = (await up.until("closed"))[1:]
    party, _, said = text.partition(": ")
    return [getattr(mpc, kind)(party, said)]


async def raised(call):
    with pytest.raises(BeaverError) as caught:
        call()
    return [caught.value]


def greeted(**changes):
    return lambda: raised(lambda: negotiate(MINE, dataclasses.replace(THEIRS, **changes)))


def wrong_key():
    a, b = pair(prologue=b"p")
    other, _ = pair(prologue=b"q")
    return raised(lambda: b.read_message(other.write_message()))


CASES = {
    "is text of at most N bytes": lambda: joined((0, "j" * 257, {})),
    "a job needs a name": lambda: joined((0, "", {})),
    "is already being agreed on": lambda: joined((0, "j", {}), (0, "j", {})),
    "the roster names no dealer": no_dealer,
    "is the dealer and never": lambda: joined((0, "j", {"parties": ["p0", "the-dealer"]})),
    "at least two different parties": lambda: joined((0, "j", {"parties": ["p0"]})),
    "is not among the parties": lambda: joined((0, "j", {"parties": ["p1", "p2"]}), n=3),
    "'NAME' is not in the roster; ": lambda: joined((0, "j", {"parties": ["p0", "zed"]})),
    "would need its secret contents": contents_of_a_share,
    "different sessions or parties": another_session,
    "from another task": lambda: each(foreign_task),
    "an op was cancelled at": lambda: after_the_end(cancelled),
    "nobody has read this value": lambda: each(looks_at_unmade_words),
    "the program raised TYPE": lambda: after_the_end(divides),
    "the program ended while this call": left_behind,
    "this session has ended": lambda: after_the_end(lambda s: s.reveal(s.zero(1))),
    "this process was forked": forked,
    "did not come (": alone,
    "did not start this job within N s; job 'NAME' waited for NAMES. Start": lambda: joined((0, "j", {})),
    "It waits for job": lambda: joined((0, "j", {}), (1, "k", {})),
    "the connection was lost": lambda: broken(cut),
    "was lost at PLACE": lambda: broken(cut),
    "went missing before": one_is_lost_early,
    "and not repaired within": lambda: broken(unplug, repair=0.2),
    "no bytes for": lambda: broken(swallow, lost=0.4),
    "but acknowledged nothing for": lambda: broken(deafen, lost=0.4, stall=0.8),
    "its message for PLACE": lambda: each(stalled, clocks=dataclasses.replace(PATIENT, stall=0.4)),
    "its program ended there": lambda: each(divides),
    "what the wire format does not allow": lambda: broken(misbehave),
    "a record was altered": lambda: at_the_channel(lambda link, seal: link.send(flipped(seal(wire.ready(wire.NEW, 0)), 0))),
    "since it found NAME": lambda: each(stalled, clocks=dataclasses.replace(PATIENT, stall=0.4)),
    "of the relay's framing": lambda: raised(lambda: list(IncomingStream("b").frames(memoryview(b"\2")))),
    "did not take what this party has": lambda: each(takes_late, clocks=dataclasses.replace(PATIENT, stall=0.4)),
    "a control message of unknown kind": lambda: at_the_channel(
        lambda link, seal: link.send(seal(wire.ready(wire.NEW, 0) + wire.control({"kind": "nonsense"})))
    ),
    "or someone altered the hello": wrong_key,
    "its address is answered by": greeted(sender="c"),
    "calls itself": stranger,
    "at this address, but this is": greeted(receiver="d"),
    "shares no cipher suite": greeted(suites=4),
    "describes job": lambda: joined((0, "j", {"program": "mean/1"}), (1, "j", {"program": "mean/2"})),
    "runs a different program": lambda: each(other_op, 3),
    "finished its program while": lambda: each(other_length, 3),
    "disagrees with OTHER": lambda: each(two_disagree, 3),
    "has no memory for what the program needs": small_machine,
    "has no room for the job": no_room,
    "serves as many jobs at once": full,
    **WAITS,
    **{key: (lambda call=call: each(call)) for key, call in MISUSES.items()},
}


# -- tests ------------------------------------------------------------------------------------------------------


def test_every_row_has_one_case_and_every_case_one_row():
    assert len(ROWS) > 60
    commands = [*COMMANDS, *DATASETS, *SETUP, *AUDIT, *BENCH, *DEMO]
    jobs = [
        *JOBS,
        *POLICY,
        *POLICY_JOBS,
        *NAMES,
        *PARAMETERS,
        *APPROVALS,
        *DIFFERENCES,
        *CLIENTS,
        *CLIENT_FAULTS,
        *SCRIBE,
        *SECONDS,
        *DEALERS,
        *DISKS,
        *ASKED,
    ]
    members = [*REMEMBERED, *RENEWAL, *FOLLOWED, *STOPPED, *LOCK, *FLOW, *LINKS, *BOUND, *RELAYED, *CLOSING, *FILES]
    cases = [*CASES, *PROGRAMS, *ENDLESS, *OF_NODES, *CONNECT, *SYNC, *commands, *jobs, *members]
    assert len(set(cases)) == len(cases)
    for row in ROWS:
        assert [case for case in cases if case in row.text] != [], f"no case provokes {row.text!r}"
        assert len([case for case in cases if case in row.text]) == 1, row
    for case in cases:
        assert len([row for row in ROWS if case in row.text]) == 1, case


def test_every_row_says_whose_fault_and_what_to_do():
    headings = re.findall(r"^## (\w+)", DOCUMENT, re.MULTILINE)
    assert {row.kind for row in ROWS} == set(headings)
    for row in ROWS:
        kind = getattr(mpc, row.kind)
        assert row.fault.startswith("theirs" if issubclass(kind, RemoteFault) else "mine"), row
        assert len(row.remedy) > 5, row
        fault = kind("x", "y") if issubclass(kind, RemoteFault) else kind("x")
        assert exit_status(fault) == row.status, row


@pytest.mark.parametrize("case", CASES)
async def test_a_call_that_provokes_the_row(case):
    row = row_of(case)
    faults = [fault for fault in await CASES[case]() if isinstance(fault, BeaverError)]
    # Of a fault between parties, one sees the row's side.
    assert any(type(fault).__name__ == row.kind and row.shows(str(fault)) for fault in faults), (row.text, faults)
    if issubclass(getattr(mpc, row.kind), LocalFault):
        own = [fault for fault in faults if isinstance(fault, LocalFault)]
        assert all(type(fault).__name__ == row.kind and row.shows(str(fault)) for fault in own), (row.text, own)
