"""Parties whose programs wait for each other are told what each waits for; a party that is only slow is not accused (invariants 10, 27)."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

import mpc
import protocols
from mpc import Disagreement, PeerLost, protocol
from mpc.channels.flow import Flow
from mpc.messaging.exchange import Exchange
from mpc.network.mesh import Clocks
from mpc.testing.simulate import simulate_async
from tests.error_rows import row_of
from tests.waiting import until

LONG = Clocks(join=10.0, lost=30.0, stall=60.0)
"""Whatever ends before this stall was found, not waited out."""
SHORT = Clocks(join=10.0, lost=10.0, stall=1.0)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("mpc.messaging.waits.PATIENCE", 0.1)


async def faults_of(program, n, clocks):
    """The faults that the parties' programs raised, by index."""
    raised = {}

    async def kept(s):
        try:
            return await program(s)
        except Exception as fault:
            raised[s.index] = fault
            raise

    with pytest.raises(mpc.BeaverError):
        await simulate_async(n, kept, clocks=clocks)
    return [raised[index] for index in sorted(raised)]


async def faults_at_once(programs):
    """The same for several programs, by their numbers of parties; all wait out the short clock together."""
    return await asyncio.gather(*(faults_of(program, n, SHORT) for n, program in programs.items()))


async def other_receivers(s):
    await s.reveal(s.zero(1), to=[s.index])


async def other_owners(s):
    await s.made(await s.mask(s.input(None, (s.index + 1) % s.n, 1)))


async def one_catches(s):
    try:
        await protocols.mean(s, [[1.0 if s.index else float("nan")]])
    except mpc.PrecisionError:
        pass
    await s.reveal(s.zero(1))


@protocol
async def inner(s):
    await s.reveal(s.zero(1))
    if not s.index:
        raise ZeroDivisionError
    await asyncio.gather(inner_most(s), inner_most(s))


@protocol
async def inner_most(s):
    await s.reveal(s.zero(1))


async def one_catches_deep_inside(s):
    await s.reveal(s.zero(1))
    try:
        await inner(s)
    except ZeroDivisionError:
        pass
    while True:
        await s.reveal(s.zero(1))


async def one_forgets(s):
    if s.index:
        await inner_most(s)
    else:
        inner_most(s).close()
    await s.reveal(s.zero(1))


def say(s, *on):
    """Tell the others that this party waits for those, for a message that nobody knows of."""
    exchange = s._engine.exchange
    for name in s.names:
        if name != s.names[s.index]:
            about = {"tag": b"t" * 16, "digest": bytes(16), "scope": "9", "at": f"elsewhere.{s.index}", "on": on}
            exchange._agreed.channels[name].control(kind="waits", session=exchange._agreed.session, **about)


async def lies(s, waited):
    """p0 waits for p1, which takes no step, as nobody does; each says all the time that it waits for whom `waited` tells."""
    if s.index:
        while True:
            s._ops.check_alive()
            if s.index in waited:
                say(s, f"p{waited[s.index]}")
            await asyncio.sleep(0.01)
    await s.reveal(s.zero(1), to=["p0"])


@protocol
async def after(s, event, to):
    if event is not None:
        await event.wait()
    return await s.reveal(s.zero(1), to=to)


FOUND = {
    "of the same step, but for another message": other_receivers,
    "and the program went on without it": one_catches,
}
LATER = {"waits itself, as it says": one_forgets}
SAID = {"which waits in turn, as they say": {1: 2, 2: 1}, "has not sent what OTHER waits for": {1: 2}}
WAITS = {
    **{key: partial(faults_of, program, 2, Clocks(5.0, 5.0, 4.0)) for key, program in FOUND.items()},
    **{key: partial(faults_of, program, 2, SHORT) for key, program in LATER.items()},
    **{key: partial(faults_of, partial(lies, waited=waited), 3, SHORT) for key, waited in SAID.items()},
}
"""For test_errors_document.py."""


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("program", [other_receivers, other_owners, one_catches, one_catches_deep_inside])
async def test_programs_that_never_meet_are_told_long_before_the_clock(program, n, impatient):
    async with asyncio.timeout(30):
        faults = await faults_of(program, n, LONG)
    assert len(faults) == n
    assert {type(fault) for fault in faults} == {Disagreement}
    # Everyone hears of a party that it is not.
    assert all(fault.party != f"p{index}" for index, fault in enumerate(faults))
    if program in {one_catches, one_catches_deep_inside}:
        call, kind = ("mean.0", "PrecisionError") if program is one_catches else ("inner.1", "ZeroDivisionError")
        assert f"waits for this party at {call}/" in str(faults[0])
        assert f"here {call} raised {kind}" in str(faults[0])
        # Of what it raised nobody else hears, only where.
        assert all(kind not in str(fault) and f"at {call}/" in str(fault) for fault in faults[1:])
    else:
        assert any("receivers, owners of inputs, ops or shapes differ there" in str(fault) for fault in faults)


