"""`mpc.connect_sync`, beside real processes: whatever happens to a blocking session, nothing hangs and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import threading
from pathlib import Path

import pytest
import pytest_asyncio

import mpc
import protocols
from mpc.blocking import blocking
from tests.error_rows import row_of
from tests.member import endless, product, total
from tests.organisations import PATIENCE, ROOT, Organisations, Stopwatch

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCRIPT = """
import socket, sys, time
import mpc
from parties.logs import configure
from tests.member import PROGRAMS, say

configure(1)

async def blocks(s):
    say(rounds=0)
    time.sleep(600)

async def spins(s):
    while True:
        say(rounds=0)
        try:
            await __import__("asyncio").sleep(60)
        except BaseException:
            say(swallowed=True)

config, fd, job, name = sys.argv[1:]
program = {**PROGRAMS, "blocks": blocks, "spins": spins}[name]
try:
    say(opening=job)
    with mpc.connect_sync(config, job=job, listener=socket.socket(fileno=int(fd))) as s:
        try:
            say(job=job, result=s.run(program))
        except KeyboardInterrupt:
            say(interrupted=True)
            raise
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def all_(tmp_path_factory):
    """The nodes b, c and the dealer run; a is this process or its script."""
    all_ = Organisations(tmp_path_factory.mktemp("organisations"))
    all_.parties.remove(all_.a)
    all_.everyone.remove(all_.a)
    async with all_:
        try:
            yield all_
        finally:
            all_.a.listener.close()


def connect_sync(all_, job, **more):
    return mpc.connect_sync(all_.a.config, job=job, listener=all_.a.listener.dup(), **more)


async def start_script(all_, job, program):
    fd = all_.a.listener.fileno()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SCRIPT, str(all_.a.config), str(fd), job, program),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=[fd],
        start_new_session=True,
    )
    assert (await event(process))["opening"] == job
    return process


async def event(process):
    line = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
    assert line, (await process.stderr.read()).decode()
    return json.loads(line)


def ask(all_, job, program="total"):
    for party in all_.parties:
        party.ask(job, program)


async def outcomes(all_):
    return [await party.outcome() for party in all_.parties]


def assert_plain_lines(log):
    for line in log.decode().splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING) node=a ", line), line


def left_behind():
    """Threads and open files of this process."""
    folder = Path("/proc/self/fd")
    return {thread.name for thread in threading.enumerate()}, len(list(folder.iterdir())) if folder.exists() else 0


async def next_job_works(all_, job="next"):
    ask(all_, job)
    with connect_sync(all_, job) as s:
        assert s.run(total) == [6.0]
    assert [outcome["result"] for outcome in await outcomes(all_)] == [[6.0]] * 2


async def test_programs_run_one_after_the_other_where_a_loop_is_running_already(all_):
    await next_job_works(all_, "warm")
    before = left_behind()
    for number in range(3):
        ask(all_, f"j{number}", "product")
        with connect_sync(all_, f"j{number}") as s:
            assert (s.index, s.n, s.names) == (0, 3, ("a", "b", "c"))
            assert abs(s.run(product, plan=number == 1)[0] - 6.0) < 1e-3
            assert s.cost.rounds > 0
        assert all(abs(outcome["result"][0] - 6.0) < 1e-3 for outcome in await outcomes(all_))
        assert left_behind() == before
    with pytest.raises(mpc.ProgramError, match="has ended"):
        s.run(total)


async def test_arguments_several_programs_and_a_planned_one_stay_in_step_with_one_task_elsewhere(all_):
    async def thrice(s, values, *, scale=1.0):
        sums = [await protocols.secure_sum(s, values) for _ in range(3)]
        return [float(each[0]) * scale for each in sums]

    ask(all_, "raised", "raises")
    with pytest.raises(mpc.PeerLost, match=r"^b: left at secure_sum\.0"), connect_sync(all_, "raised") as s:
        assert s.run(protocols.secure_sum, [1.0])[0] == 6.0
        assert s.run(thrice, [1.0], scale=2.0)
    await outcomes(all_)
    await next_job_works(all_)


