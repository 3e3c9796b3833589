"""What a node finds in its audit log when it starts: jobs that have no end, files that it may not use, and none at all."""

from __future__ import annotations

from parties.entries import opened
from tests.test_audit import log_of, verified
from tests.test_audit_keys import RETIRED, B, home, started, written

__all__ = ["home"]


def kinds(home):
    return [(entry["kind"], entry.get("outcome")) for entry in map(opened, (home / "a.audit.log").read_bytes().splitlines())]


def test_a_job_without_an_end_gets_one_when_the_log_is_opened(home):
    """Once: from then on the log says that nobody knows what left."""
    whole, broken = started(RETIRED, B), started(RETIRED, B)
    written(home, whole, broken, {"kind": "ended", "job": whole["job"], "output": None, "outcome": "done"})
    assert verified(home)[0][1].endswith(f"since the node stopped in them or they run now: {broken['job']}")
    for _ in range(2):
        log_of(home).close()
    assert kinds(home) == [("started", None), ("started", None), ("ended", "done"), ("ended", "unknown")]
    end = opened((home / "a.audit.log").read_bytes().splitlines()[-1])
    assert {key: end[key] for key in ("job", "asker", "policy", "roster", "member")} == {
        **{key: broken[key] for key in ("job", "asker", "policy", "roster")},
        "member": "a",
    }
    assert "what was revealed until then is not known" in end["reason"]
    told, fault = verified(home)
    assert (fault, broken["job"] in told[1], whole["job"] in told[1]) == (None, True, False)
