"""The audit log: one line for every event of every job, appended, chained and signed.

A line is on the disk before anything follows from it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, Self

from mpc.durable import sync_folder
from mpc.errors import ConfigError
from mpc.membership.identity import encode_key
from parties.auditing.entries import ALTERED, BEGINNINGS, CLOSED, CONTINUED, ENDED, UNKNOWN, UNSIGNED, Chain, digest, opened, sealed, signed
from parties.auditing.head import Head, HeadFile, known, path_of
from parties.auditing.history import History
from parties.auditing.volumes import Line, closed, last_of_closed, lines, lines_of_closed, lock, volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mpc.membership.identity import Identity
    from mpc.membership.roster import Roster
    from parties.auditing.entries import Entry
    from parties.config import NodeConfig

STOPPED = "the node stopped before the job's end, or could not write it: what was revealed until then is not known"


class AuditLog:
    """The log that this process writes, between `open` and `close` or in `async with`.  The file is locked: one process writes it at a
    time.

    `keys` are all keys that this member has or had; one of them signed what the log already has.  A file that has reached `most` bytes is
    closed, and the next entry goes into a new file.
    """

    def __init__(self, path: Path, identity: Identity, keys: Iterable[bytes] = (), most: int | None = None) -> None:
        self.path = path
        self.history = History()
        self._identity = identity
        self._keys = [identity.public, *keys]
        self._most = most
        self._chain = Chain()
        self._closed = 0
        self._closing = False
        self._end = 0
        self._handle = -1
        self._head_file: HeadFile | None = None
        self._turn = threading.Lock()

    @property
    def head(self) -> str:
        """The number of entries and the digest of the last, as text."""
        return f"{self.entries} entries, the last {self.last}"

    @property
    def entries(self) -> int:
        """How many entries there are."""
        return self._chain.number

    @property
    def last(self) -> str:
        """The digest of the last entry, which stands for all."""
        return self._chain.head

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.open)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Lock the file and read it; mend a line that a crash tore, and end the jobs that were running then.

        Raises ConfigError if another process has the file, if it cannot be used, or if a line was altered or cut off.  Then the file stays
        as it is.
        """
        try:
            self._take()
        except BaseException as fault:
            self.close()
            if isinstance(fault, OSError):
                raise _unusable(fault.filename or self.path, fault.strerror) from None
            raise

    def _take(self) -> None:
        head = known(self.path)
        self._handle = self._opened(head)
        if not stat.S_ISREG(os.fstat(self._handle).st_mode):
            raise _unusable(self.path, "not a file")
        sync_folder(self.path.parent)
        lock(self._handle, self.path)
        torn = self._read(head)
        # Only now: a file that is no audit log keeps its mode.
        os.fchmod(self._handle, 0o600)
        self._head_file = HeadFile(self.path)
        self._write(b"", Head(self._chain.number, self._chain.head))
        # Written before any entry: a log that has entries and no head has lost its head.
        self._head_file.keep()
        if torn is not None:
            os.ftruncate(self._handle, self._end)
            self.append("repaired", torn_bytes=len(torn.data))
        if self._closing:
            # A crash came before the next file had its first entry.
            self._continue()
        self._end_jobs()

    def _opened(self, head: Head | None) -> int:
        # No symbolic link is followed, as for the head: nothing is made or changed where one leads, and a file closed there could not get
        # its number.
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(self.path, flags)
        except FileNotFoundError as fault:
            # A file that was there before is not created again: an empty file would hide that the old one is gone.
            if head is not None and head.number > _closed_at(self.path):
                raise _unusable(self.path, fault.strerror, f"restore it: {path_of(self.path)} knows of {head.number} entries") from None
        return os.open(self.path, flags | os.O_CREAT, 0o600)

    def close(self) -> None:
        """Release the file."""
        if self._handle >= 0:
            # Closing the file also releases the lock.
            os.close(self._handle)
            self._handle = -1
        if self._head_file is not None:
            self._head_file.close()
            self._head_file = None

    def append(self, kind: str, **said: Any) -> None:
        """Add one entry; it is on the disk when this returns.

        Raises ConfigError if it cannot be written; then nothing of it stays.  Blocks.
        """
        with self._turn:
            self._check_unchanged()
            if self._closing or (self._most is not None and self._end >= self._most):
                self._rotate()
            self._add(kind, **said)

    def rotate(self) -> int:
        """Close the file and go on in a new one.

        Return the number of the closed file.  Raises ConfigError if that is not possible.  Blocks.
        """
        with self._turn:
            self._check_unchanged()
            self._rotate()
            return self._closed

    def _rotate(self) -> None:
        if not self._closing:
            self._add(CLOSED, file=self._closed + 1)
        self._continue()

    def _continue(self) -> None:
        """Go on in the next file after a closing entry."""
        if self._end:
            self._move()
        self._add(CONTINUED, file=self._closed + 1)

    def _move(self) -> None:
        """Give the closed file its number, and its former name to an empty file that this node has locked before anyone else can."""
        old, new, handle = volume(self.path, self._closed + 1), self.path.with_name(f"{self.path.name}.new"), -1
        try:
            if old.exists():
                raise FileExistsError(errno.EEXIST, f"{old} is there already: move it away")
            new.unlink(missing_ok=True)
            handle = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            lock(handle, new)
            self.path.rename(old)
            # The second renaming must not survive a crash that the first does not: the closed file would have no name.
            sync_folder(self.path.parent)
            new.rename(self.path)
            handle, self._handle = self._handle, handle
            self._end, self._closed = 0, self._closed + 1
            sync_folder(self.path.parent)
        except OSError as fault:
            raise self._unwritable(fault) from None
        finally:
            if handle >= 0:
                os.close(handle)

    def _add(self, kind: str, **said: Any) -> None:
        entry = {
            **said,
            "kind": kind,
            "member": self._identity.name,
            "number": self._chain.number + 1,
            "previous": self._chain.head,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        line = sealed(entry, self._identity)
        head = Head(entry["number"], digest(line))
        self._write(line + b"\n", head)
        self._chain.number, self._chain.head = head
        self._closing = kind == CLOSED

    def _check_unchanged(self) -> None:
        """Raise ConfigError if the log was moved, replaced, shortened or written by others: nothing more is added to it then."""
        try:
            there, here = self.path.stat(), os.fstat(self._handle)
        except OSError as fault:
            raise self._unwritable(fault) from None
        if (there.st_ino, there.st_dev) != (here.st_ino, here.st_dev) or here.st_size != self._end:
            msg = f"{self.path}: the audit log was changed, moved or replaced while the node runs; put it back, and start the node again"
            raise ConfigError(msg)

    def _write(self, data: bytes, head: Head | None = None) -> None:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.pwrite(self._handle, rest, self._end + len(data) - len(rest)) :]
            os.fsync(self._handle)
            if head is not None and self._head_file is not None:
                # The head is written once the entry is on the disk: the log may be longer than its head says, but never shorter.
                self._head_file.write(head)
        except OSError as fault:
            self._shorten(self._end)
            raise self._unwritable(fault) from None
        self._end += len(data)

    def _shorten(self, size: int) -> None:
        try:
            os.ftruncate(self._handle, size)
            os.fsync(self._handle)
        except OSError:
            # What stays is a torn line, which the next start mends.  Until then `_check_unchanged` refuses every entry.
            return

    def _unwritable(self, fault: OSError) -> ConfigError:
        return ConfigError(
            f"{self.path}: the audit log cannot be written ({fault.strerror}): no job runs, and no result is handed over, without an "
            "entry. Make room, and ask again"
        )

    def _read(self, head: Head | None) -> Line | None:
        """Read every entry.  Return the line that a crash tore and that is to be cut off, or None."""
        entry, torn, line = None, None, None
        for line in self._lines():
            if head is None and not self._chain.number:
                _check_entry(line)
            if torn is not None or not (line.whole or line.file == self.path):
                # A crash tears only the end.
                _refuse(torn or line, ALTERED)
            if not line.whole:
                torn = line
                continue
            entry = self._taken(line)
            if head is not None and self._chain.number == head.number and self._chain.head != head.digest:
                _refuse(line, f"is another entry than the one in {path_of(self.path)}")
        if entry is not None and line is not None:
            self._check_own(entry, line)
        if head is None and line is not None:
            raise _headless(self.path, Head(self._chain.number, self._chain.head))
        if torn is not None and not self._chain.number and not torn.data.startswith(BEGINNINGS):
            raise _no_log(self.path)
        mended = torn is not None and self._complete(torn.data)
        if head is not None and self._chain.number < head.number:
            here = line.number if line is not None and line.file == self.path else 0
            _refuse(
                torn or Line(self.path, here + 1, b"", whole=False),
                f"was cut off, with all after it: {path_of(self.path)} knows of {head.number} entries",
            )
        return None if mended else torn

    def _lines(self) -> Iterator[Line]:
        yield from lines_of_closed(self.path)
        self._closed = max(closed(self.path), default=0)
        with os.fdopen(os.dup(self._handle), "rb") as file:
            yield from lines(self.path, file)

    def _taken(self, line: Line) -> Entry:
        try:
            entry = self._chain.take(line.data)
            self.history.read(entry)
        except ValueError as fault:
            _refuse(line, str(fault))
        if line.file == self.path:
            self._end += len(line.data) + 1
        self._closing = entry["kind"] == CLOSED
        return entry

    def _end_jobs(self) -> None:
        """Write an end for each job whose end is missing: nobody knows what left before the node stopped."""
        for job, start in self.history.unended.items():
            about = {key: start.get(key) for key in ("asker", "policy", "roster")}
            self.append(ENDED, job=job, **about, outcome=UNKNOWN, reason=STOPPED, output=None, released=None, announced=None, cost=None)
        self.history.unended.clear()

    def _check_own(self, last: Entry, line: Line) -> None:
        """Raise ConfigError unless the last entry is this member's: its signature vouches for all lines."""
        me, member, key = self._identity.name, str(last.get("member")), last["key"]
        if member != me or key not in map(encode_key, self._keys):
            msg = (
                f"{self.path}: is not the audit log of {me}: its last entry is of {member!r:.40}, with the key {key!r:.60}, "
                f"which is none of {me}'s in the roster. Set `audit` to {me}'s own log, or to a new file; or add an earlier key "
                f"of {me} to `status.audit_keys`"
            )
            raise ConfigError(msg)
        if not signed(last, self._keys):
            _refuse(line, UNSIGNED)

    def _complete(self, torn: bytes) -> bool:
        """Return whether only the line end of the last line was missing.  If so, it is now written."""
        try:
            entry = opened(torn)
            complete = entry["previous"] == self._chain.head and signed(entry, self._keys)
        except ValueError:
            complete = False
        if complete:
            self._end += len(torn)
            self._write(b"\n")
            self.history.read(self._chain.take(torn))
            self._closing = entry["kind"] == CLOSED
        return complete


