"""A member's memory of the last roster that it used. An older roster, though all signed it, could bring a revoked key back."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from mpc import durable
from mpc.errors import ConfigError
from mpc.membership.identity import private_text

if TYPE_CHECKING:
    from pathlib import Path

    from mpc.membership.roster import Roster


@dataclass(frozen=True, slots=True)
class RosterMemory:
    """The memory in the file `path` (0600), and the roster file that its errors name. One process at a time: the identity's lock
    ensures that.
    """

    path: Path
    roster_path: Path

    def follow(self, roster: Roster) -> None:
        """Remember `roster` as the one in use; ConfigError as in `check`, or if the file cannot be written."""
        if self.check(roster):
            self._write(roster.content.version, roster.digest.hex())

    def check(self, roster: Roster) -> bool:
        """Whether `roster` differs from the last one; ConfigError if it is older, or another branch, or if the file cannot be read.

        An unsigned roster, for a trial on one machine, is not remembered, and is refused once a signed one was used.
        """
        version, digest = self._read()
        if roster.unsigned:
            if version:
                self._refuse(f"version {roster.content.version} is not signed by all, and this node has used version {version}, which is")
            return False
        now = (roster.content.version, roster.digest.hex())
        if now[0] < version:
            self._refuse(
                f"version {now[0]} is older than version {version}, which this node has used: "
                "a key that was revoked since would count again"
            )
        if now[0] == version and now[1] != digest:
            self._refuse(f"this node has used another version {version}, with the digest {digest}")
        if now[0] == version + 1 and version and roster.content.previous.hex() != digest:
            self._refuse(
                f"version {now[0]} follows another version {version} than the one that this node has used, with the digest {digest}"
            )
        return now != (version, digest)

    def _refuse(self, text: str) -> NoReturn:
        msg = f"{self.roster_path}: {text}. Set `roster` to the newest one; if all members start anew on purpose, move {self.path} away"
        raise ConfigError(msg)

    def _read(self) -> tuple[int, str]:
        """The version and digest of the last roster; version 0 if there was none."""
        # False also if the file may not be accessed: writing then reports the cause.
        if not os.path.exists(self.path):  # noqa: PTH110
            return 0, ""
        text = private_text(self.path, "state", "restore it")
        try:
            last = json.loads(text)["roster"]
            return int(last["version"]), str(last["digest"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            msg = (
                f"{self.path}: does not say which roster was used last; restore it, or compare the roster with the others' and move it away"
            )
            raise ConfigError(msg) from None

    def _write(self, version: int, digest: str) -> None:
        text = json.dumps({"roster": {"version": version, "digest": digest}})
        try:
            durable.replace(self.path, f"{text}\n".encode())
        except OSError as fault:
            msg = (
                f"{self.path}: cannot be written ({fault.strerror}): which roster was used must be remembered; "
                "set `state` to a file that can be"
            )
            raise ConfigError(msg) from None


__all__ = ["RosterMemory"]
