"""A job: what runs, and among which members, as they all describe it."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from mpc.canonical import pack
from mpc.errors import ConfigError
from mpc.fixed_point import FRAC
from mpc.framing.handshake import WIRE_VERSION
from mpc.membership.roster import NO_DEALER
from mpc.prg import fields
from mpc.ring import BITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mpc.membership.roster import Roster
    from mpc.network.mesh import Mesh


@dataclass(frozen=True, slots=True)
class Job:
    """What runs, and among which members; `members` are the parties in order, then the dealer."""

    name: str
    members: tuple[str, ...]
    description: dict[str, Any]

    @property
    def parties(self) -> tuple[str, ...]:
        """The computing parties in order."""
        return self.members[:-1]

    @property
    def digest(self) -> bytes:
        """A 32-byte digest of the whole job."""
        return blake2b(fields("job", pack(self.description)), digest_size=32).digest()


def describe(
    name: str,
    mesh: Mesh,
    parties: tuple[str, ...] | None,
    program: str,
    terms: Mapping[str, str] | None = None,
    roster: Roster | None = None,
) -> Job:
    """The job `name` among `parties` (all of the roster by default), this member among them, with the roster's dealer.

    `terms` are further things on which all members must agree; a Disagreement names the keys that differ. `roster` defaults to the current
    one.
    """
    job = described(name, roster or mesh.roster, parties, program, terms)
    if mesh.identity.name not in job.members:
        msg = f"{mesh.identity.name} is not among the parties of job {name!r}: {', '.join(job.parties)}"
        raise ConfigError(msg)
    return job


def check_name(job: object) -> None:
    """ConfigError unless `job` is a name that a program may give its job: all parties must mean the same job by it."""
    _check_text("job", job, 256)
    if isinstance(job, str) and not job.strip():
        msg = "a job needs a name, by which its parties tell it from others: pass job= the same text at all of them"
        raise ConfigError(msg)


def described(name: str, roster: Roster, parties: tuple[str, ...] | None, program: str, terms: Mapping[str, str] | None = None) -> Job:
    """The same job, for a caller without a mesh."""
    _check_text("job", name, 256)
    _check_text("program", program, 1024)
    chosen = tuple(sorted(parties or [member.name for member in roster.parties]))
    if roster.dealer is None:
        raise ConfigError(NO_DEALER)
    for party in chosen:
        if roster[party].role != "party":
            msg = f"{party} is the {roster[party].role} and never a computing party"
            raise ConfigError(msg)
    if len(chosen) < 2 or len(set(chosen)) != len(chosen):
        msg = f"a job needs at least two different parties, not {list(chosen)}"
        raise ConfigError(msg)
    members = (*chosen, roster.dealer.name)
    description = {
        "job": name,
        "program": program,
        "members": list(members),
        "roster": roster.digest,
        "wire": WIRE_VERSION,
        "ring": BITS,
        "frac": FRAC,
        "terms": dict(terms or {}),
    }
    return Job(name, members, description)


def _check_text(what: str, text: object, most: int) -> None:
    # Half of a surrogate pair has no bytes.
    if not isinstance(text, str) or any("\ud800" <= letter <= "\udfff" for letter in text) or len(text.encode()) > most:
        msg = f"the name of a {what} is text of at most {most} bytes; choose such a one"
        raise ConfigError(msg)


def session_id(job: Job, nonces: dict[str, bytes]) -> bytes:
    """BLAKE2b-256 over the job and everyone's nonce, in order, the dealer last."""
    listed = [part for name in job.members for part in (name, nonces[name])]
    return blake2b(fields("session", job.digest, *listed), digest_size=32).digest()