def log_of(config: NodeConfig, roster: Roster) -> AuditLog:
    """Return the log of this configuration's member."""
    keys = [*roster.keys_of(config.name), *config.earlier_keys]
    return AuditLog(config.audit_file, config.identity(), keys, config.audit_bytes)


def changed(line: Line, text: str) -> ConfigError:
    """The error that a line of a log is not as a node wrote it."""
    return ConfigError(
        f"{line.place}: {text}. The audit log was changed: keep it for whoever looks into that, and set `audit` to a new "
        "file. `beaver audit verify` checks all of it"
    )


def _refuse(line: Line, text: str) -> NoReturn:
    raise changed(line, text) from None


def _check_entry(line: Line) -> None:
    """Raise ConfigError unless the first line of a file is an entry.  Nothing else says that the file is an audit log."""
    try:
        opened(line.data)
    except ValueError:
        raise _no_log(line.file) from None


def _no_log(path: Path) -> ConfigError:
    return ConfigError(
        f"{path}: is no audit log, and stays as it is: its first line is no entry. Set `audit` to the node's own log, or to a new file"
    )


def _headless(path: Path, head: Head) -> ConfigError:
    return ConfigError(
        f"{path}: has {head.number} entries, and nothing says how many there were: {path_of(path)} is not there, or is empty. Restore it. "
        "Only if you know that no entry is missing, by the digest of the last that you kept (`beaver audit verify --head`) or by the "
        f"other parties' logs, write this line into it: {head.line}"
    )


def _closed_at(log: Path) -> int:
    """Return the number of the entry that closes the last closed file, after which a crash may have left no file; 0 if there is none."""
    last = last_of_closed(log)
    try:
        entry = {} if last is None else opened(last.data)
    except ValueError:
        entry = {}
    return entry["number"] if entry.get("kind") == CLOSED and type(entry["number"]) is int else 0


def _unusable(
    path: str | Path, why: str | None, remedy: str = "correct `audit`, or make the file and its folder this user's"
) -> ConfigError:
    return ConfigError(f"{path}: the audit log cannot be opened ({why}); {remedy}")


__all__ = ["AuditLog", "changed", "log_of"]