async def test_at_the_clock_both_hear_what_the_other_waits_for():
    for faults in await faults_at_once(dict.fromkeys((2, 3, 4, 5), one_forgets)):
        assert {type(fault) for fault in faults} == {Disagreement}
        apart = [str(fault) for fault in faults if "their programs went apart" in str(fault)]
        assert apart
        assert all("reveal.1" in text and "inner_most.0/reveal.0" in text and "for 1 s now" in text for text in apart)


ELSEWHERE = "they run different programs, shapes, bounds or settings, says p0"
TOLD = {
    "which waits in turn, as they say": [
        f"p2: disagrees with p1 at elsewhere.1: {ELSEWHERE}",
        f"p1: disagrees with p2 at elsewhere.1: {ELSEWHERE}",
    ],
    "has not sent what OTHER waits for": [
        "p2: was lost at reveal.0, says p0",
        "p0: ended the session at reveal.0, since it found p2 lost",
    ],
}


@pytest.mark.parametrize("case", SAID)
async def test_what_is_told_of_others_is_what_they_say_themselves(case):
    """Parties that wait for each other disagree with each other, and not with the one that waits behind them.

    Nothing proves who keeps whom waiting.
    """
    mine, *theirs = await WAITS[case]()
    row = row_of(case)
    assert (type(mine).__name__, row.shows(str(mine))) == (row.kind, True), mine
    assert [str(fault) for fault in theirs] == TOLD[case]


async def test_whoever_keeps_all_waiting_is_named_by_all():
    """p0 waits for the last party, which is slow, and all others for p0, which waits."""

    async def program(s, over):
        try:
            if s.index == s.n - 1:
                await over.wait()
            await s.reveal(s.zero(1), to=[0])
            await s.reveal(s.zero(1))
        finally:
            over.set()

    for faults in await faults_at_once({n: partial(program, over=asyncio.Event()) for n in (3, 4, 5)}):
        last = f"p{len(faults) - 1}"
        assert {fault.party for fault in faults[:-1]} == {last}
        assert {type(fault) for fault in faults} == {PeerLost}
        # Whose clock ends first is a matter of chance: that of p0, or of one that waits behind it.
        itself = f"{last}: is alive, but its message for reveal.0 did not come within 1 s. Raise the clock stall"
        behind = f"{last}: has not sent what p0 waits for at reveal.0, as that one says"
        assert any(itself in str(fault) or behind in str(fault) for fault in faults)


async def test_a_slow_line_is_none_that_programs_went_apart_on(monkeypatch):
    """p1 waits for what the others have sent long ago, and these for p1 at the next step: nobody does anything else than the others."""
    pump = Flow.pump
    monkeypatch.setattr(Flow, "pump", lambda self: self._peer != "p1" and pump(self))

    async def program(s):
        await s.reveal(s.zero(1 << 16))
        await s.reveal(s.zero(1))

    for faults in await faults_at_once(dict.fromkeys((2, 3, 4, 5), program)):
        assert {type(fault) for fault in faults} == {PeerLost}
        assert any("did not come within 1 s. Raise the clock stall" in str(fault) for fault in faults)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
async def test_a_slow_party_has_not_gone_apart_from_one_that_it_has_waited_for(n, impatient, monkeypatch):
    """The last one is slow in one task, and has waited in another for p0, almost as long as p0 has for it."""
    heard, plain, began = asyncio.Event(), Exchange.control, asyncio.get_running_loop().time()

    def control(self, name, body):
        plain(self, name, body)
        if (self.me, name, body["kind"]) == ("p0", f"p{n - 1}", "waits") and asyncio.get_running_loop().time() > began + 0.8:
            heard.set()

    monkeypatch.setattr(Exchange, "control", control)
    never = asyncio.Event()

    async def program(s):
        try:
            await asyncio.gather(
                after(s, never if s.index == s.n - 1 else None, None),
                after(s, None if s.index else heard, [s.n - 1]),
            )
        finally:
            never.set()

    faults = await faults_of(program, n, SHORT)
    assert {type(fault) for fault in faults} == {PeerLost}
    assert {fault.party for fault in faults[:-1]} == {f"p{n - 1}"}


