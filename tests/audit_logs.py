"""Party a's audit log as a file: tests fill it, verify it, and see what is refused."""

from __future__ import annotations

import pytest
import typer.testing

from mpc.errors import ConfigError
from mpc.membership.identity import Identity
from mpc.membership.roster import Roster
from parties.auditing.audit import AuditLog
from parties.auditing.entries import START, digest
from parties.auditing.head import Head
from parties.cli import app
from tests.error_rows import row_of


def log_of(home, count=0):
    """a's open log with this many entries."""
    log = AuditLog(home / "a.audit.log", Identity.load(home / "a.key"), Roster.load(home / "roster.toml").keys_of("a"))
    log.open()
    for number in range(count):
        log.append("declined", job=f"{number:032x}", asker="b", task=None, by="a", reason=f"reason {number}")
    return log


def filled(home, count=5):
    log_of(home, count).close()
    return home / "a.audit.log"


def shown(fault, case):
    assert row_of(case).shows(str(fault)), fault


def refused(call, case):
    with pytest.raises(ConfigError) as caught:
        call()
    shown(caught.value, case)
    return str(caught.value)


def verified(home, *options):
    """The lines that `beaver audit verify` prints, and the error that it ends with."""
    answer = typer.testing.CliRunner().invoke(app, ["audit", "verify", "-c", str(home / "a.toml"), *map(str, options)])
    if answer.exception is not None and not isinstance(answer.exception, SystemExit):
        assert isinstance(answer.exception, ConfigError), answer.exception
        return answer.stdout.splitlines(), answer.exception
    assert answer.exit_code == 0, answer.output
    return answer.stdout.splitlines(), None


def head_file(home):
    return home / "a.audit.log.head"


def headed(home):
    """Let a's head say that the log ends where it does."""
    whole = [line for line in (home / "a.audit.log").read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    head_file(home).write_text(f"{Head(len(whole), digest(whole[-1][:-1]) if whole else START).line}\n")


def exported(home, out="copy.log"):
    return typer.testing.CliRunner().invoke(app, ["audit", "export", "-c", str(home / "a.toml"), "--out", str(home / out)])
