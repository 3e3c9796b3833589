"""Rows of docs/errors.md that commands provoke: real processes, their messages and their exit statuses."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from contextlib import AsyncExitStack

from mpc.framing.handshake import Hello
from mpc.membership.identity import Identity, encode_key
from mpc.membership.roster import Member, Roster
from mpc.network.mesh import Clocks
from mpc.node import Node
from mpc.transport.tcp import TcpNetwork
from tests.error_rows import row_of
from tests.jobs import ENDLESS
from tests.nodes import Nodes
from tests.rosters import signed

AT_ONCE = 3
"""Commands that run at a time."""


# -- commands without a node: what is wrong in the folder, and what is called ------------------------------------


def edit(name, old, new):
    def do(home):
        text = (home / name).read_text()
        assert old in text
        (home / name).write_text(text.replace(old, new))

    return do


def top(line):
    """`line` before all others of a's configuration."""
    return lambda home: (home / "a.toml").write_text(line + "\n" + (home / "a.toml").read_text())


def elsewhere(host):
    """a listens at `host`, by a roster that all have signed."""

    def do(home):
        known = Roster.load(home / "roster.toml")
        (home / "roster.toml").write_text(signed(known, *(Identity.load(home / f"{each.name}.key") for each in known.members)).dump())
        top(f'listen = "{host}:9001"')(home)

    return do


def status(**keys):
    """A table [status]."""
    lines = "\n".join(["", "[status]", *(f"{key} = {value}" for key, value in keys.items()), ""])
    return lambda home: (home / "a.toml").write_text((home / "a.toml").read_text() + lines)


def roster(change):
    """The roster with its members changed."""

    def do(home):
        members = list(Roster.load(home / "roster.toml").members)
        text = (home / "roster.toml").read_text()
        (home / "roster.toml").write_text(change(text, {member.name: member for member in members}))

    return do


def key_of(members, name):
    return encode_key(members[name].public)


def without(text, *names):
    return "\n\n".join(block for block in text.split("\n\n") if not any(f'name = "{name}"' in block for name in names))


def another_key(home):
    (home / "a.key").unlink()
    Identity.generate("a").save(home / "a.key")


def taken_port(home):
    """A port that this process holds until the test ends."""
    held = socket.create_server(("127.0.0.1", 0))
    HELD.append(held)
    top(f'listen = "127.0.0.1:{held.getsockname()[1]}"')(home)


def open_folder(home):
    (home / "open").mkdir()
    (home / "open").chmod(0o777)
    edit("a.toml", '"a.sock"', '"open/a.sock"')(home)


