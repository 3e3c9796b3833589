"""The dealer's record of all asks of a session: which words have a name, and which name, in a few bytes per range."""

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
"""Bytes of the digest of a scope. Two scopes with one digest would count as one: then more is refused, never less."""
NAME_BYTES = 16
"""Bytes of the digest of a name. Its key is fresh for each session and never leaves it, and a wrong guess ends the session."""
LAYOUT = Struct(f">{SCOPE_BYTES}sBQIIH{NAME_BYTES}s")
STREAM = SCOPE_BYTES + 1
START = STREAM + 8
"""Bytes of a run's start: its stream and its first block."""
MOST = 1 << 6
"""Most runs in one page."""
RECENT = 1 << 10
"""Recently bound masks that are remembered with their names: a product mostly has the masks of the one before."""
USAGES = {usage: bytes([number]) for number, usage in enumerate((MASK, BIT_MASK, SHARE, BIT_SHARE))}


class Run(NamedTuple):
    """`ranges` consecutive ranges of `words` words each, from `block` on, that one party bound to one name."""

    scope: bytes
    usage: int
    block: int
    words: int
    ranges: int
    peer: int
    name: bytes

    @property
    def stop(self) -> int:
        """The first block after the run."""
        return self.block + self.ranges * blocks_for(self.words)


class Bindings:
    """The name to which each range was bound first, and by whom; any other use of it ends the session.

    Nothing is ever forgotten, since a party may ask as late as it likes. Memory: LAYOUT.size bytes per run, and little beside.
    """

    def __init__(self) -> None:
        # Copied for each digest, since a key takes as long as the data to hash.
        self._keyed = {
            size: blake2b(key=secrets.token_bytes(32), digest_size=size, person=b"beaver/bound/v1") for size in (SCOPE_BYTES, NAME_BYTES)
        }
        self._last = "", self._digest(SCOPE_BYTES, b"")
        """The last scope asked for, and its digest: a relation mostly has one scope."""
        self._short: dict[Name, bytes] = {}
        """Digests of the names of masks: each party's, and the one for no party."""
        self._recent: dict[tuple[str, Range, Name], None] = {}
        self._peers: list[str] = []
        self._starts = [b""]
        self._pages = [b""]
        """Runs in the order of their starts, as bytes; `_starts` has the start of each page's first run, for the first page one before
        all runs.
        """

    def bind(self, usage: str, where: Range, name: Name, peer: str) -> str | None:
        """Bind the words at `where` to `name` and return None, also if they were bound to exactly it; else return the party that bound
        some of them to another name.
        """
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
        """The page and the byte in it at which a run of `stream` from `block` on belongs, the run that begins there or before, and the
        one after.
        """
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
        """Replace bytes first:last of a page with `run`."""
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
