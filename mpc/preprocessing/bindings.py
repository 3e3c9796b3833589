"""What the dealer keeps of all that a session asks for: which words have a name, and which, in a few bytes for each range."""

from __future__ import annotations

import secrets
from bisect import bisect_right
from hashlib import blake2b
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from mpc.naming.streams import BIT_MASK, BIT_SHARE, MASK, SHARE
from mpc.prg import blocks_for
from mpc.ring import count

if TYPE_CHECKING:
    from mpc.naming.expressions import Range

Name = bytes | str | int | None

SCOPE_BYTES = 12
"""Bytes of the digest of a scope. Two scopes with one digest would be taken for one: then more is refused, and never less."""
NAME_BYTES = 16
"""Bytes of the digest of a name. Its key is drawn anew for each session and never leaves it, and a wrong guess ends the session."""
LAYOUT = Struct(f">{SCOPE_BYTES}sBQIIH{NAME_BYTES}s")
STREAM = SCOPE_BYTES + 1
START = STREAM + 8
"""Bytes of a run that say where it begins: its stream and its first block."""
MOST = 1 << 6
"""Most runs in one page."""
RECENT = 1 << 10
"""Masks that are remembered as bound, with the names that they were given: a product mostly has the masks that the one before it had."""
USAGES = {usage: bytes([number]) for number, usage in enumerate((MASK, BIT_MASK, SHARE, BIT_SHARE))}


class Run(NamedTuple):
    """`ranges` ranges of so many `words`, one after the other from `block` on, that one party bound to one name."""

    scope: bytes
    usage: int
    block: int
    words: int
    ranges: int
    peer: int
    name: bytes

    @property
    def stop(self) -> int:
        """The first block after it."""
        return self.block + self.ranges * blocks_for(self.words)


class Bindings:
    """Which name each range was bound to first, and by whom; anything else on it ends the session.

    Nothing is ever forgotten, since whoever asks may wait as long as it likes.  Memory: LAYOUT.size bytes for each run, and little beside.
    """

    def __init__(self) -> None:
        # Copied for each digest, since a key takes as long as what is hashed.
        self._keyed = {
            size: blake2b(key=secrets.token_bytes(32), digest_size=size, person=b"beaver/bound/v1") for size in (SCOPE_BYTES, NAME_BYTES)
        }
        self._last = "", self._digest(SCOPE_BYTES, b"")
        """The scope that was asked for last, and its digest: one relation is mostly of one."""
        self._short: dict[Name, bytes] = {}
        """Digests of the names that masks have: that of each party, and what is no party."""
        self._recent: dict[tuple[str, Range, Name], None] = {}
        self._peers: list[str] = []
        self._starts = [b""]
        self._pages = [b""]
        """Runs in the order of their starts, as bytes; `_starts` has that of the first of each page, and of the first page what is before all."""

    def bind(self, usage: str, where: Range, name: Name, peer: str) -> str | None:
        """Bind the words at `where` to `name`, or find them bound to exactly that already; else who bound some of them to something else."""
        asked = usage, where, name
        if asked in self._recent:
            return None
        other = self._bind(usage, where, name, peer)
        if other is None and not isinstance(name, bytes):
            if len(self._recent) >= RECENT:
                self._recent.clear()
            self._recent[asked] = None
        return other

    def _bind(self, usage: str, where: Range, name: Name, peer: str) -> str | None:
        words, block = count(where.shape), where.block
        if not words:
            return None
        size, stream, named = blocks_for(words), self._scope(where.scope) + USAGES[usage], self._named(name)
        at, place, before, after = self._around(stream, block)
        if before is not None and block < before.stop:
            is_one = words == before.words and named == before.name and not (block - before.block) % size
            return None if is_one else self._peers[before.peer]
        if after is not None and after.block < block + size:
            return self._peers[after.peer]
        by = self._number(peer)
        if before is not None and (before.stop, before.words, before.peer, before.name) == (block, words, by, named):
            # The masks of one op follow each other.
            self._write(at, place - LAYOUT.size, place, LAYOUT.pack(*before._replace(ranges=before.ranges + 1)))
        else:
            self._write(at, place, place, LAYOUT.pack(stream[:SCOPE_BYTES], stream[-1], block, words, 1, by, named))
        return None

    def _around(self, stream: bytes, block: int) -> tuple[int, int, Run | None, Run | None]:
        """The page, and the byte in it, where a run of `stream` from `block` on would be; the run that begins there or before, and the one after."""
        start = stream + block.to_bytes(START - STREAM, "big")
        at = bisect_right(self._starts, start) - 1
        page, before, after = self._pages[at], None, None
        offsets = range(0, len(page), LAYOUT.size)
        place = bisect_right(offsets, start, key=lambda offset: page[offset : offset + START]) * LAYOUT.size
        if place and page.startswith(stream, place - LAYOUT.size):
            before = Run._make(LAYOUT.unpack_from(page, place - LAYOUT.size))
        following, offset = (page, place) if place < len(page) else (self._pages[at + 1] if at + 1 < len(self._pages) else b"", 0)
        if following.startswith(stream, offset):
            after = Run._make(LAYOUT.unpack_from(following, offset))
        return at, place, before, after

    def _write(self, at: int, first: int, last: int, run: bytes) -> None:
        """Put `run` in place of bytes first:last of a page."""
        page = self._pages[at]
        page = self._pages[at] = b"".join((page[:first], run, page[last:]))
        if len(page) > MOST * LAYOUT.size:
            half = MOST // 2 * LAYOUT.size
            self._pages[at : at + 1] = page[:half], page[half:]
            self._starts.insert(at + 1, page[half : half + START])

    def _scope(self, scope: str) -> bytes:
        if self._last[0] != scope:
            self._last = scope, self._digest(SCOPE_BYTES, scope.encode())
        return self._last[1]

    def _named(self, name: Name) -> bytes:
        if isinstance(name, bytes):
            return self._digest(NAME_BYTES, name)
        known = self._short.get(name)
        if known is None:
            # No relation's name either, which is canonical msgpack of a list.
            known = self._short[name] = self._digest(NAME_BYTES, repr(name).encode())
        return known

    def _digest(self, size: int, data: bytes) -> bytes:
        digest = self._keyed[size].copy()
        digest.update(data)
        return digest.digest()

    def _number(self, peer: str) -> int:
        if peer not in self._peers:
            self._peers.append(peer)
        return self._peers.index(peer)