@pytest.fixture
def enough(impatient, monkeypatch):
    """Set when every party has heard of each other one several times that it waits."""
    said, heard_of_all, plain = [], asyncio.Event(), Exchange.control

    def control(self, name, body):
        plain(self, name, body)
        if body["kind"] == "waits":
            said.append((self.me, name))
            if all(said.count((me, other)) >= 3 for me in self.names for other in self.names if me != other):
                heard_of_all.set()

    monkeypatch.setattr(Exchange, "control", control)
    return heard_of_all


@protocol
async def raises_at_once(s):
    raise ZeroDivisionError


@pytest.mark.parametrize("n", [2, 3, 4, 5])
async def test_what_raised_in_a_dry_run_only_is_no_fault_of_the_call_that_has_its_name(n, enough):
    """The dry run raises what the program catches, and spends no name: the next call has it."""

    @protocol
    async def plans(s):
        with pytest.raises(ZeroDivisionError):
            await s.run(raises_at_once)
        # Each waits at once for what the others send when all have heard that all wait.
        return len(await asyncio.gather(*(after(s, None if s.index == first else enough, [first]) for first in range(s.n))))

    async with asyncio.timeout(30):
        assert await simulate_async(n, plans, clocks=LONG) == [n] * n
    assert enough.is_set()


@pytest.mark.parametrize("n", [2, 3, 4, 5])
async def test_a_slow_party_is_waited_for_without_alarm(n, impatient, monkeypatch):
    """This holds however often its peers say that they wait, in tasks that overtake each other, and after a fault that all catch."""
    said, enough, plain = [], asyncio.Event(), Exchange.control

    def control(self, name, body):
        plain(self, name, body)
        if body["kind"] == "waits":
            said.append((self.me, name))
            # The slow one has heard everyone for some time, and so have they each other.
            if min(said.count((f"p{n - 1}", f"p{other}")) for other in range(n - 1)) >= 3:
                enough.set()

    monkeypatch.setattr(Exchange, "control", control)

    @protocol
    async def raises(s):
        await s.reveal(s.zero(1))
        raise ZeroDivisionError

    @protocol
    async def slow(s):
        if s.index == s.n - 1:
            await enough.wait()
        return await s.reveal(s.zero(1), to=[0])

    @protocol
    async def fast(s):
        for _ in range(20):
            await s.reveal(s.zero(1), to=[s.n - 1])
        return await s.reveal(s.zero(1))

    async def program(s):
        outcomes = await asyncio.gather(raises(s), slow(s), fast(s), return_exceptions=True)
        with pytest.raises(ZeroDivisionError):
            await raises(s)
        return type(outcomes[0]), outcomes[1] is not None, float((await protocols.secure_sum(s, [1.0]))[0])

    async with asyncio.timeout(30):
        results = await simulate_async(n, program, clocks=LONG)
    assert results == [(ZeroDivisionError, index == 0, float(n)) for index in range(n)]
    assert enough.is_set()


@pytest.mark.parametrize(
    "scope",
    ["", "0", "0.", "0.x", "0.-1", "0." + "9" * 5000, "0.9999999999999999999", "0.²", "00.3", "1.0.3", "0.0.7", "0.1", "\x00", "." * 9],
)
async def test_what_a_peer_calls_a_scope_raises_nothing(scope):
    """Nothing is in the call that ended, but what it had not come to."""

    @protocol
    async def two(s):
        await s.reveal(s.zero(1))
        await s.reveal(s.zero(1))
        raise ZeroDivisionError

    async def program(s):
        with pytest.raises(ZeroDivisionError):
            await two(s)
        return s._ops.root.ended(scope), s._ops.root.ended("0.2"), s._ops.root.ended("0.3.1.4")

    for found, *late in await simulate_async(2, program):
        assert found is None
        assert [(ended.label, ended.calls, ended.fault) for ended in late] == [("two.0", 2, "ZeroDivisionError")] * 2


async def test_programs_that_went_apart_are_told_in_the_log_long_before_the_clock(impatient, caplog):
    async def program(s):
        await s.reveal(s.zero(1))
        if s.index:
            await s.inputs([])
        await s.reveal(s.zero(2))

    running = asyncio.create_task(simulate_async(2, program, clocks=LONG))
    await until(lambda: sum("programs went apart" in each.message for each in caplog.records) == 2)
    # Once, however long it lasts.
    await asyncio.sleep(0.5)
    told = [each.message for each in caplog.records if "programs went apart" in each.message]
    assert len(told) == 2
    assert any(
        "peer=p1 phase=waiting it waits at inputs.1/announce.0 for this party, which waits for it at reveal.1: " in each for each in told
    ), told
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
