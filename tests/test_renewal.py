"""SIGHUP lets a running node read its policy and its roster again: all of it or nothing, and no job under way is dropped."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import signal
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import mpc
from mpc.membership.identity import Identity
from mpc.membership.roster import Member, Revoked, Roster
from mpc.node import node_of
from parties.config import load_node_config
from parties.renewal import Renewal
from tests.error_rows import logged, row_of
from tests.jobs import MEAN, RUN, Hostile, decided, entries, jobs_of, mean_is_right, recorded, requested, waiting
from tests.nodes import PATIENCE, Nodes
from tests.rosters import signed
from tests.waiting import until

RENEWAL = [
    "took while the job was proposed asks for approval",
    "this node took another roster before the job started",
    "changes where this member listens",
    "holds another key than the one that this node runs with",
    "wants more rows of all parties",
    "did not start while its approval stood",
    "or a file that it names, was not read",
]
"""Rows of docs/errors.md that this file provokes."""
TAKEN, KEPT = "phase=renewal from now on", "phase=renewal nothing was taken anew, the node goes on with what it has: "
TOMORROW = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
SUM = {**MEAN, "protocol": "sum"}


class Renewed(Nodes):
    """Nodes with a policy in a file of its own each, and a roster that all have signed."""

    def __init__(self, folder, **more):
        super().__init__(folder, **more)
        self.keys = {path.stem: Identity.load(path) for path in folder.glob("*.key")}
        self.roster = Roster.load(folder / "roster.toml")
        self.publish(self.roster)
        for name in self.names:
            self.configure(name, "allow = .*", f'policy = "{name}.policy.toml"')
            self.policy(name, 'allow = ["mean"]')
            self.configure(name, 'path = ".*"', f'database = "sqlite:{name}.db"\nsql = "SELECT * FROM p"')
            with closing(sqlite3.connect(folder / f"{name}.db")) as database:
                database.execute("CREATE TABLE p (age, bmi, score)")
                database.executemany("INSERT INTO p VALUES (?, ?, ?)", self.data[name].tolist())
                database.commit()

    def publish(self, roster, *unsigned):
        """Write the roster into everybody's file, with all signatures except those named."""
        self.roster = signed(
            Roster.of(roster.content), *(key for name, key in self.keys.items() if name in roster and name not in unsigned)
        )
        (self.folder / "roster.toml").write_text(self.roster.dump())

    def client(self, name):
        """A new member, which signs from now on."""
        self.keys[name] = Identity.generate(name)
        return Member(name, self.keys[name].public, None, "client")

    def next(self, *members, revoked=()):
        """The next version: with these members in place of those of the same names, or beside them."""
        said = self.roster.content
        kept = {each.name: each for each in (*said.members, *members)}
        more = [Revoked(name, key, "laptop stolen", date(2026, 5, 1)) for name, key in revoked]
        return Roster(kept.values(), version=said.version + 1, previous=self.roster.digest, revoked=[*said.revoked, *more])

    def configure(self, name, pattern, text):
        file = self.folder / f"{name}.toml"
        file.write_text(re.sub(pattern, text, file.read_text(), count=1))

    def policy(self, name, text):
        (self.folder / f"{name}.policy.toml").write_text(text)

    async def hangup(self, name, *, taken=True):
        """Let a node read its files again, and wait until it has; the line in its log."""
        before = len(self.log(name))
        self.processes[name].send_signal(signal.SIGHUP)
        await until(lambda: re.search(f"{TAKEN}|{KEPT}", self.log(name)[before:]) and self.log(name).endswith("\n"))
        (line,) = re.findall(f"(?:{TAKEN}|{KEPT}).*", self.log(name)[before:])
        assert line.startswith(TAKEN if taken else KEPT), line
        return line.removeprefix(KEPT)

    def hold(self, name):
        """Let readers of this node's data wait until this connection is closed."""
        held = sqlite3.connect(self.folder / f"{name}.db", isolation_level=None)
        held.execute("BEGIN EXCLUSIVE")
        return closing(held)


