"""What a member remembers over restarts: the last roster it used.  An older one, though all signed it, could bring a revoked key back."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from mpc.errors import ConfigError
from mpc.membership.identity import private_text

if TYPE_CHECKING:
    from pathlib import Path

    from mpc.membership.roster import Roster


@dataclass(frozen=True, slots=True)
class RosterMemory:
    """The file `path` (0600), and the roster file that its errors name.  One process at a time: the identity's lock sees to that."""

    path: Path
    roster_path: Path

    def follow(self, roster: Roster) -> None:
        """Remember `roster` as the one in use; ConfigError as `check`, or if the file cannot be written."""
        if self.check(roster):
            self._write(roster.content.version, roster.digest.hex())

    def check(self, roster: Roster) -> bool:
        """Whether it is another one than the last; ConfigError if it is older, or another branch, or the file cannot be read.

        One that lacks a signature is used on loopback only, for development, and is neither compared nor remembered.
        """
        if roster.unsigned:
            return False
        version, digest = self._read()
        now = (roster.content.version, roster.digest.hex())
        if now[0] < version:
            self._refuse(
                f"version {now[0]} is older than version {version}, which this node has used: a key that was revoked since would count again"
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
        """Version and digest of the last roster; 0 if there was none."""
        # False, too, where it may not be asked: writing says why then.
        if not os.path.exists(self.path):  # noqa: PTH110
            return 0, ""
        text = private_text(self.path, "state", "restore it")
        try:
            last = json.loads(text)["roster"]
            return int(last["version"]), str(last["digest"])
        except (ValueError, KeyError, TypeError):
            msg = (
                f"{self.path}: does not say which roster was used last; restore it, or compare the roster with the others' and move it away"
            )
            raise ConfigError(msg) from None

    def _write(self, version: int, digest: str) -> None:
        """In one step: after a crash there is the old text or the new one."""
        fresh = self.path.with_name(f".{self.path.name}.new")
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump({"roster": {"version": version, "digest": digest}}, file)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)
        except OSError as fault:
            with suppress(OSError):
                fresh.unlink()
            msg = f"{self.path}: cannot be written ({fault.strerror}): which roster was used must be remembered; set `state` to a file that can be"
            raise ConfigError(msg) from None


__all__ = ["RosterMemory"]
