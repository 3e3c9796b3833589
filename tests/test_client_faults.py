"""Clients that die, lie, wait or send what they may not, and parties that die while they serve one (invariants 20, 21, 25, 27)."""

from __future__ import annotations

import asyncio
import json
import random
import re
import secrets
import signal
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

import mpc
from mpc.channels.flow import WINDOW
from mpc.fixed_point import encode
from mpc.following import follow
from mpc.framing.greeting import respond
from mpc.framing.handshake import Hello, local_suites
from mpc.membership.identity import Identity, fingerprint
from mpc.membership.roster import Member, Roster
from mpc.messaging.job import described
from mpc.messaging.visit import Visit
from mpc.values.sharing import split
from parties.check import own_files
from parties.client import ask
from parties.config import load_node_config
from parties.jobs.job import Client, Task, fresh_id, unpack_task
from parties.jobs.records import named
from parties.jobs.visits import heard
from tests.jobs import jobs_of, requested
from tests.test_client import POLICY, asked, given, near, served, shown
from tests.test_client_shares import pretended, twice
from tests.waiting import until

APPROVED = POLICY.replace("allow", "ask", 1)
CLIENT_FAULTS = [
    "a client, which speaks with parties only",
    "is a client and sent",
    "sent another share of its rows",
    "sent its rows twice",
    "is connected but did not send its rows",
    "or no connection to the dealer",
    "the job ended, since OTHER found it",
    "ended the job, since it found this client",
    "ended the job: REASON; its log says why",
    "in the middle of the job; run it again",
    "describes its columns differently",
    "otherwise than this client",
    "and a client only dials",
    "a client cannot follow a program",
    "take it from standard output",
]
"""Rows of docs/errors.md that this file provokes."""


class Odd:
    """The client lab in this process: proposes properly, and then does what it likes."""

    def __init__(self, node):
        self.mesh, self.got = node.mesh, []
        self.mesh.subscribe(self)

    def control(self, name, body):
        self.got.append((name, body))

    def peer_up(self, name):
        pass

    def peer_down(self, name, fault):
        self.got.append((name, {"kind": "down"}))

    def say(self, to, **body):
        self.mesh.channel(to).control(**body)

    async def heard(self, kind, number, job):
        """The first `number` messages of this kind about a job."""
        await until(lambda: len(self._about(kind, job)) >= number)
        return self._about(kind, job)

    def _about(self, kind, job):
        return [body for _, body in self.got if body["kind"] == kind and body.get("job") == job]

    def propose(self, rows, to=("a", "b")):
        """A job on these rows for the parties: its id, its task and the portions."""
        portions = dict(zip("ab", split(encode(rows / 128, frac=32, bound=1.0), 2), strict=True))
        commitments = {name: portion.commitment.hex() for name, portion in portions.items()}
        client = Client("lab", len(rows), (7,) * rows.shape[1], commitments)
        task = Task("mean", "", ("age", "bmi"), ("a", "b"), client=client)
        job = fresh_id()
        for name in to:
            self.say(name, kind="propose", job=job, task=task.pack())
        return job, task, portions

    async def started(self, rows, at=("a", "b")):
        """A job that both parties have accepted and these have begun, and this client's visits to both."""
        job, task, portions = self.propose(rows)
        answers = await self.heard("answer", 2, job)
        assert [body["verdict"] for body in answers] == ["accepted"] * 2
        digest = described(job, self.mesh.roster, task.parties, named(task)).digest
        signatures = {name: signature for body in answers for name, signature in body["signatures"].items()}
        signatures["lab"] = self.mesh.identity.sign("job", digest)
        visits = {name: Visit(self.mesh.channel(name), digest, "lab", WINDOW) for name in task.parties}
        for name in at:
            self.say(name, kind="answer", job=job, verdict="start", signatures=signatures, rows=0)
        return job, portions, visits


