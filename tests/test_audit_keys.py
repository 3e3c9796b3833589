"""Which keys count in an audit log, and when: for a job signed before its key retired, and for the entries of the log itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from mpc.membership.identity import Identity, encode_key
from mpc.membership.members import Revoked
from mpc.membership.roster import Member, Roster
from mpc.messaging.job import described as describe
from parties.auditing.audit import AuditLog
from parties.auditing.entries import START, canonical, described, digest, encoded, opened, sealed
from parties.jobs.job import Task, fresh_id
from parties.jobs.proposals import JOB
from parties.jobs.records import named
from tests.audit_logs import headed, refused, shown, verified

A, B, OLD, GONE, STRANGER = (Identity.generate(name) for name in ("a", "b", "b", "b", "b"))
RETIRED = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROSTER = Roster(
    [
        Member("a", A.public, ("127.0.0.1", 1)),
        Member("b", B.public, ("127.0.0.1", 2), retiring=OLD.public, retires=RETIRED),
        Member("dealer", Identity.generate("dealer").public, ("127.0.0.1", 3), "dealer"),
    ],
    revoked=[Revoked("b", GONE.public, "stolen", date(2026, 2, 1))],
)
TASK = Task("mean", "patients", ("age",), ("a", "b"))


@pytest.fixture
def home(tmp_path):
    (tmp_path / "roster.toml").write_text(ROSTER.dump())
    (tmp_path / "a.toml").write_text('name = "a"\nkey = "a.key"\nroster = "roster.toml"\n')
    A.save(tmp_path / "a.key")
    return tmp_path


def started(when, by, **more):
    """What a's log says of a job that b signed with the key `by`."""
    job = describe(fresh_id(), ROSTER, TASK.parties, named(TASK))
    signatures = {who.name: encoded(who.sign(JOB, job.digest)) for who in (A, by)}
    about = {
        "job": job.name,
        "asker": "a",
        "policy": {},
        "roster": ROSTER.digest.hex(),
        "task": TASK.pack(),
        "columns": ["age"],
        "overlaps": {},
    }
    said = {
        "description": described(job),
        "digest": job.digest.hex(),
        "signatures": signatures,
        "time": when.isoformat(),
        "kind": "started",
    }
    return {**about, **said, **more}


def written(home, *entries, member="a", by=A):
    """A log of a's with these entries, in order."""
    lines, last = [], START
    for number, entry in enumerate(entries, 1):
        lines.append(sealed({**entry, "member": member, "number": number, "previous": last}, by))
        last = digest(lines[-1])
    (home / "a.audit.log").write_bytes(b"".join(line + b"\n" for line in lines))
    headed(home)


def test_a_job_counts_by_the_keys_of_its_own_time(home):
    """The retiring key retired long ago: its signatures from before are valid for ever, later ones never are."""
    before, soon, late = RETIRED - timedelta(days=1), RETIRED + timedelta(seconds=30), RETIRED + timedelta(hours=1)
    # A node checks signatures a moment before the entry gets its time.
    written(home, started(before, OLD), started(before, B), started(soon, OLD), started(late, B))
    assert verified(home)[1] is None
    written(home, started(late, OLD), started(before, B), started(before, STRANGER), started(before, GONE))
    told, fault = verified(home)
    shown(fault, "in the audit log, listed above")
    assert told == [f"{home / 'a.audit.log'}, line {number}: b did not sign this job" for number in (1, 3, 4)]


def test_a_node_goes_on_with_no_log_whose_last_line_is_not_signed(home):
    written(home, started(RETIRED, B), started(RETIRED, B))
    path = home / "a.audit.log"
    first, last = path.read_bytes().splitlines()
    path.write_bytes(first + b"\n" + canonical({**opened(last), "asker": "b"}) + b"\n")
    headed(home)
    before = path.read_bytes()
    text = refused(AuditLog(path, A, ROSTER.keys_of("a")).open, "The audit log was changed: keep it")
    assert text.startswith(f"{path}, line 2: its signature is not right: it was altered")
    assert path.read_bytes() == before


def test_entries_are_counted_without_a_gap(home):
    """A gap is found although each entry has the digest of the one before, and all are signed."""
    first = sealed({**started(RETIRED, B), "member": "a", "number": 1, "previous": START}, A)
    third = sealed({**started(RETIRED, B), "member": "a", "number": 3, "previous": digest(first)}, A)
    (home / "a.audit.log").write_bytes(first + b"\n" + third + b"\n")
    told, fault = verified(home)
    shown(fault, "in the audit log, listed above")
    assert "line 2: does not follow the line before: entry 3 where 2 belongs" in told[0]


