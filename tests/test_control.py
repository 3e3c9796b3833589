"""The local socket of a node: whatever becomes of a request, the asker is told, and never told a value."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import PIPE

import pytest
import uvloop

from mpc import ConfigError, PolicyDenied
from parties import control
from tests.error_rows import row_of
from tests.nodes import PATIENCE, ROOT
from tests.waiting import until

LOCKS = Path("/proc/locks")


@pytest.mark.parametrize(
    ("fault", "answer", "logged"),
    [
        (PolicyDenied("rule `allow`: no"), {"error": "PolicyDenied", "text": "rule `allow`: no"}, []),
        (KeyError("4711"), {"error": "InternalError", "text": "KeyError in the node; its log says more"}, ["a request failed"]),
    ],
)
async def test_a_request_that_fails_is_answered(tmp_path, caplog, fault, answer, logged):
    async def handler(request, say):
        raise fault

    async with control.serve(tmp_path / "a.sock", handler, logging.getLogger("beaver.a")):
        assert [message async for message in control.ask(tmp_path / "a.sock", {"do": "check"})] == [answer]
    assert [record.getMessage() for record in caplog.records if record.name == "beaver.a"] == logged


def left_by_the_dead(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()


async def echo(request, say):
    say(request)


@contextlib.contextmanager
def full(path):
    """A node at `path` that has taken none of as many requests as there is room for."""
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as waiting:
        listener.bind(str(path))
        listener.listen(0)
        while (one := waiting.enter_context(socket.socket(socket.AF_UNIX))).setblocking(False) or not one.connect_ex(str(path)):
            pass
        yield listener, waiting


@pytest.mark.parametrize("loop", [None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_node_that_takes_no_more_is_asked_once_it_does(tmp_path, loop):
    """Such a node runs: a request waits for it, and another node does not take its place."""
    path, log = tmp_path / "a.sock", logging.getLogger("beaver.a")

    async def ask():
        return [message async for message in control.ask(path, {"do": "x"})]

    async def main():
        with full(path) as (listener, waiting):
            with pytest.raises(ConfigError, match="another node answers there"):
                async with control.serve(path, echo, log):
                    pass
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ask(), 0.3)
            asking = asyncio.create_task(ask())
            waiting.close()
            async with await asyncio.start_unix_server(answered, sock=listener):
                assert await asyncio.wait_for(asking, PATIENCE) == [{"said": "now"}]

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


async def answered(reader, writer):
    if await reader.readline():
        writer.write(b'{"said": "now"}\n')
    writer.close()
    await writer.wait_closed()


async def test_a_start_removes_the_sockets_that_killed_nodes_left_and_nothing_else(tmp_path):
    mine, alive, busy, dead = (tmp_path / f"{number:016x}.sock" for number in range(4))
    others = [tmp_path / name for name in ("chosen.sock", f"{5:016x}", f"{6:016x}.sock")]
    for path in (mine, dead, *others[:2]):
        left_by_the_dead(path)
    others[2].write_text("no socket")
    log = logging.getLogger("beaver.a")
    with full(busy):
        async with control.serve(alive, echo, log), control.serve(mine, echo, log):
            assert sorted(tmp_path.iterdir()) == sorted([mine, alive, busy, *others])
            for path in (mine, alive):
                assert len([message async for message in control.ask(path, {"do": "x"})]) == 1


SERVES = """
import asyncio, logging, sys
from pathlib import Path
from parties import control

async def main():
    async def echo(request, say):
        say(request)
    async with control.serve(Path(sys.argv[1]), echo, logging.getLogger()):
        print("serves", flush=True)
        await asyncio.to_thread(sys.stdin.read)