@asynccontextmanager
async def odd(nodes):
    async with mpc.open_node(nodes.folder / "lab.toml") as node:
        await until(lambda: not node.mesh.missing(["a", "b"]) and all("peer=dealer connected" in nodes.log(name) for name in "ab"))
        # They take a job only when they are connected with each other too.
        await until(lambda: "peer=b connected" in nodes.log("a") and "peer=a connected" in nodes.log("b"))
        yield Odd(node)


async def state(nodes, at, job):
    for record in (await requested(nodes, {"do": "jobs"}, at=at))[-1]["jobs"]:
        if record["id"] == job:
            return record["state"], record["error"]
    return "", ""


async def ended(nodes, at, job, text):
    """The error of a job, once it has failed there as `text` says."""
    async with asyncio.timeout(30):
        while "failed" not in (found := await state(nodes, at, job)):
            await asyncio.sleep(0.02)
    assert text in found[1], found
    return found[1].partition(": ")[2]


async def test_who_has_accepted_a_job_hears_that_it_has_ended_where_it_began(tmp_path):
    async with served(tmp_path, ("a", "b")) as nodes, odd(nodes) as lab:
        job, portions, visits = await lab.started(nodes.data["lab"][:, :2], at="a")
        pretended(visits["a"], portions["a"])
        shown("sent another share of its rows", await ended(nodes, "a", job, "lab: sent another share of its rows than the job names"))
        await ended(nodes, "b", job, "PeerLost: lab: gave up the job before it started")


async def test_who_began_a_job_does_not_wait_for_others_that_its_client_never_told_to_start(tmp_path):
    async with served(tmp_path, ("a", "b"), join=60.0) as nodes:
        async with odd(nodes) as lab:
            job, portions, visits = await lab.started(nodes.data["lab"][:, :2], at=("a",))
            visits["a"].send_portion(portions["a"])
            async with asyncio.timeout(20):
                while not any(each["progress"]["phase"] == "joining" for each in await jobs_of(nodes, "a")):
                    await asyncio.sleep(0.02)
        # Long before the clock `join`, and it names nobody else.
        assert (await ended(nodes, "a", job, "PeerLost: lab: ")).startswith("lab: ")
        assert near((await asked(nodes, "mean", rows=given(nodes.data["lab"]), wait=20))["mean"], nodes.data["lab"].mean(axis=0))


async def test_a_client_that_leaves_while_the_session_begins_is_named_by_all(tmp_path):
    """It may leave at any moment, even when its result is on its way."""
    rng, seen = random.Random(7), Counter()
    async with served(tmp_path, ("a", "b", "c")) as nodes:
        for _ in range(30):
            began = asyncio.Event()
            what = {
                "rows": given(nodes.data["lab"]),
                "to": "me",
                "tell": lambda text, began=began: began.set() if text == "started" else None,
            }
            job = asyncio.create_task(asked(nodes, "sum", **what))
            await began.wait()
            await asyncio.sleep(rng.uniform(0.002, 0.03))
            job.cancel()
            await asyncio.wait([job])
        for name in "abc":
            async with asyncio.timeout(30):
                while {each["state"] for each in await jobs_of(nodes, name)} & {"running", "accepted"}:
                    await asyncio.sleep(0.02)
            seen.update(each["error"].split(", says")[0] or "ended well" for each in await jobs_of(nodes, name))
    assert not [error for error in seen if error != "ended well" and "lab" not in error], seen
    # One client that comes for one job after the other is no second one.
    assert "a second node runs" not in nodes.log("a")