async def answer(asked):
    return (await asyncio.wait_for(asked, PATIENCE))[-1]


def ask(nodes, task=MEAN, wait=20):
    return asyncio.create_task(requested(nodes, {**RUN, "task": task, "wait": wait}))


async def reading(nodes, at):
    """The id of the job for which this node reads its data."""
    async with asyncio.timeout(PATIENCE):
        while not (
            found := [job["id"] for job in await jobs_of(nodes, at) if job["progress"]["phase"] == "reading" and job["state"] == "running"]
        ):
            await asyncio.sleep(0.02)
    return found[0]


async def test_a_new_policy_counts_for_new_jobs_and_what_was_admitted_before_finishes(tmp_path):
    async with Renewed(tmp_path) as nodes:
        before = load_node_config(tmp_path / "b.toml").rules.digest.hex()
        with nodes.hold("b"):
            under_way = ask(nodes)
            job = await reading(nodes, "b")
            nodes.policy("b", 'version = "2"\nallow = ["sum"]\nmin_rows = 1000')
            line = await nodes.hangup("b")
            after = load_node_config(tmp_path / "b.toml").rules.digest.hex()
            assert (
                line
                == f"{TAKEN} the policy '2' with digest {after} and version 1 of the roster with digest {nodes.roster.digest.hex()} count"
            )
            assert (await answer(ask(nodes)))["text"].startswith("b: the job was denied by b")
        assert "result" in await answer(under_way)
        for name in "ac":
            nodes.policy(name, 'allow = ["sum"]')
            await nodes.hangup(name)
        assert (await answer(ask(nodes, SUM)))["text"].startswith("b: the job was denied by b")
        assert "rule `min_rows`" in nodes.log("b")
        await recorded(nodes, "b", 2, "ended")
        said = [(entry["kind"], entry.get("job"), entry["policy"]["digest"]) for entry in entries(nodes, "b")]
        assert said[0] == ("started", job, before)
        assert said[1] == ("renewed", None, after)
        assert ("ended", job, before) in said
        assert [(kind, policy) for kind, _, policy in said[-2:]] == [("started", after), ("ended", after)]
        renewed = next(entry for entry in entries(nodes, "b") if entry["kind"] == "renewed")
        assert (renewed["roster"], renewed["roster_version"], renewed["policy"]["version"]) == (nodes.roster.digest.hex(), 1, "2")
        status, out, _ = await nodes.beaver("audit", "show", "-c", "b.toml")
        assert (status, f"version 1 of the roster, policy {after[:16]}" in out) == (0, True), out
        status, out, complaints = await nodes.beaver("audit", "verify", "-c", "b.toml")
        assert (status, "all in order and signed" in out) == (0, True), complaints


WRONG = {
    "unknown protocol 'maen'": lambda nodes: nodes.policy("a", 'allow = ["maen"]'),
    "unknown key 'alow'": lambda nodes: nodes.policy("a", 'alow = ["mean"]'),
    "is not TOML": lambda nodes: nodes.policy("a", "allow = ["),
    "everybody may write this policy": lambda nodes: (nodes.folder / "a.policy.toml").chmod(0o666),
    "cannot be read as a roster (No such file or directory)": lambda nodes: nodes.configure("a", "roster.toml", "missing.toml"),
    "is not signed by b, d; each runs `beaver roster sign": lambda nodes: nodes.publish(
        nodes.next(Member("d", Identity.generate("d").public, ("d.example", 9))), "b"
    ),
    "changes where this member listens": lambda nodes: nodes.publish(
        nodes.next(dataclasses.replace(nodes.roster["a"], endpoint=("127.0.0.1", 9)))
    ),
    'its role in the roster must be "party"': lambda nodes: nodes.publish(
        nodes.next(dataclasses.replace(nodes.roster["a"], role="client"))
    ),
    "holds another key than the one that this node runs with": lambda nodes: another_key(nodes),
}