HELD = []
PARTY = "party -c a.toml"
OFFLINE = {
    "FILE: cannot be read (REASON); correct its path": (None, "party -c none.toml"),
    "is not TOML": (top("x = = 3"), PARTY),
    "a key or a table is there again": (top('key = "a.key"'), PARTY),
    "a client only dials and has no": (None, "init lab --role client --endpoint h:2"),
    "cannot get the result; correct": (None, "estimate mean --columns age --parties 3 --receivers 4"),
    "is no file, and no dataset": (None, "client mean --columns age --data nothing -c a.toml"),
    "has no entry of a job": (lambda home: (home / "a.audit.log").touch(), "audit show --job zz -c a.toml"),
    "FILE, line N: unknown key 'KEY'": (top('alow = ["mean"]'), PARTY),
    "FILE: key 'KEY' is missing": (edit("a.toml", 'roster = "roster.toml"\n', ""), PARTY),
    "input should be": (top('min_rows = "10"'), PARTY),
    "must be two finite numbers": (edit("a.toml", "[0, 120]", "[0]"), PARTY),
    "must be less than the second": (edit("a.toml", "[0, 120]", "[120, 0]"), PARTY),
    "is a key of the whole file": (status(max_jobs=3), PARTY),
    "key 'KEY' must be a table": (top("relay = 3"), PARTY),
    "a byte there is not UTF-8": (lambda home: (home / "a.toml").write_bytes(b"# \xe9\n"), PARTY),
    "is the address of no machine": (None, "init z --endpoint 0.0.0.0:1"),
    "is no endpoint; write": (top('listen = "nowhere"'), PARTY),
    "unknown protocol 'NAME'": (edit("a.toml", '"mean"', '"meen"'), PARTY),
    "is longer than the N bytes": (edit("a.toml", '"a.sock"', f'"{"x" * 120}.sock"'), PARTY),
    "no such key file": (lambda home: (home / "a.key").unlink(), PARTY),
    "others may read or write this key": (lambda home: (home / "a.key").chmod(0o644), PARTY),
    "everybody may write this": (lambda home: (home / "a.toml").chmod(0o666), PARTY),
    "is no Beaver key file": (lambda home: (home / "a.key").write_text("a key\n"), PARTY),
    "but the configuration is for": (edit("a.toml", '"a.key"', '"b.key"'), PARTY),
    "a key is never overwritten": (None, "keygen a"),
    "is no name; use": (None, "keygen a/b"),
    "does not list 'NAME'": (edit("roster.toml", '"a"', '"aa"'), PARTY),
    "gives NAME another key than FILE": (another_key, PARTY),
    "two members are called": (edit("roster.toml", '"b"', '"a"'), PARTY),
    "have the same key": (roster(lambda text, m: text.replace(key_of(m, "b"), key_of(m, "a"))), PARTY),
    "[[member]] N: unknown key": (edit("roster.toml", "role", "roll"), PARTY),
    "[[member]] N (NAME): a public key reads": (roster(lambda text, m: text.replace(key_of(m, "b"), "ed25519:xyz")), PARTY),
    "entry N: a public key reads": (status(address='"127.0.0.1:9464"', audit_keys='["ed25519:xyz"]'), PARTY),
    "is not on loopback": (status(address='"0.0.0.0:9464"'), PARTY),
    "the status page cannot listen": (status(address='"192.0.2.1:9464"', exposed="true"), PARTY),
    "two members are dealers": (edit("roster.toml", '"party"', '"dealer"'), PARTY),
    "fewer than two parties": (roster(lambda text, _: without(text, "b", "c")), PARTY),
    "one of them needs one": (roster(lambda text, _: re.sub("endpoint = .*", "", text)), PARTY),
    "its role in the roster must be": (None, "party -c dealer.toml"),
    "REASON; free the port": (taken_port, PARTY),
    "finds no address for the host": (elsewhere("nowhere.invalid"), PARTY),
    "is no address of this machine": (elsewhere("192.0.2.1"), PARTY),
    "must belong to this user": (open_folder, PARTY),
    "PATH: cannot be made": (edit("a.toml", '"a.sock"', '"a.csv/a.sock"'), PARTY),
    "whether a node answers there": (lambda home: (home / "a.sock").symlink_to("a.sock"), PARTY),
    "is there already and no socket": (lambda home: (home / "a.sock").touch(), PARTY),
    "no node answers at": (None, "jobs list -c a.toml"),
    "cannot be written (REASON); choose": (None, "run mean --dataset patients --columns age --out a.csv -c a.toml"),
    "is no protocol of this version": (None, "estimate meen --columns age"),
    "no parameter 'NAME'": (None, "estimate variance --columns age --set dof=1"),
    "must be written NAME": (None, "estimate variance --columns age --set ddof"),
    "parameter NAME=VALUE must be": (None, "estimate variance --columns age --set ddof=x"),
    "parameter 'NAME' is missing": (None, "estimate linear_regression --columns age,bmi"),
    "names no KIND of the job": (None, "estimate linear_regression --columns age,bmi --set target=score"),
    "takes COUNT column(s)": (None, "estimate highest --columns age,bmi"),
    "is for at most N parties": (None, "estimate linear_regression --columns age,bmi --set target=bmi --set moments=secret --parties 13"),
    "takes a column of every party": (None, "estimate linear_regression --columns age,bmi --set target=bmi --set split=columns"),
    "is given twice": (None, "estimate variance --columns age --set ddof=1 --set ddof=0"),
    "is named twice among the columns": (None, "estimate mean --columns age,age"),
    "receiver 'NAME' is no party of the job": (None, "run mean --dataset patients --columns age --to zed -c a.toml"),
    "names nobody": (None, "run mean --dataset patients --columns age --to= -c a.toml"),
    "names no workload": (None, "bench --only= --size 128 --repeats 1"),
    "there is no workload": (None, "bench --only W99"),
    "needs a size of at least": (None, "bench --only W7 --size 5"),
    "a picture is an .svg or a .png file": (None, "bench --plot times.pdf"),
    "for the picture": (None, "bench --plot none/times.svg"),
}


# -- commands beside nodes ---------------------------------------------------------------------------------------

