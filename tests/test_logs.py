"""What Beaver's processes log and how they end: one line per event, never a value; signals, core dumps."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import resource
import signal
import subprocess
import sys

import pytest

import mpc
from mpc.testing import simulate
from parties.logs import LONGEST, Formatter, LogFormat, announce, configure
from parties.run import INTERRUPTED
from tests.organisations import PATIENCE, ROOT

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR|CRITICAL) \S.*")
PLANTED = "731048193"


@pytest.fixture
def written(monkeypatch):
    """A stream that the log goes to."""
    for name in ("excepthook", "unraisablehook"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setattr("threading.excepthook", sys.__excepthook__)
    root, ours = logging.getLogger(), logging.getLogger("beaver")
    before = root.handlers[:], ours.level
    stream = io.StringIO()
    configure(0, stream)
    yield stream
    root.handlers[:], _ = before
    ours.setLevel(before[1])


def lines(stream):
    found = stream.getvalue().splitlines()
    assert all(LINE.fullmatch(line) for line in found), found
    return [line.split(" ", 1)[1] for line in found]


def test_fields_come_first_and_are_quoted_where_they_must_be(written):
    log = logging.getLogger("beaver.hospital_a")
    log.info("waiting for %s", "c", extra={"phase": "agreement", "peer": "b", "job": "trial-7"})
    logging.LoggerAdapter(log, {"job": "x peer=evil\nINFO forged"}).warning("phase=failed two\nlines\x1b[31m\r")
    logging.getLogger("beaver").info("hello")
    assert lines(written) == [
        "INFO node=hospital_a job=trial-7 peer=b phase=agreement waiting for c",
        r'WARNING node=hospital_a job="x peer=evil\nINFO forged" phase=failed two\nlines\x1b[31m\r',
        "INFO hello",
    ]


def test_json_has_the_same_fields_and_no_argument_passes_for_one(written):
    configure(0, written, LogFormat.JSON)
    log = logging.getLogger("beaver.a")
    logging.LoggerAdapter(log, {"job": "x"}).info("phase=done rounds=%d payload=%d", 12, 2400)
    log.warning("peer=%s phase=handshake not connected: %s", 'b" peer=evil\n', mpc.PeerLost("b", "hung up"))
    log.info("%s 100%%", "peer=evil phase=done")
    log.info("the log holds 100% of it")
    log.warning("job=%s failed", "y", extra={"error": "Refused"})
    logging.getLogger("aiomqtt").warning("payload %s", PLANTED)
    try:
        fail()
    except ValueError as fault:
        log.error("phase=failed", exc_info=fault)
        configure(1, written, LogFormat.JSON)
        log.error("again", exc_info=fault)
    events = [json.loads(line) for line in written.getvalue().splitlines()]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event.pop("time")) for event in events)
    places = [event["fault"].pop("at") for event in events[-2:]]
    assert [len(each) for each in places] == [1, 2]
    events[-1]["fault"]["after"][0].pop("at")
    about = {"level": "INFO", "node": "a"}
    worse, error = about | {"level": "WARNING"}, about | {"level": "ERROR"}
    assert events == [
        about | {"job": "x", "phase": "done", "rounds": 12, "payload": 2400, "text": ""},
        worse | {"peer": 'b" peer=evil\n', "phase": "handshake", "error": "PeerLost", "text": "not connected: b: hung up"},
        about | {"text": "peer=evil phase=done 100%"},
        about | {"text": "the log holds 100% of it"},
        worse | {"job": "y", "error": "Refused", "text": "failed"},
        {"level": "WARNING", "source": "aiomqtt", "text": "(text withheld: it may hold data)"},
        error | {"phase": "failed", "text": "", "fault": {"kind": "ValueError"}},
        error | {"text": "again", "fault": {"kind": "ValueError", "after": [{"kind": "KeyError"}]}},
    ]
    assert PLANTED not in written.getvalue()


def test_what_is_too_long_is_cut_and_says_so(written):
    """A job may name 60,000 bytes, and whoever denies it names them in its log."""
    log, names = logging.getLogger("beaver.a"), "x" * 60_000
    cut = "x" * LONGEST + "... (56,000 characters more)"
    for form in LogFormat:
        configure(0, written, form)
        log.info("%s", names)
        log.info("phase=started parties=%s", names)
        try:
            raise mpc.ConfigError(names)  # noqa: TRY301
        except mpc.ConfigError:
            log.exception("it failed")
    *plain, whole, fields, failed = written.getvalue().splitlines()
    assert plain[0].endswith(f"node=a {cut}")
    assert plain[1].endswith(" characters more)")
    assert f'text="{cut}"' in plain[2]
    assert json.loads(whole)["text"] == json.loads(fields)["parties"] == json.loads(failed)["fault"]["text"] == cut
    assert max(map(len, (*plain, whole, fields, failed))) < LONGEST + 250


def test_times_are_utc_in_milliseconds():
    record = logging.makeLogRecord({"name": "beaver", "created": 1_767_225_599.9996, "msg": "x"})
    assert Formatter().format(record).startswith("2026-01-01T00:00:00.000Z ")
    record.created = 1_767_225_599.0071
    assert Formatter().format(record).startswith("2025-12-31T23:59:59.007Z ")


def test_verbose_adds_debug_and_configuring_again_replaces(written):
    again = io.StringIO()
    log = logging.getLogger("beaver.a")
    log.debug("one")
    configure(1, again)
    log.debug("two")
    configure(0, again)
    log.debug("three")
    log.info("four")
    assert lines(written) == []
    assert lines(again) == ["DEBUG node=a two", "INFO node=a four"]


def fail():
    try:
        planted = PLANTED
        return {}[planted]
    except KeyError as cause:
        raise ValueError(f"cannot use {PLANTED}") from cause


@pytest.mark.parametrize("verbose", [0, 1])
def test_an_exception_is_one_line_without_its_text(written, verbose):
    configure(verbose, written)
    try:
        fail()
    except ValueError:
        logging.getLogger("beaver.a").exception("phase=failed")
    try:
        raise mpc.PeerLost("b", "did not come")
    except mpc.PeerLost:
        logging.getLogger("beaver.a").exception("phase=failed")
    logging.getLogger("beaver.a").error("nothing", exc_info=True)  # noqa: LOG014
    foreign, ours, nothing = lines(written)
    where = r"test_logs\.py:\d+"
    assert re.fullmatch(
        rf"ERROR node=a phase=failed fault=ValueError at={where}" + (rf">{where} after=KeyError at={where}" if verbose else ""), foreign
    )
    assert re.fullmatch(rf'ERROR node=a phase=failed fault=PeerLost text="b: did not come" at={where}', ours)
    assert nothing == "ERROR node=a nothing"
    assert PLANTED not in written.getvalue()


def test_a_chain_of_causes_that_bites_its_tail_ends(written):
    configure(1, written)
    one, two = ValueError(), KeyError()
    one.__cause__, two.__cause__ = two, one
    logging.getLogger("beaver").error("x", exc_info=one)
    assert lines(written) == ["ERROR x fault=ValueError after=KeyError"]


def test_other_libraries_texts_are_withheld(written):
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: <Task exception=ValueError(731048193)>")
    logging.getLogger("aiomqtt").warning("payload %s", PLANTED)
    logging.getLogger("beaverish").info("below the level of strangers")
    assert lines(written) == [
        "ERROR source=asyncio Task exception was never retrieved",
        "WARNING source=aiomqtt (text withheld: it may hold data)",
    ]


def test_a_line_that_cannot_be_written_is_lost_without_a_word(written, capsys):
    unfit = logging.makeLogRecord({"name": "beaver", "msg": "%d", "args": (PLANTED + "x",)})
    closed = io.StringIO()
    closed.close()
    for stream in (written, closed):
        configure(0, stream)
        logging.getLogger().handlers[-1].handle(unfit)
    logging.getLogger("beaver").info("gone")
    assert written.getvalue() == ""
    assert capsys.readouterr() == ("", "")


def test_a_session_says_job_and_dry_runs_say_nothing(written):
    async def program(s):
        x = s.encode([float(PLANTED)])
        await s.run(lambda s: s.reveal(s.zero(1)))
        await mpc.mul(s, s.zero(1), s.zero(1))
        return x

    simulate(2, program)
    said = lines(written)
    assert sum("node=p0 job=simulation revealed reveal.0 shape=(1,) to=p0,p1" in line for line in said) == 1
    assert "INFO node=p0 phase=start waiting for p1, the-dealer" in said
    assert "INFO node=p0 job=simulation phase=started parties=p0,p1" in said
    assert sum(line.startswith("INFO node=p1 job=simulation phase=done rounds=2 ") for line in said) == 1
    assert "INFO node=the-dealer job=simulation phase=started parties=p0,p1" in said
    assert PLANTED not in written.getvalue()


# -- real processes --------------------------------------------------------------------------------------------

UNCAUGHT = f"""
import sys, threading
from parties.logs import configure
configure(1)
class Bad:
    def __del__(self):
        raise ValueError("{PLANTED}")