def another_key(nodes):
    """Put a's next key into its key file; the roster lists it beside the old one."""
    fresh, old = Identity.generate("a"), nodes.keys["a"]
    (nodes.folder / "a.key").unlink()
    fresh.save(nodes.folder / "a.key")
    nodes.keys["a"] = fresh
    nodes.publish(nodes.next(dataclasses.replace(nodes.roster["a"], public=fresh.public, retiring=old.public, retires=TOMORROW)))


async def test_whatever_is_wrong_the_node_goes_on_with_what_it_has_and_says_so(tmp_path):
    async with Renewed(tmp_path) as nodes:
        files = {
            path: path.read_bytes()
            for path in (tmp_path / "a.toml", tmp_path / "a.policy.toml", tmp_path / "roster.toml", tmp_path / "a.key")
        }
        good, key = nodes.roster, nodes.keys["a"]
        for text, spoil in WRONG.items():
            spoil(nodes)
            line = await nodes.hangup("a", taken=False)
            assert text in line, line
            if text in RENEWAL:
                assert row_of(text).shows(line), line
            for path, content in files.items():
                path.write_bytes(content)
                path.chmod(0o600)
            nodes.roster, nodes.keys["a"] = good, key
        # An audit log that cannot be written, too: what counts stands there first, and a roster that does not count is not remembered.
        (tmp_path / "a.audit.log").rename(tmp_path / "away")
        nodes.publish(nodes.next())
        assert "the audit log cannot be written" in await nodes.hangup("a", taken=False)
        assert json.loads((tmp_path / "a.state").read_text())["roster"]["version"] == 1
        (tmp_path / "away").rename(tmp_path / "a.audit.log")
        (tmp_path / "roster.toml").write_bytes(files[tmp_path / "roster.toml"])
        assert [entry["kind"] for entry in entries(nodes, "a")] == []
        await mean_is_right(nodes)


async def test_what_nobody_has_signed_yet_is_judged_by_the_new_policy(tmp_path):
    async with Renewed(tmp_path) as nodes:
        nodes.policy("b", 'ask = ["mean"]')
        await nodes.hangup("b")
        # It waits at b, whose new policy lets it wait on, and then does not.
        asked = ask(nodes)
        job = await waiting(nodes, "b")
        nodes.policy("b", 'ask = ["mean", "sum"]')
        await nodes.hangup("b")
        await decided(nodes, "approve", await waiting(nodes, "b"), "b")
        assert (await answer(asked))["id"] == job
        asked = ask(nodes)
        await waiting(nodes, "b")
        nodes.policy("b", 'allow = ["sum"]')
        await nodes.hangup("b")
        assert (await answer(asked))["text"].startswith("b: the job was denied by b")
        assert "rule `allow`: 'mean' is not on the list of b (sum)" in nodes.log("b")
        # The own ones: proposed without approval, and with it.
        nodes.policy("b", 'ask = ["mean"]')
        await nodes.hangup("b")
        for text, end in (
            ('ask = ["mean"]', RENEWAL[0]),
            ('allow = ["sum"]', "rule `allow`"),
        ):
            asked = ask(nodes)
            await waiting(nodes, "b" if end == RENEWAL[0] else "a")
            nodes.policy("a", text)
            await nodes.hangup("a")
            said = await answer(asked)
            assert (said["error"], end in said["text"]) == ("PolicyDenied", True), said
            # Nobody waits for it in vain.
            async with asyncio.timeout(PATIENCE):
                while any(each["state"] == "waiting for approval" for each in [*await jobs_of(nodes, "a"), *await jobs_of(nodes, "b")]):
                    await asyncio.sleep(0.02)
        assert row_of(RENEWAL[0]).shows(
            next(each["error"] for each in await jobs_of(nodes, "a") if RENEWAL[0] in each["error"]).partition(": ")[2]
        )


