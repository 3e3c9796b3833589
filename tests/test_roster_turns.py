"""Commands that change one roster at the same moment do not undo each other's changes."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from contextlib import asynccontextmanager

import pytest

from mpc.membership.identity import Identity, encode_key
from mpc.membership.members import Content, Member
from mpc.membership.roster import Roster
from mpc.membership.roster_file import signature_line
from tests import nodes
from tests.waiting import until

PEOPLE = [Identity.generate(name) for name in "abcdef"]
PATIENCE = 60.0


def unsigned():
    roles = ["dealer", *["party"] * 5]
    return Roster.of(
        Content(tuple(Member(who.name, who.public, ("127.0.0.1", 9000), role) for who, role in zip(PEOPLE, roles, strict=True)))
    )


@asynccontextmanager
async def begun(folder, command, *more):
    """`beaver roster` in a process of its own, as far as its last argument: the yielded function gives that the text that it waits for."""
    way = folder / f"way{len(list(folder.iterdir()))}"
    os.mkfifo(way)
    process = await nodes.spawn(folder, "roster", command, *more, way)
    ends = []

    def open_there():
        assert process.returncode is None
        # There is no other end before the command reads this argument.
        with contextlib.suppress(OSError):
            ends.append(os.open(way, os.O_WRONLY | os.O_NONBLOCK))
        return ends

    async def give(text):
        with os.fdopen(ends.pop(), "w") as file:
            file.write(text)

    try:
        await until(open_there, within=PATIENCE)
        yield process, give
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ended(process):
    _, complaints = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 0, complaints.decode()


async def test_signatures_that_are_accepted_at_the_same_moment_all_stay(tmp_path):
    roster = unsigned()
    (tmp_path / "roster.toml").write_text(roster.dump())
    async with asyncio.TaskGroup() as group:
        ready = asyncio.Barrier(len(PEOPLE))

        async def accepts(who):
            async with begun(tmp_path / who.name, "accept", tmp_path / "roster.toml") as (process, give):
                await ready.wait()
                await give(signature_line(who.name, roster.sign(who)))
                await ended(process)

        for who in PEOPLE:
            (tmp_path / who.name).mkdir()
            group.create_task(accepts(who))
    assert Roster.load(tmp_path / "roster.toml").unsigned == []
    assert sorted(each.name for each in tmp_path.iterdir()) == [*"abcdef", "roster.toml"]


async def test_members_that_are_added_at_the_same_moment_are_all_in_the_new_roster(tmp_path):
    async with asyncio.TaskGroup() as group:
        ready = asyncio.Barrier(len(PEOPLE))

        async def adds(who):
            async with begun(tmp_path / who.name, "add", tmp_path / "roster.toml") as (process, give):
                await ready.wait()
                await give(f'[[member]]\nname = "{who.name}"\nkey = "{encode_key(who.public)}"\nendpoint = "127.0.0.1:9000"\n')
                await ended(process)

        for who in PEOPLE:
            (tmp_path / who.name).mkdir()
            group.create_task(adds(who))
    assert [member.name for member in Roster.load(tmp_path / "roster.toml").members] == list("abcdef")


async def test_a_command_waits_while_another_one_changes_the_roster(tmp_path):
    roster, path = unsigned(), tmp_path / "roster.toml"
    path.write_text(roster.dump())
    (tmp_path / "b").mkdir()
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        async with begun(tmp_path / "b", "accept", path) as (process, give):
            await give(signature_line("b", roster.sign(PEOPLE[1])))
            # However slow this machine is, it does not end; and one that did not wait would have ended by now.
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(process.wait(), 1.0)
            roster.accept("c", roster.sign(PEOPLE[2]))
            path.write_text(roster.dump())
            fcntl.flock(handle, fcntl.LOCK_UN)
            await ended(process)
    finally:
        os.close(handle)
    assert Roster.load(path).unsigned == ["a", "d", "e", "f"]
