"""Jobs between real nodes, hostile ones included, and what each node then knows of them."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import numpy as np

import mpc
from mpc.messaging.job import describe
from parties.config import load_node_config
from parties.control import ask, socket_path
from parties.jobs.job import Task, fresh_id, unpack_task
from parties.jobs.records import named
from tests.nodes import Nodes
from tests.waiting import until

COLUMNS = ("--columns", "age,bmi")


def near(found, wanted, apart=1e-5):
    return np.allclose(list(found.values()), wanted, atol=apart)


async def mean_is_right(nodes, at="a"):
    status, out, complaints = await nodes.run("mean", *COLUMNS, "--json", at=at)
    assert status == 0, complaints
    answer = json.loads(out)
    assert near(answer["result"]["mean"], nodes.pooled[:, :2].mean(axis=0)), answer
    assert answer["result"]["rows"] == len(nodes.pooled), answer
    return answer


ENDLESS = ("linear_regression", "--columns", "age,bmi,score", "--set", "target=score", "--set", "solver=sgd", "--set", "epochs=5000",
           "--set", "batch_size=20")  # fmt: skip


MEAN = Task("mean", "patients", ("age", "bmi"), ("a", "b", "c")).pack()


class Hostile:
    """Member c in this process: sends what it likes, and keeps what it gets."""

    def __init__(self, node):
        self.mesh, self.got, self.downs, self.reply = node.mesh, [], [], None
        self.mesh.subscribe(self)

    def send(self, to, **body):
        self.mesh.channel(to).control(**body)

    def answer(self, to, job, verdict, signatures=None):
        self.send(to, kind="answer", job=job, verdict=verdict, signatures=signatures or {}, rows=0)

    def signature(self, job, task):
        task = unpack_task(task)
        return {"c": self.mesh.identity.sign("job", describe(job, self.mesh, task.parties, named(task)).digest)}

    def signatures(self, job):
        """All signatures that were sent for a job."""
        found = [body["signatures"] for _, body in self.got if body["kind"] == "answer" and body["job"] == job]
        return {name: signature for each in found for name, signature in each.items()}

    def propose(self, task, job=None, to="a"):
        job = job or fresh_id()
        self.send(to, kind="propose", job=job, task=task)
        return job

    async def answers(self, jobs, name="a", within=20.0):
        def found():
            return [body["verdict"] for teller, body in self.got if teller == name and body["kind"] == "answer" and body["job"] in jobs]

        await until(lambda: len(found()) >= len(jobs), within)
        return found()

    def control(self, name, body):
        self.got.append((name, body))
        if body["kind"] == "propose" and self.reply is not None:
            self.answer(name, body["job"], self.reply, self.signature(body["job"], body["task"]))

    def peer_up(self, name):
        pass

    def peer_down(self, name, fault):
        self.downs.append(name)


@asynccontextmanager
async def hostile(folder, **settings):
    nodes = Nodes(folder, **settings)
    for name in "ab":
        config = folder / f"{name}.toml"
        config.write_text(config.read_text().replace("join = 20.0", "join = 3.0"))
    await nodes.start("a", "b", "dealer")
    try:
        async with mpc.open_node(folder / "c.toml") as node:
            c = Hostile(node)
            await until(lambda: not node.mesh.missing(["a", "b", "dealer"]))
            # They take a job only when they are connected with each other too.
            for one, other in (("a", "b"), ("a", "dealer"), ("b", "dealer")):
                await until(lambda one=one, other=other: f"peer={other} connected" in nodes.log(one))
            yield nodes, c
    finally:
        await nodes.__aexit__()


async def requested(nodes, request, at="a"):
    """All messages of one request to a node, without a command's start-up."""
    return [message async for message in ask(socket_path(load_node_config(nodes.folder / f"{at}.toml")), request)]


RUN = {"do": "run", "task": MEAN, "wait": 20}


def governed(folder, **rules):
    """Nodes, some of which have a policy of their own in place of the short one."""
    nodes = Nodes(folder, extra="")
    for name, text in rules.items():
        config = folder / f"{name}.toml"
        lines = [line for line in config.read_text().splitlines() if not line.startswith("allow")]
        config.write_text("\n".join(lines) + f"\n[policy]\n{text}\n")
    return nodes


async def jobs_of(nodes, at):
    return (await requested(nodes, {"do": "jobs"}, at=at))[-1]["jobs"]


async def waiting(nodes, at):
    """The id of the job that waits for approval there."""
    async with asyncio.timeout(20):
        while not (found := [job["id"] for job in await jobs_of(nodes, at) if job["state"] == "waiting for approval"]):
            await asyncio.sleep(0.02)
    return found[0]


async def decided(nodes, what, job, at):
    answer = (await requested(nodes, {"do": what, "id": job}, at=at))[-1]
    assert "event" in answer, answer


def entries(nodes, at, *kinds):
    """The entries of this node's audit log, only those of `kinds` if any are named."""
    listed = [json.loads(line) for line in (nodes.folder / f"{at}.audit.log").read_text().splitlines()]
    return [entry for entry in listed if not kinds or entry["kind"] in kinds]


async def recorded(nodes, at, number, *kinds):
    """The entries once there are `number` of them: a party may write a job's end after the asker has the answer."""
    await until(lambda: len(entries(nodes, at, *kinds)) >= number)
    return entries(nodes, at, *kinds)