async def test_a_pool_that_became_too_small_is_denied_or_asked_for_more_rows(tmp_path):
    async with Renewed(tmp_path) as nodes:
        nodes.policy("b", 'ask = ["mean"]')
        await nodes.hangup("b")
        asked = ask(nodes)
        await waiting(nodes, "b")
        nodes.policy("b", 'ask = ["mean"]\nmin_pool_rows = 100000')
        await nodes.hangup("b")
        assert (await answer(asked))["text"].startswith("b: the job was denied by b")
        assert logged(RENEWAL[4], nodes.log("b"))


async def test_files_of_a_disk_that_does_not_answer_hold_nothing_up(tmp_path, caplog):
    nodes = Renewed(tmp_path)
    settings = load_node_config(tmp_path / "a.toml")
    taken, asked, answers = [], asyncio.Event(), threading.Event()

    async def take(fresh):
        taken.append(fresh)

    # Whatever is read blocks its thread, as a disk may.
    for check, comes in ((lambda _: answers.wait(), 0), (lambda _: None, 1)):
        renewal = Renewal(tmp_path / "a.toml", settings, node_of(settings), check, take, 0.5)
        serving = asyncio.create_task(renewal.serve(asked))
        asked.set()
        await until(lambda: logged(RENEWAL[6], caplog.text))
        await until(lambda comes=comes: len(taken) == comes)
        serving.cancel()
        await asyncio.wait([serving])
    assert [each.name for each in taken] == ["a"]
    assert nodes.names == ("a", "b", "c")
    answers.set()


async def test_what_needs_a_restart_is_named_and_all_else_is_taken(tmp_path):
    async with Renewed(tmp_path, names=("a", "b")) as nodes:
        nodes.configure("a", "control = ", "max_jobs = 7\ncontrol = ")
        nodes.configure("a", "lost = .*", "lost = 4.0")
        nodes.policy("a", 'allow = ["mean", "sum"]')
        for _ in range(2):
            await nodes.hangup("a")
        for key in ("max_jobs", "clocks"):
            text = f"phase=renewal key '{key}' of a.toml was changed: restart the node for it, until then the old value counts"
            assert nodes.log("a").count(text) == 2
        status, _, complaints = await nodes.run("sum", "--columns", "age")
        assert (status, "b: the job was denied by b" in complaints) == (5, True), complaints


async def test_a_revoked_key_ends_its_connections_and_jobs_and_no_other(tmp_path):
    async with Renewed(tmp_path) as nodes:
        await mean_is_right(nodes)
        stolen, fresh = nodes.keys["c"], Identity.generate("c")
        two = {**MEAN, "parties": ["a", "b"]}
        with nodes.hold("b"):
            asked, with_c = ask(nodes, two), ask(nodes)
            async with asyncio.timeout(PATIENCE):
                while sum(each["state"] == "running" for each in await jobs_of(nodes, "b")) < 2:
                    await asyncio.sleep(0.02)
            nodes.keys["c"] = fresh
            nodes.publish(nodes.next(dataclasses.replace(nodes.roster["c"], public=fresh.public), revoked=[("c", stolen.public)]))
            for name in ("a", "b", "dealer"):
                line = await nodes.hangup(name)
                assert line.endswith(f"version 2 of the roster with digest {nodes.roster.digest.hex()} count")
                assert "peer=c disconnected: c: uses a key that was revoked on 2026-05-01 (laptop stolen)" in nodes.log(name)
            # a has read its rows already, and waits for the others to join.
            ended = await answer(with_c)
            assert (ended["error"], ended["text"].startswith("c: uses a key that was revoked")) == ("PeerLost", True), ended
        assert "result" in await answer(asked)
        # The old key comes no more; the new one does, at nodes that were never restarted.
        assert "c: has another roster" in (await answer(ask(nodes, wait=1)))["text"]
        await nodes.kill("c")
        fresh.save(tmp_path / "c.new.key")
        nodes.configure("c", "c.key", "c.new.key")
        await nodes.start("c")
        await until(lambda: all(nodes.log(name).count("peer=c connected") == 2 for name in ("a", "b", "dealer")))
        await mean_is_right(nodes)
        status, out, complaints = await nodes.beaver("audit", "verify", "-c", "a.toml")
        assert (status, "all in order and signed" in out) == (0, True), complaints
        status, out, complaints = await nodes.beaver("check", "-c", "a.toml")
        assert (status, out.count("same"), "version 1 when connected" in out) == (0, 1, True), out + complaints