def fail():
    raise ValueError("{PLANTED}")
del_me = Bad()
del del_me
thread = threading.Thread(target=fail)
thread.start()
thread.join()
fail()
"""

STOPPED = """
import asyncio, os, resource, sys, time
from parties.run import INTERRUPTED, run

async def work():
    try:
        print("running", resource.getrlimit(resource.RLIMIT_CORE), flush=True)
        if sys.argv[1] == "deaf":
            time.sleep(60)
        await asyncio.sleep(60)
    finally:
        print("cleaning", flush=True)
        if sys.argv[1] == "stuck":
            await asyncio.sleep(60)
        print("clean", flush=True)

try:
    run(work())
except KeyboardInterrupt:
    print("stopped", file=sys.stderr)
    sys.exit(INTERRUPTED)
"""


def test_an_exception_that_nobody_catches_is_a_line_too():
    done = subprocess.run([sys.executable, "-c", UNCAUGHT], cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 1
    found = lines(io.StringIO(done.stderr))
    assert [re.sub(r" at=\S+", "", line) for line in found] == [
        "CRITICAL an unexpected fault could not be raised fault=ValueError",
        "CRITICAL an unexpected fault ended a thread fault=ValueError",
        "CRITICAL an unexpected fault ended this process fault=ValueError",
    ]
    assert PLANTED not in done.stderr


async def stopped(how):
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", STOPPED, how, cwd=ROOT, start_new_session=True, **pipes)
    assert await asyncio.wait_for(process.stdout.readline(), PATIENCE) == b"running (0, 0)\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_one_signal_ends_cleanly(number):
    process = await stopped("willing")
    process.send_signal(number)
    printed, complained = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert (process.returncode, printed, complained) == (INTERRUPTED, b"cleaning\nclean\n", b"stopped\n")


async def test_a_second_ctrl_c_quits_at_once_and_a_second_sigterm_does_not():
    process = await stopped("stuck")
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.stdout.readline(), PATIENCE) == b"cleaning\n"
    # Supervisors signal a process and its group: that must not break off the cleaning.
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    printed, complained = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert (process.returncode, printed, complained) == (INTERRUPTED, b"", b"")


async def test_ctrl_c_is_heard_where_a_callback_runs_long():
    process = await stopped("deaf")
    while process.returncode is None:
        process.send_signal(signal.SIGINT)
        try:
            await asyncio.wait_for(process.wait(), 0.2)
        except TimeoutError:
            continue
    assert process.returncode == INTERRUPTED
    assert await process.stdout.read() == b""


@pytest.mark.parametrize("form", LogFormat)
def test_what_a_node_is_ready_for_is_of_the_form_of_its_events(written, capsys, form):
    """In a system's journal both are lines of one stream."""
    configure(stream=written, form=form)
    announce("a", "takes jobs (100 %s)")
    printed = capsys.readouterr().out
    if form is LogFormat.TEXT:
        assert printed == "a takes jobs (100 %s)\n"
    else:
        event = json.loads(printed)
        assert (event.pop("time")[-1], event) == ("Z", {"level": "INFO", "node": "a", "text": "takes jobs (100 %s)"})


def test_a_crash_leaves_no_core_file(tmp_path):
    code = "import os, resource; from parties.run import forbid_core_dumps; forbid_core_dumps(); os.abort()"
    before = resource.getrlimit(resource.RLIMIT_CORE)
    raise_limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, **raise_limit
    )
    assert done.returncode == -signal.SIGABRT
    assert list(tmp_path.iterdir()) == []