async def test_a_planned_program_takes_shares_by_name(all_):
    async def factors(s):
        return (await s.inputs([s.index + 2.0], bound=100.0))[:2]

    async def multiplied(s, *, x, y):
        assert (x + s.zero(1)).shape == (1,)
        return (await s.reveal(await mpc.mul(s, x, y))).tolist()

    ask(all_, "named", "product")
    with connect_sync(all_, "named") as s:
        x, y = s.run(factors)
        assert abs(s.run(multiplied, plan=True, y=y, x=x)[0] - 6.0) < 1e-3
    await outcomes(all_)


async def test_an_exception_of_the_program_comes_out_as_itself_and_the_peers_learn_where_but_not_what(all_):
    fault = ValueError("a secret number: 4711")

    async def broken(s):
        await product(s)
        raise fault

    before = left_behind()
    ask(all_, "broken", "endless")
    with pytest.raises(ValueError) as caught, connect_sync(all_, "broken") as s:
        s.run(broken)
    assert caught.value is fault
    assert left_behind() == before
    for outcome in await outcomes(all_):
        assert outcome["error"] in ("PeerLost", "Disagreement")
        assert "4711" not in outcome["text"]
    await next_job_works(all_)


async def test_a_program_that_catches_what_run_raised_may_go_on(all_):
    async def local_fault(s):
        raise LookupError

    ask(all_, "j")
    with connect_sync(all_, "j") as s:
        for kind, program in ((LookupError, local_fault), (mpc.ProgramError, lambda s: 5), (asyncio.CancelledError, cancels)):
            with pytest.raises(kind):
                s.run(program)
        with pytest.raises(SystemExit):
            s.run(exits)
        assert s.run(adds, 3, more=4) == 7
        assert s.run(total) == [6.0]
    assert [outcome["result"] for outcome in await outcomes(all_)] == [[6.0]] * 2


async def cancels(s):
    raise asyncio.CancelledError


async def adds(s, number, *, more):
    return number + more


async def exits(s):
    sys.exit(3)


async def test_an_exception_outside_of_run_ends_the_session_everywhere(all_):
    for fault in (ZeroDivisionError("4711"), StopIteration(4711), GeneratorExit(), SystemExit(4711)):
        ask(all_, "early")
        with pytest.raises(type(fault)) as caught, connect_sync(all_, "early"):
            raise fault
        assert caught.value is fault
        frames = []
        trace = fault.__traceback__
        while trace is not None:
            frames.append(Path(trace.tb_frame.f_code.co_filename).name)
            trace = trace.tb_next
        assert frames == ["test_connect_sync.py"]
        for outcome in await outcomes(all_):
            assert outcome["error"] == "PeerLost"
            assert outcome["text"].startswith("a: left ")
    await next_job_works(all_)


async def test_a_peer_that_dies_is_named(all_):
    ask(all_, "doomed", "endless")

    async def kills(s):
        await product(s)
        all_.c.signal(signal.SIGKILL)
        return await endless(s)

    with pytest.raises(mpc.PeerLost, match="^c: "), connect_sync(all_, "doomed") as s:
        s.run(kills)
    assert (await all_.b.outcome())["text"].startswith("c: ")
    await all_.c.process.wait()
    await all_.c.start()
    await next_job_works(all_)


async def test_a_group_of_the_sessions_own_fault_comes_out_as_the_fault(all_):
    ask(all_, "grouped", "raises")

    async def grouped(s):
        await total(s)
        async with asyncio.TaskGroup() as group:
            group.create_task(protocols.secure_sum(s, [1.0]))

    with pytest.raises(mpc.PeerLost, match="^b: left"), connect_sync(all_, "grouped") as s:
        with pytest.raises(ExceptionGroup) as inside:
            s.run(grouped)
        raise inside.value
    await outcomes(all_)