async def test_a_job_of_the_roster_before_is_proposed_anew_and_two_rosters_never_share_one(tmp_path):
    async with Renewed(tmp_path, names=("a", "b")) as nodes:
        nodes.policy("b", 'ask = ["mean"]')
        await nodes.hangup("b")
        task = {**MEAN, "parties": ["a", "b"]}
        asked = ask(nodes, task)
        job = await waiting(nodes, "b")
        shown = [(await requested(nodes, {"do": "show", "id": job}, at="b"))[-1]["digest"]]
        nodes.publish(nodes.next(nodes.client("c")))
        # Only b has it: what is approved there is not what a proposed, and both say so.
        await nodes.hangup("b")
        shown.append((await requested(nodes, {"do": "show", "id": job}, at="b"))[-1]["digest"])
        assert shown[0] != shown[1]
        await decided(nodes, "approve", job, "b")
        assert (await answer(asked))["text"].startswith(
            "b: accepted the job without a valid signature of it; see that both use the same version"
        )
        asked = ask(nodes, task)
        await waiting(nodes, "b")
        await nodes.hangup("a")
        ended = await answer(asked)
        assert (ended["error"], row_of(RENEWAL[1]).shows(ended["text"])) == ("ConfigError", True), ended
        await nodes.hangup("dealer")
        asked = ask(nodes, task)
        await decided(nodes, "approve", await waiting(nodes, "b"), "b")
        assert "result" in await answer(asked)


async def test_an_approval_does_not_outlive_the_roster_that_its_job_named(tmp_path):
    async with Renewed(tmp_path) as nodes:
        for name in "bc":
            nodes.policy(name, 'ask = ["mean"]')
            await nodes.hangup(name)
        asked = ask(nodes)
        job = await waiting(nodes, "b")
        await waiting(nodes, "c")
        await decided(nodes, "approve", job, "b")
        async with asyncio.timeout(PATIENCE):
            while [each["state"] for each in await jobs_of(nodes, "b")] != ["approved"]:
                await asyncio.sleep(0.02)
        nodes.publish(nodes.next(nodes.client("lab")))
        await nodes.hangup("b")
        assert await jobs_of(nodes, "b") == []
        assert logged(RENEWAL[5], nodes.log("b"))
        await nodes.hangup("a")
        assert RENEWAL[1] in (await answer(asked))["text"]


async def test_what_a_key_signed_before_it_was_revoked_starts_nothing(tmp_path):
    nodes = Renewed(tmp_path)
    await nodes.start("a", "b", "dealer")
    async with mpc.open_node(tmp_path / "c.toml") as node:
        c = Hostile(node)
        await until(lambda: not node.mesh.missing(["a", "b", "dealer"]))
        for one, other in (("a", "b"), ("a", "dealer"), ("b", "dealer")):
            await until(lambda one=one, other=other: f"peer={other} connected" in nodes.log(one))
        job = c.propose(MEAN)
        c.propose(MEAN, job, to="b")
        assert await c.answers({job}) == await c.answers({job}, "b") == ["accepted"]
        stolen = nodes.keys["b"]
        nodes.keys["b"] = fresh = Identity.generate("b")
        nodes.publish(nodes.next(dataclasses.replace(nodes.roster["b"], public=fresh.public), revoked=[("b", stolen.public)]))
        await nodes.hangup("a")
        c.answer("a", job, "start", c.signatures(job) | c.signature(job, MEAN))
        await until(lambda: f"job={job} phase=failed" in nodes.log("a"))
    assert "Disagreement: b: its signature of this job is missing or wrong, so its data is not read" in nodes.log("a")
    await nodes.__aexit__()
