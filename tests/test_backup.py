"""The commands of docs/operations.md work as written, on nodes that run, were lost or are upgraded.

They are those of the sections "The audit log", "Policy and roster anew", "Backup and restore" and "Upgrades".
"""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import subprocess
from datetime import UTC, datetime, timedelta

from mpc.membership.identity import Identity
from mpc.membership.roster import Roster
from tests.jobs import entries, recorded
from tests.nodes import PATIENCE, Nodes
from tests.rosters import signed
from tests.test_operations import TEXT, blocks
from tests.waiting import until

ROTATE, RENEW, BACKUP, RESTORE, UPGRADE = (body.splitlines() for machine, _, body in blocks("bash", TEXT) if machine == "hospital_a")
TOMORROW = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
WRITTEN = ("audit.log", "audit.log.0001", "audit.log.head", "key", "policy.toml", "state", "toml")


def organised(home):
    """Two hospitals and a dealer as the document has them, with a roster that all signed."""
    nodes = Nodes(home, names=("hospital_a", "hospital_b"))
    roster = Roster.load(home / "roster.toml")
    identities = [Identity.load(home / f"{member.name}.key") for member in roster.members]
    (home / "roster.toml").write_text(signed(roster, *identities).dump())
    config = (home / "hospital_a.toml").read_text()
    allow = next(line for line in config.splitlines() if line.startswith("allow"))
    (home / "hospital_a.toml").write_text(config.replace(allow, 'policy = "hospital_a.policy.toml"'))
    (home / "hospital_a.policy.toml").write_text(allow)
    return nodes


async def done(nodes, lines):
    """The output of the commands, each of which must end well."""
    said = {}
    for line in lines:
        first, *words = line.split()
        if first == "beaver":
            status, said[line], complaints = await nodes.beaver(*words)
            assert status == 0, complaints
        else:
            subprocess.run(line, shell=True, check=True, cwd=nodes.folder, timeout=PATIENCE)
    return said


async def mean(nodes):
    status, _, complaints = await nodes.run("mean", "--columns", "age", at="hospital_a")
    assert status == 0, complaints


async def test_a_node_is_copied_while_it_runs_and_brought_back_from_an_older_copy(tmp_path):
    nodes = organised(tmp_path)
    async with nodes:
        await mean(nodes)
        said = await done(nodes, ROTATE)
        assert "4 entries in 2 files, all in order and signed" in said[ROTATE[1]]
        said = await done(nodes, BACKUP)
        assert "4 entries in 2 files, all in order and signed" in said[BACKUP[-1]]
        await mean(nodes)
        noted = entries(nodes, "hospital_a")[-1]["previous"]
        assert (await done(nodes, UPGRADE))[UPGRADE[0]].splitlines()[1].startswith("wire ")
        node = nodes.processes["hospital_a"]
        node.send_signal(signal.SIGTERM)
        await asyncio.wait_for(node.wait(), PATIENCE)
        # The log alone, with a head that knows of more.
        (tmp_path / "hospital_a.audit.log").write_bytes((tmp_path / "backup" / "hospital_a.audit.log").read_bytes())
        status, _, complaints = await nodes.beaver("party", "-c", "hospital_a.toml")
        assert (status, "was cut off, with all after it" in complaints) == (1, True), complaints
        for name in WRITTEN:
            (tmp_path / f"hospital_a.{name}").unlink()
        said = await done(nodes, RESTORE)
        assert "4 entries in 2 files, all in order and signed" in said[RESTORE[1]]
        await nodes.start("hospital_a")
        await mean(nodes)
        assert [entry["kind"] for entry in entries(nodes, "hospital_a")] == ["continued", "started", "ended"]
        status, out, _ = await nodes.beaver("audit", "verify", "-c", "hospital_a.toml", "--head", noted)
        assert (status, "entries were cut off or replaced" in out) == (1, True), out
        await recorded(nodes, "hospital_b", 6)
        assert (await nodes.beaver("audit", "verify", "-c", "hospital_b.toml"))[1].count("6 entries, all in order") == 1


async def test_a_node_takes_the_next_version_of_the_roster_while_it_runs(tmp_path):
    nodes = organised(tmp_path)
    async with nodes:
        await mean(nodes)
        first = Roster.load(tmp_path / "roster.toml")
        fresh = Identity.generate("hospital_b")
        moved = dataclasses.replace(first["hospital_b"], public=fresh.public, retiring=first["hospital_b"].public, retires=TOMORROW)
        others = [first["hospital_a"], first["dealer"]]
        second = Roster([*others, moved], version=2, previous=first.digest)
        signing = [fresh, *(Identity.load(tmp_path / f"{member.name}.key") for member in others)]
        (tmp_path / "roster.v2.toml").write_text(signed(second, *signing).dump())
        *before, hangup, shown = (line.replace("$NODE", str(nodes.processes["hospital_a"].pid)) for line in RENEW)
        said = await done(nodes, before)
        assert "version 2, digest" in said[before[-1]]
        # Its node does not know of that yet, and so the peers' rosters are the same as its own.
        assert f"roster in use: version 1, digest {first.digest.hex()[:16]}: the node takes the file's" in said[before[-1]]
        await done(nodes, [hangup])
        await until(lambda: f"version 2 of the roster with digest {second.digest.hex()} count" in nodes.log("hospital_a"))
        assert "renewed" in (await done(nodes, [shown]))[shown]
        for name in ("hospital_b", "dealer"):
            config = tmp_path / f"{name}.toml"
            config.write_text(config.read_text().replace("roster.toml", "roster.v2.toml"))
            nodes.processes[name].send_signal(signal.SIGHUP)
            await until(lambda name=name: "version 2 of the roster" in nodes.log(name))
        await mean(nodes)
        assert "in use" not in (await done(nodes, before[-1:]))[before[-1]]
        assert [(entry["kind"], entry["roster"]) for entry in entries(nodes, "hospital_a")] == [
            *[(kind, first.digest.hex()) for kind in ("started", "ended")],
            *[(kind, second.digest.hex()) for kind in ("renewed", "started", "ended")],
        ]
        # Another day's backup has the newer version, and the key that a rotation made.
        (tmp_path / "hospital_a.0123abcd.key").touch()
        await done(nodes, BACKUP)
        assert {"roster.toml", "roster.v2.toml", "hospital_a.key", "hospital_a.0123abcd.key"} <= {
            file.name for file in (tmp_path / "backup").iterdir()
        }