print("begins", flush=True)
asyncio.run(main())
"""


async def serving(path):
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVES, path), env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )


async def test_a_node_makes_its_socket_in_turn_with_those_that_remove_dead_ones(tmp_path):
    path, handle = tmp_path / f"{1:016x}.sock", os.open(tmp_path, os.O_RDONLY)
    process = None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        process = await serving(path)
        assert await asyncio.wait_for(process.stdout.readline(), PATIENCE) == b"begins\n"
        # However slow this machine is, there is none; and one that was made out of turn would be there by now.
        with pytest.raises(TimeoutError):
            await until(path.exists, within=1.0)
        fcntl.flock(handle, fcntl.LOCK_UN)

        def there():
            fcntl.flock(handle, fcntl.LOCK_EX)
            try:
                if path.exists():
                    with socket.socket(socket.AF_UNIX) as caller:
                        # Never refused: who has the turn would take it for dead.
                        caller.connect(str(path))
                return path.exists()
            finally:
                fcntl.flock(handle, fcntl.LOCK_UN)

        await until(there, within=PATIENCE)
        assert await asyncio.wait_for(process.stdout.readline(), PATIENCE) == b"serves\n"
        assert [message async for message in control.ask(path, {"do": "x"})] != []
    finally:
        os.close(handle)
        if process is not None:
            await asyncio.wait_for(process.communicate(b""), PATIENCE)
    assert not path.exists()


@pytest.mark.skipif(not LOCKS.exists(), reason="Linux tells who waits for a lock")
async def test_a_node_that_starts_beside_another_does_not_take_its_socket(tmp_path):
    """Two files name one control socket: the second node is refused, though no node was there yet when it began."""
    path, handle = tmp_path / "a.sock", os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    process = await serving(path)
    try:
        await until(lambda: f"-> FLOCK  ADVISORY  WRITE {process.pid} " in LOCKS.read_text(), within=PATIENCE)
        with socket.socket(socket.AF_UNIX) as first:
            first.bind(str(path))
            first.listen()
            there = path.lstat()
            os.close(handle)
            _, said = await asyncio.wait_for(process.communicate(b""), PATIENCE)
            assert os.path.samestat(path.lstat(), there)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert row_of("another node answers there").shows(said.decode().strip().splitlines()[-1].partition("ConfigError: ")[2]), said


def below_a_file(folder):
    (folder / "file").touch()
    return folder / "file" / "a.sock"


def a_link_to_itself(folder):
    (folder / "a.sock").symlink_to("a.sock")
    return folder / "a.sock"


def not_to_be_entered(folder):
    if os.geteuid() == 0:
        pytest.skip("root may enter every folder")
    (folder / "closed").mkdir(0o600)
    return folder / "closed" / "a.sock"


@pytest.mark.parametrize(
    ("make", "reason"),
    [(below_a_file, errno.ENOTDIR), (a_link_to_itself, errno.ELOOP), (not_to_be_entered, errno.EACCES)],
)
async def test_where_nobody_can_tell_whether_a_node_answers_it_is_said_why(tmp_path, make, reason):
    """The message claims neither that a node answers nor that none does, and the socket stays as it is."""
    path = make(tmp_path)
    before = list(tmp_path.rglob("*"))
    if make is not below_a_file:
        with pytest.raises(ConfigError) as caught:
            async with control.serve(path, echo, logging.getLogger("beaver.a")):
                pass
        assert row_of("whether a node answers there").shows(str(caught.value)), caught.value
        assert f"({os.strerror(reason)})" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        [message async for message in control.ask(path, {"do": "x"})]
    assert row_of("whether a node answers there").shows(str(caught.value)), caught.value
    assert f"({os.strerror(reason)})" in str(caught.value)
    assert list(tmp_path.rglob("*")) == before


async def test_a_node_that_closes_leaves_the_socket_of_the_next(tmp_path):
    """A thread removes the socket; here it is not free until another node with the same `control` has started."""
    path, log, busy = tmp_path / "a.sock", logging.getLogger("beaver.a"), threading.Event()
    with ThreadPoolExecutor(1) as threads:
        asyncio.get_running_loop().set_default_executor(threads)
        first = control.serve(path, echo, log)
        await first.__aenter__()
        threads.submit(busy.wait, PATIENCE)
        closing = asyncio.create_task(first.__aexit__(None, None, None))
        await asyncio.sleep(0)
        try:
            with pytest.raises(ConfigError, match="another node answers there"):
                async with control.serve(path, echo, log):
                    pass
            assert [said["do"] async for said in control.ask(path, {"do": "alive"})] == ["alive"]
            # Also the connection of the node that did not start is over.
            await until(lambda: asyncio.all_tasks() == {asyncio.current_task(), closing})
        finally:
            busy.set()
            await closing
        async with control.serve(path, echo, log):
            assert [said["do"] async for said in control.ask(path, {"do": "alive"})] == ["alive"]


async def test_a_node_ends_where_its_socket_cannot_be_removed(tmp_path):
    path = tmp_path / "a.sock"
    async with control.serve(path, echo, logging.getLogger("beaver.a")):
        path.unlink()
        path.mkdir()
    assert path.is_dir()


async def test_a_conversation_that_is_cancelled_ends_what_was_asked_for():
    begun, ended = asyncio.Event(), asyncio.Event()

    async def endless(request, say):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    here, there = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=here)
    conversation = asyncio.create_task(control._converse(reader, writer, endless))
    with there:
        there.sendall(b"{}\n")
        await begun.wait()
        conversation.cancel()
        with pytest.raises(asyncio.CancelledError):
            await conversation
        assert ended.is_set()