async def test_a_client_that_does_what_it_should_not_ends_its_own_job_only(tmp_path):
    async with served(tmp_path, ("a", "b"), join=2.0) as nodes:
        rows = nodes.data["lab"][:, :2]
        # It gives one party its portion, and dies.
        async with odd(nodes) as lab:
            job, portions, visits = await lab.started(rows)
            visits["a"].send_portion(portions["a"])
        for name in "ab":
            await ended(nodes, name, job, "PeerLost: lab: ")
        async with odd(nodes) as lab:
            # It stays, and gives nothing.  Meanwhile it gets no second place.
            job, portions, visits = await lab.started(rows)
            other, *_ = lab.propose(rows, to="a")
            assert (await lab.heard("answer", 1, other))[0]["verdict"] == "busy"
            assert {body["party"] for body in await lab.heard("ended", 2, job)} == {"lab"}
            errors = [await ended(nodes, name, job, "PeerLost: lab: ") for name in "ab"]
            # The first to lose patience tells the other.
            shown("is connected but did not send its rows", next(error for error in errors if "is connected" in error))
            # Another portion than it committed to: the other party hears whose fault it was.
            job, portions, visits = await lab.started(rows)
            pretended(visits["a"], portions["a"])
            visits["b"].send_portion(portions["b"])
            shown("sent another share of its rows", await ended(nodes, "a", job, "lab: sent another share of its rows than the job names"))
            await ended(nodes, "b", job, "PeerLost: lab: ")
            # A signature that is not its own.
            job, task, portions = lab.propose(rows)
            answers = await lab.heard("answer", 2, job)
            signatures = {name: signature for body in answers for name, signature in body["signatures"].items()} | {"lab": bytes(64)}
            lab.say("a", kind="answer", job=job, verdict="start", signatures=signatures, rows=0)
            await ended(nodes, "a", job, "Disagreement: lab: its signature of this job is missing or wrong")
            # It is no member of a session.
            lab.say("b", kind="join", job=job, description={}, members=[], nonce=bytes(32))
            await until(lambda: "is a client and sent 'join'" in nodes.log("b"))
            said = next(line for line in nodes.log("b").splitlines() if "is a client and sent" in line)
            shown("is a client and sent", said.partition("disconnected: ")[2])
        assert near((await asked(nodes, "mean", rows=given(nodes.data["lab"])))["mean"], nodes.data["lab"].mean(axis=0))


async def test_a_client_is_told_what_the_parties_found_and_what_became_of_them(tmp_path, monkeypatch):
    nodes = served(tmp_path, ("a", "b"))
    for config in (tmp_path / "a.toml", tmp_path / "b.toml"):
        # The client is then the first to say that a party is lost.
        config.write_text(config.read_text().replace("repair = 0.0", "repair = 2.0"))
    async with nodes:
        rows, honest = given(nodes.data["lab"]), Visit.send_portion
        for give, text in ((pretended, "ended the job, since it found this client misbehaved; run it again"), (twice, "")):
            with monkeypatch.context() as patched:
                patched.setattr(
                    Visit, "send_portion", lambda visit, portion, give=give: (give if visit.channel.name == "a" else honest)(visit, portion)
                )
                with pytest.raises(mpc.PeerLost) as caught:
                    await asked(nodes, "variance", rows=rows)
            assert str(caught.value).startswith(("a: ", "b: ")) and text in str(caught.value), caught.value
        assert near((await asked(nodes, "mean", rows=rows))["mean"], nodes.data["lab"].mean(axis=0))
        # From here on it gives nothing, so that its jobs wait.
        monkeypatch.setattr(Visit, "send_portion", lambda visit, portion: None)
        for end, case in (("cancel", "ended the job: REASON; its log says why"), ("kill", "in the middle of the job; run it again")):
            asking = asyncio.create_task(ask(tmp_path / "lab.toml", "mean", rows=rows))
            running = []
            while not running:
                await asyncio.sleep(0.02)
                running = [each["id"] for each in (await requested(nodes, {"do": "jobs"}))[-1]["jobs"] if each["state"] == "running"]
            await (nodes.kill("a") if end == "kill" else requested(nodes, {"do": "cancel", "id": running[0]}))
            with pytest.raises(mpc.PeerLost, match="^a: ") as caught:
                await asking
            shown(case, caught.value)