HEADER = "age,bmi,score\n"
DATA = {
    "gone": None,
    "bare": "",
    "semicolons": "age;bmi;score\n1;2;3\n",
    "latin": HEADER.encode() + b"1,2,\xe9\n",
    "renamed": "Age,bmi,score\n1,2,3\n",
    "ragged": HEADER + "1,2\n",
    "blank": HEADER + "1,,3\n",
    "words": HEADER + "1,two,3\n",
    "endless": HEADER + "1,inf,3\n",
    "old": HEADER + "121,2,3\n",
    "nobody": HEADER,
}
BY_COLUMNS = "run linear_regression --dataset patients --columns x,y --set split=columns"
TAKING_PART = {
    "FILE: a node or a client with this identity": PARTY,
    "is known here": f"jobs show {'0' * 32} -c a.toml",
    "is running here": f"jobs cancel {'0' * 32} -c a.toml",
    "is no party of the roster": "run mean --dataset patients --columns age --parties a,zed -c a.toml",
    "has none of the columns": f"{BY_COLUMNS} --set target=x --parties a,b -c a.toml",
    "and names all: N take part": "run mean --dataset patients --columns age --parties a -c a.toml",
    "correct --wait": "run mean --dataset patients --columns age --parties a,b --wait 1000001 -c a.toml",
    "and all receivers must be among": "run mean --dataset patients --columns age --parties b,c -c a.toml",
    "unknown dataset": "run mean --dataset patient --columns age --parties a,b -c a.toml",
    "declares no column": "run mean --dataset patients --columns agee --parties a,b -c a.toml",
    "rule `allow`": "run variance --dataset patients --columns age --parties a,b -c c.toml",
    "rule `min_rows`: dataset": "run mean --dataset nobody --columns age --parties a,b -c b.toml",
    "the job was denied by": "run variance --dataset patients --columns age --parties a,c -c a.toml",
    **{
        key: f"run mean --dataset {name} --columns age,bmi --parties a,b -c a.toml"
        for name, key in {
            "gone": "dataset 'NAME': cannot be read",
            "bare": "is empty; its first line",
            "semicolons": "the cells are separated by",
            "latin": "is not UTF-8 text",
            "renamed": "there is no such column",
            "ragged": "but the header has N",
            "blank": "the value is missing",
            "words": "text, but a number is needed",
            "endless": "no finite number",
            "old": "outside the declared range",
        }.items()
    },
}
"""Commands beside a, b, c and the dealer, which all run."""

WAITING = {
    "has another roster": "other",
    "speaks wire version": "older",
    "hung up during the handshake": "keyless",
    "did not greet as a Beaver party": "junk",
    "announced a frame": "web",
    "is connected but does not answer": "idle",
    "a party may be left out with --parties": "nobody",
}
"""Rows that a job with an odd member meets, and which."""

ONE_BY_ONE = (
    "is busy: it",
    "was cancelled: ",
    "has no result",
    "so FILE is not written",
    "another node answers there",
    "was lost before the job started",
    "the node ended before it answered",
)
COMMANDS = [*OFFLINE, *TAKING_PART, *WAITING, *ONE_BY_ONE]


def prepared(home):
    """Nodes with data of every kind, and room for one job each."""
    nodes = Nodes(
        home,
        names=("a", "b", "c", *WAITING.values()),
        extra="max_jobs = 1\nmin_rows = 0\n",
        allow=["mean", "variance", "linear_regression"],
        lost=4.0,  # one of them is stopped, and waited for until then
    )
    for name in "abc":
        with (home / f"{name}.toml").open("a") as file:
            for dataset, content in DATA.items():
                file.write(
                    f'[datasets.{dataset}]\npath = "{dataset}.csv"\ncolumns = {{ age.range = [0, 120], bmi = {{}}, score = {{}} }}\n'
                )
                if content is not None:
                    (home / f"{dataset}.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    edit("b.toml", "min_rows = 0", "min_rows = 5")(home)
    edit("c.toml", '"variance", ', "")(home)
    return nodes


async def answers(stack, endpoint, frame):
    """A server at `endpoint` that says `frame` to whoever connects."""

    async def answer(reader, writer):
        await reader.read(1)
        writer.write(frame)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, *endpoint)
    stack.callback(server.close)


def keyless(known):
    """A member that announces the key which the roster gives it, and does not hold that key."""
    return type("Keyless", (Identity,), {"public": known["keyless"].public})("keyless", bytes(32))


def framed(data):
    """The bytes of a frame as a link carries it."""
    return len(data).to_bytes(4, "little") + data


async def odd_members(stack, home):
    """One member for every entry of WAITING, in this process."""
    known = Roster.load(home / "roster.toml")

    async def node(identity, listed):
        clocks = Clocks(5.0, 5.0, 5.0, repair=0.0)
        await stack.enter_async_context(Node(identity, listed, TcpNetwork(known[identity.name].endpoint), clocks=clocks))

    stranger = Member("stranger", Identity.generate("stranger").public, None)
    await node(Identity.load(home / "other.key"), Roster([*known.members, stranger]))
    await node(keyless(known), known)
    await node(Identity.load(home / "idle.key"), known)
    older = Hello("older", "a", known.digest, 3, bytes(32), bytes(16), version=8)
    await answers(stack, known["older"].endpoint, framed(older.encode()))
    await answers(stack, known["junk"].endpoint, framed(b"junk"))
    await answers(stack, known["web"].endpoint, b"HTTP/1.1 400 Bad Request\r\n\r\n")


