"""One process per identity: a second node is told which process runs and what to do, and a stale lock never stands in the way."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

import mpc
from mpc.membership.identity import Identity
from mpc.membership.lock import IdentityLock
from mpc.testing.simulate import MemoryNetwork, simulated_roster
from tests.error_rows import row_of
from tests.organisations import PATIENCE, ROOT, Organisations
from tests.ports import free_port

LOCK = ["restore this key, or let this user"]
"""Rows of docs/errors.md that this file provokes."""
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no such lock")

HOLDER = """
import os, sys
from pathlib import Path
from mpc.membership.lock import IdentityLock

lock = IdentityLock(Path(sys.argv[1]))
lock.acquire()
child = os.fork() if sys.argv[2] == "forks" else None
if child != 0:
    print(child or "held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(key, how="holds"):
    """A process that holds the lock of `key`, and what it said first."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(key), how], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        try:
            yield process, process.stdout.readline().decode().strip()
        finally:
            process.kill()


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "a.key"
    Identity.generate("a").save(path)
    return path


@pytest.fixture
def config(tmp_path):
    """The configuration of the dealer, whose node needs nobody else to be open."""
    organisations = Organisations(tmp_path)
    for one in organisations.everyone:
        one.listener.close()
    path = organisations.dealer.config
    path.write_text(f'listen = "127.0.0.1:{free_port()}"\n{path.read_text()}')
    return path


def taken(key):
    """The error of a second lock on `key`; None if it is free."""
    lock = IdentityLock(key)
    try:
        lock.acquire()
    except mpc.ConfigError as fault:
        return str(fault)
    lock.release()
    return None


async def test_a_second_program_with_the_identity_of_a_running_node_is_told_what_to_do(tmp_path):
    async with Organisations(tmp_path) as all_:
        attempts = [mpc.connect(all_.a.config, job="trial-7"), mpc.open_node(all_.a.config)]
        for attempt in attempts:
            with pytest.raises(mpc.ConfigError) as caught:
                await attempt.__aenter__()
            assert str(caught.value) == (
                f"{tmp_path / 'a.key'}: a node or a client with this identity is already running (process {all_.a.process.pid}). "
                "`beaver run` hands a node a job, a client ends with its own; or give this program another identity (`beaver keygen`)"
            )
        with pytest.raises(mpc.ConfigError, match="already running"), mpc.connect_sync(all_.a.config, job="trial-7"):
            raise AssertionError
        # The running node was not disturbed; killed, it leaves nothing in the way.
        assert {name: outcome["result"] for name, outcome in (await all_.run("j", "total")).items()} == dict.fromkeys("abc", [6.0])
        all_.a.signal(signal.SIGKILL)
        await all_.a.process.wait()
        assert taken(tmp_path / "a.key") is None
        await all_.a.start()
        assert taken(tmp_path / "a.key") is not None
    assert taken(tmp_path / "a.key") is None


async def test_the_lock_is_held_as_long_as_the_node_is_open_and_no_longer(config, tmp_path):
    key = tmp_path / "dealer.key"
    node = mpc.open_node(config)
    assert taken(key) is None
    async with node:
        assert f"{key}: a node or a client with this identity is already running in this process" in taken(key)
    assert taken(key) is None
    with pytest.raises(ZeroDivisionError):
        async with mpc.open_node(config):
            raise ZeroDivisionError
    assert taken(key) is None
    task = asyncio.create_task(forever(mpc.open_node(config), opened := asyncio.Event()))
    await opened.wait()
    assert taken(key) is not None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert taken(key) is None


async def forever(node, opened):
    async with node:
        opened.set()
        await asyncio.Event().wait()


async def test_a_node_that_cannot_listen_gives_the_lock_back(config, tmp_path):
    listen = config.read_text().split('"')[1]
    with socket.create_server((listen.rpartition(":")[0], int(listen.rpartition(":")[2]))):
        with pytest.raises(mpc.ConfigError, match="cannot listen"):
            async with mpc.open_node(config):
                raise AssertionError
        assert taken(tmp_path / "dealer.key") is None
    async with mpc.open_node(config):
        pass


def test_the_lock_of_a_dead_process_does_not_matter(key):
    with holder(key) as (process, _):
        assert f"(process {process.pid})" in taken(key)
        process.kill()
        process.wait()
        assert taken(key) is None


def test_a_forked_child_does_not_keep_it(key):
    with holder(key, "forks") as (process, child):
        assert taken(key) is not None
        process.kill()
        process.wait()
        # The child has the same standard input, so it lives on.
        os.kill(int(child), 0)
        assert taken(key) is None


def test_a_child_does_not_give_it_back_and_cannot(key):
    lock = IdentityLock(key)
    lock.acquire()
    child = os.fork()
    if child == 0:
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)
    # Neither does a program that was started from here, while it lives.
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False) as other:
        assert taken(key) is not None
        lock.release()
        assert taken(key) is None
        other.communicate(b"\n", PATIENCE)


def test_every_link_is_the_same_lock_and_read_only_files_are_locked_too(key, tmp_path):
    folder = tmp_path / "read-only"
    folder.mkdir()
    os.link(key, folder / "hard.key")
    (folder / "soft.key").symlink_to(key)
    key.chmod(0o400)
    folder.chmod(0o500)
    lock = IdentityLock(folder / "hard.key")
    lock.acquire()
    assert "already running" in taken(folder / "soft.key")
    assert "already running" in taken(key)
    lock.release()
    assert sorted(path.name for path in folder.iterdir()) == ["hard.key", "soft.key"]
    folder.chmod(0o700)


def test_where_the_process_is_not_known_the_text_goes_without_it(key, monkeypatch):
    monkeypatch.setattr("mpc.membership.lock.Path", lambda _: key.parent / "no-such-file")
    lock = IdentityLock(key)
    lock.acquire()
    assert "is already running. `beaver run`" in taken(key)
    lock.release()


def test_a_file_system_without_locks_is_told_and_does_not_stop_the_node(key, monkeypatch, caplog):
    def no_locks(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("mpc.membership.lock.fcntl.flock", no_locks)
    lock = IdentityLock(key)
    lock.acquire()
    lock.release()
    assert "a.key cannot be locked (No locks available)" in caplog.text


def test_a_key_that_vanished_is_named(key):
    key.unlink()
    told = taken(key)
    assert told == f"{key}: cannot be opened (No such file or directory); restore this key, or let this user read it"
    assert row_of(LOCK[0]).shows(told)


async def test_nodes_of_a_simulation_take_no_lock(key):
    identities, roster = simulated_roster(2)
    for _ in range(2):
        node = mpc.Node(identities[0], roster, MemoryNetwork().of("p0"))
        await node.__aenter__()
        assert node._lock is None
        await node.__aexit__(None, None, None)


def test_a_copy_of_the_key_is_another_file(key, tmp_path):
    lock = IdentityLock(key)
    lock.acquire()
    shutil.copy(key, tmp_path / "copy.key")
    assert taken(tmp_path / "copy.key") is None
    lock.release()