async def test_a_client_is_told_which_party_is_lost(tmp_path):
    nodes = served(tmp_path, ("a", "b"), b=APPROVED)
    rows = given(nodes.data["lab"])
    async with nodes:
        waits = asyncio.Event()

        def tell(text):
            if "waiting for approval at b" in text:
                waits.set()

        asking = asyncio.create_task(ask(tmp_path / "lab.toml", "mean", rows=rows, tell=tell))
        await waits.wait()
        # Who decides sees who asks for what, and what it costs.
        (job,) = (each["id"] for each in (await requested(nodes, {"do": "jobs"}, at="b"))[-1]["jobs"])
        status, out, complaints = await nodes.beaver("jobs", "show", job, "-c", "b.toml")
        assert status == 0 and "none: only the client gives rows" in out, complaints
        assert re.search(r"rows given by the client *\S* *40", out), out
        await nodes.kill("b")
        with pytest.raises(mpc.PeerLost, match="^b: "):
            await asking
        with pytest.raises(
            mpc.PeerLost, match=r"^b: did not come within 0.2 s .* Start it, or raise --wait; a party may be left out with --parties"
        ):
            await asked(nodes, "mean", rows=rows, wait=0.2)
        (tmp_path / "b.toml").write_text((tmp_path / "b.toml").read_text().replace("ask =", "allow ="))
        await nodes.start("b")
        await nodes.kill("dealer")
        await until(lambda: "peer=dealer disconnected" in nodes.log("a"))
        with pytest.raises(mpc.Refused, match="^[ab]: has no place for the job, or no connection to the dealer") as caught:
            await asked(nodes, "mean", rows=rows, wait=0.5)
        shown("or no connection to the dealer", caught.value)
        assert "phase=busy dealer, the dealer, is not connected" in nodes.log("a")
        await nodes.start("dealer")
        strange = replace(rows, meaning={"unit of column 'age'": "months"})
        began = time.monotonic()
        with pytest.raises(
            mpc.Disagreement, match="^[ab]: describes the job, or the units or categories of its columns, otherwise than this client"
        ) as caught:
            await asked(nodes, "mean", rows=strange, dataset="patients")
        # Nobody waits for a party that does not begin.
        assert time.monotonic() - began < 15
        shown("otherwise than this client", caught.value)
        said = next(line for name in "ab" for line in nodes.log(name).splitlines() if "Disagreement: lab: " in line)
        shown("describes its columns differently", said.partition("Disagreement: ")[2])
        assert near((await asked(nodes, "mean", rows=rows))["mean"], nodes.data["lab"].mean(axis=0))


async def test_an_interrupted_client_leaves_nothing_behind(tmp_path):
    async with served(tmp_path, ("a", "b"), b=APPROVED) as nodes:
        client = await nodes.spawn("client", "mean", "--data", "own", "--columns", "age", "-c", "lab.toml")
        said = b""
        while b"waiting for approval at b" not in said:
            line = await asyncio.wait_for(client.stderr.readline(), 30)
            assert line, said
            said += line
        client.send_signal(signal.SIGINT)
        _, complaints = await asyncio.wait_for(client.communicate(), 30)
        assert (client.returncode, complaints.decode().splitlines()[-1]) == (130, "stopped")
        for name in "ab":
            async with asyncio.timeout(20):
                while (await requested(nodes, {"do": "jobs"}, at=name))[-1]["jobs"]:
                    await asyncio.sleep(0.02)