def rewritten(what):
    """A job that b signed, in which a, whose log it is, changed one thing and signed the line anew."""
    entry = started(RETIRED, B)
    other = started(RETIRED, B)
    if what == "task":
        return {**entry, "task": replace(TASK, columns=("bmi",)).pack()}
    if what == "job":
        return {**entry, "job": other["job"]}
    if what == "description":
        return {**entry, "description": {**entry["description"], "job": other["job"]}}
    # All of another job, and of this one the signatures with what they are for.
    return {**other, **{name: entry[name] for name in ("digest", "signatures")}}


@pytest.mark.parametrize("what", ["task", "job", "description", "all but the signatures"])
def test_what_others_signed_cannot_be_rewritten_by_whose_log_it_is(home, what):
    written(home, rewritten(what))
    told, fault = verified(home)
    shown(fault, "in the audit log, listed above")
    assert told == [f"{home / 'a.audit.log'}, line 1: its digest is not that of its job"]


@pytest.mark.parametrize("wrong", [{"time": "soon"}, {"time": "2026-02-01"}, {"signatures": []}, {"task": "mean"}])
def test_an_entry_that_no_node_writes_is_a_fault_and_no_crash(home, wrong):
    written(home, started(RETIRED, B), started(RETIRED, B, **wrong), {"kind": "ended"})
    told, fault = verified(home)
    shown(fault, "in the audit log, listed above")
    assert [line.split(": ")[0].rpartition(" ")[2] for line in told] == ["2", "3"]


@pytest.mark.parametrize(
    ("member", "by", "own"),
    [("b", B, True), ("b", OLD, True), ("b", GONE, True), ("b", STRANGER, False), ("a", A, False), ("a", B, False), ("b", A, False)],
)
def test_a_node_goes_on_with_its_own_log_only(home, member, by, own):
    """b's node, and a log that `member` wrote with the key of `by`."""
    written(home, started(RETIRED, OLD), member=member, by=by)
    path = home / "a.audit.log"
    before = path.read_bytes()
    log = AuditLog(path, B, ROSTER.keys_of("b"))
    if own:
        log.open()
        log.close()
        return
    text = refused(log.open, "is not the audit log of NAME")
    assert f"is not the audit log of b: its last entry is of '{member}', with the key '{encode_key(by.public)}'" in text
    assert path.read_bytes() == before
    # One that the roster has forgotten can be given.
    if by is STRANGER:
        log = AuditLog(path, B, [*ROSTER.keys_of("b"), STRANGER.public])
        log.open()
        log.close()


def deep(levels):
    return [deep(levels - 1)] if levels else []


ODD = {
    "before all times": ({"time": "0001-01-01T00:00:00+00:00"}, "is no entry, or was altered"),
    "no zone": ({"time": "2026-03-01"}, "is no entry, or was altered"),
    "large": ({"description": {"roster": "", "members": [], "job": 1 << 64}}, "its digest is not that of its job"),
    "deep": ({"description": {"roster": "", "members": [], "job": deep(500)}}, "its digest is not that of its job"),
}


@pytest.mark.parametrize("case", ODD)
def test_what_is_rightly_signed_and_no_node_writes_is_told_with_its_line(home, case):
    wrong, text = ODD[case]
    written(home, started(RETIRED, B, **wrong))
    assert verified(home)[0] == [f"{home / 'a.audit.log'}, line 1: {text}"]


@pytest.mark.parametrize("wrong", [{"key": 7}, {"key": None}, {"kind": ["declined"]}, {"signature": {}}, {"previous": 1.5},
                                   {"number": "\x1b[2J"}, {"number": True}, {"number": -1}, {"number": 10**20}])  # fmt: skip
def test_a_line_whose_fields_are_of_another_type_is_no_entry(home, wrong):
    line = canonical({**opened(sealed({"number": 1, "previous": START, "kind": "declined", "member": "b"}, B)), **wrong})
    (home / "a.audit.log").write_bytes(line + b"\n")
    headed(home)
    refused(AuditLog(home / "a.audit.log", B).open, "The audit log was changed: keep it")
    assert verified(home)[0] == [f"{home / 'a.audit.log'}, line 1: is no entry, or was altered"]