class Told:
    """Runs commands and compares what they say with their rows."""

    def __init__(self):
        self.wrong = []
        self._room = asyncio.Semaphore(AT_ONCE)

    async def check(self, case, nodes, command):
        async with self._room:
            self.compare(case, *await nodes.beaver(*command.split()))

    def compare(self, case, status, _, complaints):
        row = row_of(case)
        last = complaints.strip().splitlines()[-1] if complaints.strip() else ""
        kind, _, text = last.partition(": ")
        if (kind, status) != (row.kind, row.status) or not row.shows(text) or "Traceback" in complaints:
            self.wrong.append((case, status, complaints))


async def compare_offline(told, cases, folder):
    """Run every case's command in a folder of its own, changed as the case says."""
    for number, (case, (change, command)) in enumerate(cases.items()):
        home = folder / str(number)
        home.mkdir()
        nodes = Nodes(home)
        if change is not None:
            change(home)
        await told.check(case, nodes, command)


async def test_commands_without_a_node(tmp_path):
    told = Told()
    await compare_offline(told, OFFLINE, tmp_path)
    for held in HELD:
        held.close()
    assert told.wrong == [], "\n".join(map(str, told.wrong))


async def test_commands_beside_nodes(tmp_path):
    told, nodes = Told(), prepared(tmp_path)
    async with AsyncExitStack() as stack:
        await odd_members(stack, tmp_path)
        stack.push_async_exit(nodes)
        await nodes.start("dealer", "a", "b", "c")
        for case, command in TAKING_PART.items():
            await told.check(case, nodes, command)
        await asyncio.gather(
            *(
                told.check(case, nodes, f"run mean --dataset patients --columns age --parties a,{name} --wait 1 -c a.toml")
                for case, name in WAITING.items()
            )
        )
        await one_by_one(told, nodes)
    assert told.wrong == [], "\n".join(map(str, told.wrong))


async def started(nodes, parties):
    """A job of a that does not end, and its id."""
    job = await nodes.spawn("run", *ENDLESS, "--dataset", "patients", "--parties", parties, "-c", "a.toml")
    said = ""
    while "started" not in said:
        line = await asyncio.wait_for(job.stderr.readline(), 60)
        assert line, said + nodes.log("a")
        said += line.decode()
    return job, re.findall(r"[0-9a-f]{32}", said)[-1]


async def ended(job):
    _, complaints = await asyncio.wait_for(job.communicate(), 30)
    return job.returncode, "", complaints.decode()


async def one_by_one(told, nodes):
    """Jobs that fill all places and end badly; a member that is stopped."""
    mean = "run mean --dataset patients --columns age"
    job, name = await started(nodes, "a,b,c")
    await told.check("is busy: it", nodes, f"{mean} --parties a,b,c --wait 0 -c b.toml")
    await told.check("so FILE is not written", nodes, f"jobs show {name} --out early.json -c a.toml")
    assert not (nodes.folder / "early.json").exists()
    assert (await nodes.beaver("jobs", "cancel", name, "-c", "a.toml"))[0] == 0
    told.compare("was cancelled: ", *await ended(job))
    await told.check("has no result", nodes, f"jobs show {name} -c a.toml")
    job, _ = await started(nodes, "a,b,c")
    await nodes.kill("c")
    status, _, complaints = await ended(job)
    # Its neighbours see it first, or are told: two rows.
    text = complaints.strip().splitlines()[-1].removeprefix("PeerLost: ")
    assert any(row_of(case).shows(text) for case in ("the connection was lost", "was lost at PLACE")), complaints
    assert status == 4
    (nodes.folder / "twin.toml").write_text((nodes.folder / "c.toml").read_text().replace('"c.sock"', '"a.sock"'))
    await told.check("another node answers there", nodes, "party -c twin.toml")
    nodes.processes["b"].send_signal(signal.SIGSTOP)
    await told.check("was lost before the job started", nodes, f"{mean} --parties a,b -c a.toml")
    nodes.processes["b"].send_signal(signal.SIGCONT)
    job, _ = await started(nodes, "a,b")
    await nodes.kill("a")
    told.compare("the node ended before it answered", *await ended(job))