async def test_a_client_is_told_where_its_result_is_and_who_has_its_key(tmp_path):
    async with served(tmp_path, ("a", "b"), b=APPROVED) as nodes:
        command = ("client", "mean", "--data", "own", "--columns", "age", "--json", "--out", "late.json", "-c", "lab.toml")
        client = await nodes.spawn(*command)
        while b"waiting for approval at b" not in (line := await asyncio.wait_for(client.stderr.readline(), 30)):
            assert line
        status, _, complaints = await nodes.beaver(*command)
        assert status == 1
        shown("a node or a client with this identity", complaints.strip().splitlines()[-1].removeprefix("ConfigError: "))
        (job,) = (each["id"] for each in (await requested(nodes, {"do": "jobs"}, at="b"))[-1]["jobs"])
        (tmp_path / "late.json").write_text("somebody else's")
        await requested(nodes, {"do": "approve", "id": job}, at="b")
        out, complaints = await asyncio.wait_for(client.communicate(), 30)
        assert client.returncode == 1
        shown("take it from standard output", complaints.decode().strip().splitlines()[-1].removeprefix("ConfigError: "))
        assert near(json.loads(out)["result"]["mean"], nodes.data["lab"][:, :1].mean(axis=0))


# -- without any node ------------------------------------------------------------------------------------------------


class Wire:
    label = "a link"

    def send(self, *parts):
        """Nobody reads."""


def people(**endpoints):
    names = {"a": "party", "b": "party", "dealer": "dealer", "lab": "client", "other": "client"}
    identities = {name: Identity.generate(name) for name in names}
    members = [Member(name, identities[name].public, endpoints.get(name, ("127.0.0.1", 1)), role) for name, role in names.items()]
    return identities, Roster(members)


@pytest.mark.parametrize("receiver", ["dealer", "other"])
def test_a_client_speaks_with_parties_only(receiver):
    identities, roster = people(lab=None, other=None)
    script = respond(Wire(), identities[receiver], roster, lambda _: True)
    next(script)
    hello = Hello("lab", receiver, roster.digest, local_suites(), secrets.token_bytes(32), fingerprint(identities["lab"].public))
    with pytest.raises(mpc.AuthenticationFailed) as caught:
        script.send(hello.encode())
    shown("a client, which speaks with parties only", caught.value)


async def test_a_client_asks_those_that_it_can_reach(tmp_path):
    nodes, file = served(tmp_path), tmp_path / "roster.toml"
    file.write_text(Roster(replace(each, endpoint=None) if each.name == "c" else each for each in Roster.load(file).members).dump())
    what = {"rows": given(nodes.data["lab"])}
    with pytest.raises(mpc.ConfigError) as caught:
        await asked(nodes, "mean", **what)
    shown("and a client only dials", caught.value)
    (own,) = [each for each in own_files(load_node_config(tmp_path / "lab.toml"), tmp_path / "lab.toml") if each.what == "out of reach"]
    assert own.found.startswith("c: no endpoint") and not own.remedy
    async with nodes:
        found = await asked(nodes, "mean", parties=["a", "b"], **what)
        assert near(found["mean"], nodes.data["lab"].mean(axis=0))


def test_what_a_party_says_of_another_names_both():
    shown("the job ended, since OTHER found it", heard("a", "lost", "b", "lab"))
    shown("ended the job, since it found this client", heard("a", "misbehaved", "lab", "lab"))
    assert heard("a", "denied", "b", "lab").party == "b"


async def test_a_client_follows_no_program_that_needs_the_shapes_of_the_parties_data():
    with pytest.raises(mpc.ProgramError) as caught:
        await follow(["a", "b"], "lab", []).inputs([1.0])
    shown("a client cannot follow a program", caught.value)


def test_the_task_of_a_client_is_what_its_parties_sign():
    task = Task("mean", "", ("age",), ("a", "b"), client=Client("lab", 6, (7,), {"a": "0" * 64, "b": "1" * 64}))
    assert unpack_task(task.pack()).program == task.program
    for changed in (
        replace(task.client, rows=7),
        replace(task.client, portions={"a": "0" * 64, "b": "2" * 64}),
        replace(task.client, powers=(8,)),
    ):
        assert replace(task, client=changed).program != task.program
    assert "client" not in replace(task, client=None).pack()