async def test_faults_of_opening_leave_nothing_behind(all_):
    before = left_behind()
    folder = all_.a.config.parent
    (folder / "hurried.toml").write_text(all_.a.config.read_text().replace("join = 20.0", "join = 0.5"))
    lonely = mpc.connect_sync(folder / "hurried.toml", job="lonely", listener=all_.a.listener.dup())
    with pytest.raises(mpc.PeerLost, match=r"within 0\.5 s; job 'lonely' waited for"), lonely:
        raise AssertionError
    with pytest.raises(mpc.ConfigError, match="cannot be read"), mpc.connect_sync(folder / "none.toml", job="j"):
        raise AssertionError
    with pytest.raises(mpc.ConfigError, match="'zed' is not in the roster"), connect_sync(all_, "j", parties=iter(["a", "zed"])):
        raise AssertionError
    assert left_behind() == before


SYNC = ["this session is not open", "a program of this session is running", "this session was opened before"]
"""Rows of docs/errors.md that the test below provokes."""


def wrong_use(case, call):
    with pytest.raises(mpc.ProgramError) as caught:
        call()
    assert row_of(case).shows(str(caught.value)), caught.value


async def test_wrong_uses_are_named(all_):
    closed = mpc.connect_sync(all_.a.config, job="j")
    wrong_use("this session is not open", lambda: closed.run(total))
    ask(all_, "j")
    with connect_sync(all_, "j") as s:

        async def nested(_):
            s.run(total)

        wrong_use("a program of this session is running", lambda: s.run(nested))
        wrong_use("this session was opened before", s.__enter__)
        assert forked(lambda: s.run(total)) == "ProgramError"
        assert forked(lambda: s.__exit__(None, None, None)) == "nothing"
        assert s.run(total) == [6.0]
    await outcomes(all_)


def forked(action):
    """The error that `action` raises in a forked child."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            action()
            os.write(write, b"nothing")
        except BaseException as fault:
            os.write(write, type(fault).__name__.encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        return pipe.read().decode()


# -- Ctrl-C ----------------------------------------------------------------------------------------------------


async def test_ctrl_c_cancels_the_session_everywhere(all_):
    ask(all_, "interrupted", "endless")
    process = await start_script(all_, "interrupted", "endless")
    assert "rounds" in await event(process)
    process.send_signal(signal.SIGINT)
    clock = Stopwatch()
    assert await asyncio.wait_for(process.wait(), PATIENCE) == 130
    for outcome in await outcomes(all_):
        assert outcome["error"] == "PeerLost"
        assert outcome["text"].startswith("a: left at ")
    assert clock.seconds < 2.0
    assert_plain_lines(await process.stderr.read())
    await next_job_works(all_)


async def test_ctrl_c_while_peers_are_waited_for(all_):
    process = await start_script(all_, "lonely", "total")
    while b"phase=start" not in (line := await asyncio.wait_for(process.stderr.readline(), PATIENCE)):
        assert line, "it ended before it waited for anyone"
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), PATIENCE) == 130
    assert_plain_lines(await process.stderr.read())
    await next_job_works(all_, "lonely")


@pytest.mark.parametrize("program", ["blocks", "spins"])
async def test_a_second_ctrl_c_does_not_wait_for_a_program_that_will_not_end(all_, program):
    ask(all_, "stuck", "total")
    process = await start_script(all_, "stuck", program)
    assert "rounds" in await event(process)
    process.send_signal(signal.SIGINT)
    while "interrupted" not in await event(process):
        pass
    if program == "spins":
        for outcome in await outcomes(all_):
            assert outcome["error"] == "PeerLost"
            assert outcome["text"].startswith("a: left")
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), PATIENCE) == 130
    if program == "blocks":
        assert [outcome["error"] for outcome in await outcomes(all_)] == ["PeerLost"] * 2


def interrupted(after):
    """Raise KeyboardInterrupt in this main thread as soon as `after` is set."""

    def watch():
        after.wait(PATIENCE)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


async def test_blocking_is_interrupted_where_a_loop_is_running():
    running, cleaned = threading.Event(), []

    async def work():
        try:
            running.set()
            await asyncio.sleep(60)
        finally:
            cleaned.append(threading.current_thread().name)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    watcher = interrupted(running)
    try:
        with pytest.raises(KeyboardInterrupt):
            blocking(work())
    finally:
        signal.signal(signal.SIGINT, before)
        watcher.join()
    assert cleaned == ["beaver"]
    assert "beaver" not in {thread.name for thread in threading.enumerate()}
