"""A job is in one state at a time.  It changes only as the table of parties/jobs/states.py allows, in whatever order events come."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpc.errors import BeaverError, ConfigError, JobCancelled, PeerLost, PolicyDenied
from mpc.messaging.agreement import GAVE_UP
from parties.config import load_node_config
from parties.jobs.endings import DENIED, LOST
from parties.jobs.job import Task, fresh_id, unpack_task
from parties.jobs.proposals import JOB, START, WITHDRAWN
from parties.jobs.records import Record
from parties.jobs.states import (
    FOLLOWING,
    Accepted,
    Approved,
    Cancelled,
    Done,
    Failed,
    ForbiddenError,
    Over,
    Proposed,
    Running,
    Starting,
    Waiting,
)
from parties.jobs.tally import DECLINED
from tests.test_during import Apart
from tests.test_jobs_faults import until
from tests.test_policy_jobs import governed

TASK = Task("mean", "patients", ("age",), ("a", "c"))
MADE = {Done: (None, ""), Failed: ("why",), Cancelled: ("why",)}


def state(kind):
    return kind(*MADE.get(kind, ()))


# -- the table ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(list(FOLLOWING))))
def test_a_record_follows_the_table_and_stays_as_it_was_where_it_may_not(kinds):
    record = Record("j", TASK, "c")
    for kind in kinds:
        before, wanted = record.state, state(kind)
        if kind in FOLLOWING[type(before)]:
            record.becomes(wanted)
            assert record.state is wanted
        else:
            with pytest.raises(ForbiddenError, match=type(before).__name__):
                record.becomes(wanted)
            assert record.state is before
        assert record.over == (not FOLLOWING[type(record.state)])


def test_every_state_can_be_reached_and_left_until_the_job_is_over():
    reached, ways = {Proposed}, [Proposed]
    while ways:
        ways += [kind for kind in FOLLOWING[ways.pop()] if not (kind in reached or reached.add(kind))]
    assert reached == set(FOLLOWING)
    assert {kind for kind, after in FOLLOWING.items() if not after} == {kind for kind in FOLLOWING if issubclass(kind, Over)}
    # Nothing that is over or runs is asked about again, and nothing runs that was not signed.
    assert {kind for kind, after in FOLLOWING.items() if Starting in after} == {Proposed, Accepted}
    for kind, after in FOLLOWING.items():
        if issubclass(kind, Running):
            assert all(issubclass(each, Running | Over) for each in after)
            assert Failed in after


def test_only_becomes_writes_the_state():
    record = Record("j", TASK, "c")
    with pytest.raises(AttributeError):
        record.state = state(Done)
    with pytest.raises(AttributeError):
        state(Failed).error = ""


def test_what_users_read_has_not_changed():
    names = {"proposed", "waiting for approval", "approved", "accepted", "running", "done", "failed", "cancelled"}
    assert {kind.name for kind in FOLLOWING} == names
    assert {kind.phase for kind in FOLLOWING if kind.phase} == {"reading", "joining", "computing"}


# -- a node ------------------------------------------------------------------------------------------------------------


class Chaos:
    """All events that may reach node a, from its peers, its people, its own jobs and its policy, in an order chosen by a seed."""

    def __init__(self, apart, seed):
        self.a, self.folder, self.random = apart.services["a"], apart.nodes.folder, random.Random(seed)  # noqa: S311
        self.identities = {name: load_node_config(self.folder / f"{name}.toml").identity() for name in "bc"}
        self.tasks = [unpack_task(each.pack()) for each in (TASK, replace(TASK, protocol="sum"), replace(TASK, parties=("a", "b", "c")))]
        self.ids = [fresh_id() for _ in range(4)]
        self.own = []
        # What is approved stands for a moment, so that some of it lapses.
        self.a.approvals._lasts = 0.05

    @property
    def job(self):
        return self.random.choice(self.ids + [record.id for record in self.a.records][-4:])

    def heard(self, **body):
        self.a.control(self.random.choice("ccb"), body)

    def signatures(self, job):
        record = self.a.records.get(job)
        if record is None or self.random.random() < 0.3:
            return {}
        digest = self.a.admission.digest(record)
        mine = {"a": self.a.admission.config.identity().sign(JOB, digest)}
        return mine | {name: identity.sign(JOB, digest) for name, identity in self.identities.items()}

    def propose(self):
        # Now and then under a name that was never used: those of all others are spent after a while.
        self.ids[self.random.randrange(4)] = job = fresh_id() if self.random.random() < 0.5 else self.job
        self.heard(kind="propose", job=job, task=self.random.choice(self.tasks).pack())

    def answer(self):
        job, verdict = self.job, self.random.choice([START, START, WITHDRAWN])
        self.heard(kind="answer", job=job, verdict=verdict, signatures=self.signatures(job), rows=0)

    def decline(self):
        self.heard(kind="decline", job=self.job, party=self.random.choice("abc"), reason=self.random.choice([DENIED, LOST]))

    def gave_up(self):
        self.heard(kind="withdraw", job=self.job, reason=GAVE_UP, party=self.random.choice("abc"), answers=b"")

    def lost(self):
        name = self.random.choice("bc")
        self.a.peer_down(name, PeerLost(name, "was lost"))

    def decide(self):
        ask = self.a.approvals
        self.random.choice([ask.approve, ask.approve, ask.deny])(self.job, 1000)

    def cancel(self):
        self.a.cancel(self.job)

    def run(self):
        record = self.a.asked(self.random.choice(self.tasks), 2.0, lambda _: None)
        self.own.append(asyncio.create_task(self.a.run(record)))

    def hang_up(self):
        if self.own:
            self.random.choice(self.own).cancel()

    async def renew(self):
        """Let the node take up the policy that asks for approval, or the one that does not."""
        config = load_node_config(self.folder / "a.toml")
        rules = self.random.choice([{"ask": ["mean"]}, {"ask": [], "allow": ["mean", "sum"]}])
        await self.a.renew(config.model_copy(update={"policy": config.policy.model_copy(update=rules)}))

    async def event(self):
        usual = [self.propose, self.propose, self.answer, self.answer, self.decide, self.decide]
        event = self.random.choice([*usual, self.run, self.decline, self.gave_up, self.lost, self.cancel, self.hang_up, self.renew])
        try:
            coming = event()
            if coming is not None:
                await coming
        except ConfigError:
            # There is no such job, or it does not wait.
            assert event in (self.decide, self.cancel)
        await asyncio.sleep(self.random.choice([0, 0, 0, 0.001, 0.02]))

    def check(self):
        held, running = self.a._places._held, set(self.a._running)
        for record in self.a.records:
            if isinstance(record.state, Accepted | Running):
                assert record.id in held, record.state
            assert (record.id in running) or not isinstance(record.state, Running)
            assert not isinstance(record.state, Approved)
        assert all(isinstance(each.state, Approved | Accepted) for each in self.a.approvals.all_standing)
        waiting = {record.id for record in self.a.records if isinstance(record.state, Waiting)}
        assert set(self.a.approvals._waiting) <= waiting


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_comes_in_which_order_a_node_follows_the_table(tmp_path, seed):
    faults = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    async with Apart(governed(tmp_path, a='allow = ["sum"]\nask = ["mean"]')) as apart:
        chaos = Chaos(apart, seed)
        for _ in range(400):
            await chaos.event()
            chaos.check()
            assert faults == []
    # The node has stopped.
    ended = await asyncio.gather(*chaos.own, return_exceptions=True)
    assert [each for each in ended if not isinstance(each, Done | BeaverError | asyncio.CancelledError)] == []
    assert (chaos.a._running, chaos.a._proposing, faults) == ({}, {}, [])
    # What was accepted and not started is its proposer's to end.
    assert all(record.over or isinstance(record.state, Accepted) for record in chaos.a.records)


async def test_nobody_declines_an_own_job_that_waits_here_and_was_proposed_to_nobody(tmp_path):
    async with Apart(governed(tmp_path, a='ask = ["mean"]')) as apart:
        a = apart.services["a"]
        record = a.asked(unpack_task(TASK.pack()), 20.0, lambda _: None)
        running = asyncio.create_task(a.run(record))
        await until(lambda: isinstance(record.state, Waiting))
        a.control("c", {"kind": "decline", "job": record.id, "party": "c", "reason": DENIED})
        assert isinstance(record.state, Waiting)
        a.approvals.approve(record.id, 1000)
        assert isinstance(await running, Done)
        assert record.state is running.result()


async def test_a_policy_that_is_taken_between_the_asking_and_the_running_of_a_job_ends_it(tmp_path):
    async with Apart(governed(tmp_path, a='ask = ["mean"]')) as apart:
        a = apart.services["a"]
        record = a.asked(unpack_task(TASK.pack()), 20.0, lambda _: None)
        config = load_node_config(tmp_path / "a.toml")
        await a.renew(config.model_copy(update={"policy": config.policy.model_copy(update={"ask": [], "allow": ["sum"]})}))
        with pytest.raises(PolicyDenied, match="'mean' is not on the list"):
            await a.run(record)
        assert (type(record.state), a._places._held, a._proposing) == (Failed, set(), {})


async def test_whoever_is_told_how_a_job_ended_finds_it_over(tmp_path):
    """Even a job that ends before it did anything has its end in the log, and its place is free."""
    async with Apart(governed(tmp_path, a='allow = ["mean"]')) as apart:
        a = apart.services["a"]
        record = a.asked(unpack_task(TASK.pack()), 20.0, lambda _: None)

        async def told():
            with pytest.raises(JobCancelled, match="by `beaver jobs cancel`"):
                await a.run(record)
            return type(record.state), set(a._places._held), dict(a._running)

        running = asyncio.create_task(told())
        while record.id not in a._running:
            await asyncio.sleep(0)
        a.cancel(record.id)
        assert await running == (Cancelled, set(), {})
        # Which nobody denied.
        assert (a.journal.tally.outcomes, a.journal.tally.denials) == ({DECLINED: 1}, {})


async def test_an_approval_stays_with_the_job_though_the_policy_asks_for_none_any_more(tmp_path):
    async with Apart(governed(tmp_path, a='ask = ["mean"]')) as apart:
        a, job = apart.services["a"], fresh_id()
        proposal = {"kind": "propose", "job": job, "task": unpack_task(TASK.pack()).pack()}
        a.control("c", proposal)
        a.approvals.approve(job, 1000)
        a.control("c", {"kind": "answer", "job": job, "verdict": WITHDRAWN, "signatures": {}, "rows": 0})
        assert isinstance(a.approvals.standing(job).state, Approved)
        config = load_node_config(tmp_path / "a.toml")
        await a.renew(config.model_copy(update={"policy": config.policy.model_copy(update={"ask": [], "allow": ["mean"]})}))
        a.control("c", proposal)
        record = a.records.get(job)
        assert (type(record.state), record.approval["user"], a.approvals.standing(job)) == (Accepted, 1000, record)
        # Taken back: it is this job that ends, with its place.
        a.approvals.deny(job, 1000)
        assert (type(record.state), a._places._held) == (Failed, set())
