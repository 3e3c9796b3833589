"""`beaver init` and `beaver keygen`: what an organisation makes before it meets the others."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mpc import durable
from mpc.errors import ConfigError
from mpc.membership.endpoints import parse_reachable
from mpc.membership.identity import Identity, check_name, spoken
from mpc.membership.members import Member, Role
from mpc.membership.roster_file import member_lines

_CONFIG = """\
# The {role} {name}.  Paths are relative to this file; docs/operations.md explains every key.
name = "{name}"
key = "{name}.key"

# The roster that all members share: the same file everywhere, signed by all.
roster = "roster.toml"
"""

_LISTEN = """
# Where to listen, if that differs from this member's endpoint in the roster.
# listen = "0.0.0.0:9001"
"""

_RULES = """
# What this organisation allows.  The file denies everything until it is edited.
policy = "{name}.policy.toml"
"""

_DATA = """
# The data of this organisation, and of it only the columns that are named here.
# [datasets.patients]
# path = "patients.csv"
# Which record a row is, where the parties have other columns of the same records; no job may use it.
# identifier = "pseudonym"
#
# [datasets.patients.columns]
# age = {{ range = [0, 120], unit = "years" }}
# bmi = {{ range = [10, 80] }}
"""

_POLICY = """\
# What {name} allows.  Everything that is not named here is denied; docs/operations.md explains every rule.
version = "1"

# The protocols that run when a member asks for them; `beaver protocols` says what each reveals.
allow = []
# allow = ["mean", "linear_regression"]

# The protocols whose jobs wait until somebody here says `beaver jobs approve ID DIGEST`.
# ask = ["maximum"]

# Who may ask for jobs, and who may get results: any party of the roster, unless they are named.
# askers = ["hospital_b"]
# receivers = ["{name}"]

# The least number of parties, and of rows of this organisation and of all together.  Where two parties compute a sum or a mean, each learns
# what the other one's rows add up to; and a member of a larger roster may ask one other party alone.  3 excludes that.
min_parties = 2
min_rows = 10
min_pool_rows = 0

# Parameters that a model may have for each row of all parties together, and jobs in a day.
# max_parameters_per_row = 0.1
# max_jobs_per_day = 20

# The datasets of the configuration that jobs may use, and which columns of them: none before they are named here.
[datasets]
# [datasets.patients]
# columns = ["age", "bmi"]

# The values that parameters of jobs may have, defaults included: any that the protocol takes, unless they are listed.
# [parameters.linear_regression]
# solver = ["exact"]

# The clients of the roster, to which protocols each may give rows, and of which it may get results.
[clients]
# [clients.lab]
# gives = ["mean"]
# gets = ["mean"]
"""


def init(
    name: Annotated[str, typer.Argument(help="This organisation's name in the roster.")],
    folder: Annotated[
        Path, typer.Option("--dir", readable=False, help="Where to write the files; it is made if it is not there.")
    ] = Path(),
    role: Annotated[Role, typer.Option(help="What it does in the roster.")] = "party",
    endpoint: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where the others reach it; none if it only dials.")] = None,
) -> None:
    """Write a key, a configuration and a policy that denies everything, and print the public lines for the others."""
    if role == "client" and endpoint is not None:
        msg = "a client only dials and has no endpoint; leave --endpoint out"
        raise ConfigError(msg)
    identity = Identity.generate(check_name(name))
    member = Member(name, identity.public, parse_reachable(endpoint) if endpoint is not None else None, role)
    public = f"# Fingerprint: {spoken(identity.public)}\n{member_lines(member)}"
    parts = {"party": _CONFIG + _LISTEN + _RULES + _DATA, "client": _CONFIG + _DATA, "dealer": _CONFIG + _LISTEN}
    templates = {f"{name}.toml": parts[role]} | ({f"{name}.policy.toml": _POLICY} if role == "party" else {})
    texts = {file: text.format(name=name, role=role) for file, text in templates.items()} | {f"{name}.public": public}
    key = folder / f"{name}.key"
    _unused([key, *(folder / file for file in texts)])
    made: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        identity.save(key)
        made.append(key)
        for file, text in texts.items():
            durable.create(folder / file, text.encode(), durable.OWNED)
            made.append(folder / file)
    except OSError as fault:
        _undo(made)
        raise durable.unwritable(folder, fault) from None
    print(public, end="")
    print(
        f"Send these lines, which are in {folder / f'{name}.public'}, to the other members, and read them the fingerprint by telephone.\n"
        f"{key} is secret and readable by you only: keep a copy of it where nobody else can read it.\n"
        f"Next: one member puts all into a roster with `beaver roster add`, and sends it to all, as {folder / 'roster.toml'} here. All "
        "sign it with "
        "`beaver roster sign`, and add the others' lines with `beaver roster accept`. Then try `beaver check -c "
        f"{folder / f'{name}.toml'}`.",
        file=sys.stderr,
    )


def _unused(paths: list[Path]) -> None:
    for path in paths:
        if os.path.lexists(path):
            msg = f"{path}: exists already, and nothing was written; choose another --dir, or move it away if it is no longer used"
            raise ConfigError(msg)


def _undo(made: list[Path]) -> None:
    """Remove the files that were made: half a set-up would look like a whole one."""
    for path in made:
        path.unlink(missing_ok=True)


def keygen(
    name: Annotated[str, typer.Argument(help="This organisation's name in the roster.")],
    out: Annotated[Path | None, typer.Option(readable=False, help="The key file to write; NAME.key by default.")] = None,
) -> None:
    """Make a key and print the public lines for the roster."""
    identity = Identity.generate(name)
    path = out or Path(f"{name}.key")
    identity.save(path)
    print(member_lines(Member(name, identity.public, None)) + 'endpoint = "HOST:PORT"')
    print(
        f"The fingerprint is {spoken(identity.public)}.\n"
        f"The secret half is in {path}, readable by you only. Add the lines above to the roster that all members share.",
        file=sys.stderr,
    )


__all__ = ["init", "keygen"]
