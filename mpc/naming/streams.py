"""A party's keyed streams in one session, and the forward-only allocation of their ranges by scope."""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mpc.errors import ProgramError
from mpc.naming import expressions
from mpc.naming.expressions import MAX_SCOPE, Range
from mpc.prg import Stream, blocks_for, derive
from mpc.ring import WORD, Words, count, zeros

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mpc.naming.expressions import Expression, Wanted

MASK, BIT_MASK, SHARE, BIT_SHARE, ZERO, ZERO_XOR = "mask", "bit-mask", "share", "bit-share", "zero", "zero-xor"
"""Usages of streams; no two usages share words."""
FEW = 8
"""Most words of a range that come from one hash."""
PIECE = 1 << 15
"""Words of a zero sharing that are made at a time, so that those of all pairs stay in cache."""
KEPT = 1 << 11
"""Words up to which one whole range is cached: whoever reads a row of it often reads the next."""


def pair_seed(exporter: bytes, transcript: bytes, session: bytes, job: bytes, one: str, other: str) -> bytes:
    """The seed that the two ends of a channel share in one session; keyed by the channel's exporter, bound to all other arguments."""
    return derive(exporter, "pair", transcript, session, job, *sorted((one, other)))


def confirmation(seed: bytes, session: bytes, sender: str) -> bytes:
    """The value with which `sender` confirms the session to the other end of this seed; nobody without the seed can compute it."""
    return derive(seed, "confirm", session, sender)


class Seed:
    """All streams of one seed: one per usage and scope."""

    __slots__ = ("_kept", "_last", "_seed")

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._last: tuple[tuple[str, str], Stream] | None = None
        self._kept: tuple[tuple[str, Range], Words] | None = None

    def __repr__(self) -> str:
        return "Seed(...)"

    def _stream(self, usage: str, scope: str) -> Stream:
        # The arrays of one op come one after the other from one stream.
        last = self._last
        if last is None or last[0] != (usage, scope):
            last = self._last = (usage, scope), Stream(self._seed, (usage, scope))
        return last[1]

    def words(self, usage: str, where: Range) -> Words:
        """The words at `where` of the stream `usage`."""
        if count(where.shape) <= FEW:
            return self._few(usage, where).reshape(where.shape)
        return self._stream(usage, where.scope).words(where.block, where.shape)

    def slice(self, usage: str, where: Range, start: int, stop: int) -> Words:
        """Flat words start:stop of the range `where`."""
        size = count(where.shape)
        if size <= FEW:
            return self._few(usage, where)[start:stop]
        if size > KEPT or stop - start == size:
            return self._stream(usage, where.scope).slice(where.block, start, stop)
        kept = self._kept
        if kept is None or kept[0] != (usage, where):
            kept = self._kept = (usage, where), self._stream(usage, where.scope).words(where.block, (size,))
        return kept[1][start:stop].copy()

    def some(self, usage: str, where: Range, wanted: Wanted) -> Words:
        """Flat words of the range `where`: a slice, or the words at some places."""
        if not isinstance(wanted, np.ndarray):
            return self.slice(usage, where, wanted.start, wanted.stop)
        size = count(where.shape)
        if size <= KEPT:
            return self.slice(usage, where, 0, size)[wanted]
        return self._stream(usage, where.scope).at(where.block, wanted)

    def _few(self, usage: str, where: Range) -> Words:
        # One hash instead of a key and a cipher of its own; usages have no spaces and blocks are digits, so no two ranges have the same
        # name.
        name = f"{usage} {where.block} {where.scope}".encode()
        drawn = blake2b(name, key=self._seed, digest_size=WORD.itemsize * FEW, person=b"beaver/few/v1").digest()
        # A bytearray, so that the words are writable like those of long ranges.
        return np.frombuffer(bytearray(drawn), WORD, count(where.shape))


class Ranges:
    """Hands out ranges of one scope; each usage only moves forward, by whole blocks."""

    __slots__ = ("_next", "scope")

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self._next: dict[str, int] = {}

    @classmethod
    def of(cls, path: tuple[int, ...]) -> Ranges:
        """The ranges of the scope at `path`, none of them taken yet."""
        scope = ".".join(map(str, path))
        if len(scope) > MAX_SCOPE:
            # Checked at every party: otherwise the dealer would think that the party that asks for a correlation of this scope misbehaves.
            msg = f"this call is {len(path)} calls deep, too far in to have a name of its own: call it from further out"
            raise ProgramError(msg)
        return cls(scope)

    def take(self, usage: str, shape: tuple[int, ...]) -> Range:
        """A range of `shape` words that this session never hands out again."""
        block = self._next.get(usage, 0)
        self._next[usage] = block + blocks_for(count(shape))
        return Range(self.scope, block, shape)

    def mask(self, shape: tuple[int, ...], owner: int | None = None) -> Expression:
        """The name of a fresh mask; of `owner` alone if given."""
        return expressions.mask(self.take(MASK, shape), owner)

    def wide_mask(self, shape: tuple[int, ...]) -> Expression:
        """The name of a fresh mask of numbers mod 2^128, two words each."""
        return expressions.wide(self.take(MASK, (*shape, 2)))

    def twin(self) -> Ranges:
        """Ranges that will hand out the same; for a dry run, which spends nothing."""
        twin = Ranges(self.scope)
        twin._next = dict(self._next)
        return twin

    def skip(self, other: Ranges) -> None:
        """Skip every range that `other`, of the same scope, has handed out."""
        for usage, block in other._next.items():
            self._next[usage] = max(self._next.get(usage, 0), block)


def check_hides(where: Range, words: Words) -> None:
    """ProgramError unless the mask at `where` has one word for each of `words`."""
    if words.shape != where.shape:
        msg = f"a mask of shape {where.shape} cannot hide words of shape {words.shape}: some of it would hide two"
        raise ProgramError(msg)


class StreamWatch(Protocol):
    """Sees which stream words are spent; the simulator's mask oracle implements it."""

    def spends(self, party: int, usage: str, where: Range) -> None:
        """`where` of stream `usage` at `party` is spent, on secret words or on a relation."""


class Expansion(Protocol):
    """Everything that a party can make without help: its masks, its shares, and zero sharings with each other party."""

    def mask(self, where: Range, usage: str = MASK) -> Words:
        """This party's share of a mask, to be spent on one share of its shape and on nothing else, ever."""

    def hide(self, where: Range, words: Words) -> Words:
        """The share `words` minus this party's share of a mask that is spent on it and kept by nobody."""

    def share(self, usage: str, out: Range) -> Words:
        """This party's share of the correlation at `out`, for one relation and no other."""

    def expect(self, usage: str, out: Range) -> None:
        """Note that this party's share of the correlation at `out` comes from the dealer; its own stream is not read there."""

    def zero(self, where: Range, usage: str = ZERO) -> Words:
        """Words that sum (usage `zero`) or XOR (`zero-xor`) to 0 over the parties, uniform to any n - 1 of them."""


class Streams:
    """The streams of party `index`, from its seeds with the dealer and with every other party."""

    def __init__(self, index: int, dealer: bytes, pairs: Mapping[int, bytes], watch: StreamWatch | None = None) -> None:
        self._index = index
        self._dealer = Seed(dealer)
        self._pairs = {other: Seed(seed) for other, seed in pairs.items()}
        self._watch = watch
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return "Streams(...)"

    def _refuse_fork(self) -> None:
        if os.getpid() != self._pid:
            msg = "this process was forked from the one that runs the session, whose streams it would repeat; open a node of its own"
            raise ProgramError(msg)

    def mask(self, where: Range, usage: str = MASK) -> Words:
        """See Expansion."""
        self._refuse_fork()
        if self._watch:
            self._watch.spends(self._index, usage, where)
        return self._dealer.words(usage, where)

    def hide(self, where: Range, words: Words) -> Words:
        """See Expansion. The result takes the mask's memory."""
        check_hides(where, words)
        a = self.mask(where)
        return np.subtract(words, a, out=a)

    def share(self, usage: str, out: Range) -> Words:
        """See Expansion."""
        self._refuse_fork()
        if self._watch:
            self._watch.spends(self._index, usage, out)
        return self._dealer.words(usage, out)

    def expect(self, usage: str, out: Range) -> None:
        """See Expansion."""
        if self._watch:
            self._watch.spends(self._index, usage, out)

    def zero(self, where: Range, usage: str = ZERO) -> Words:
        """See Expansion. Every pair shares a seed, never a ring of neighbours."""
        self._refuse_fork()
        for other in self._pairs:
            if self._watch:
                self._watch.spends(self._index, f"{usage} {other}", where)
        total = zeros(where.shape)
        flat = total.reshape(-1)
        for start in range(0, flat.size, PIECE):
            part = flat[start : start + PIECE]
            for other, seed in self._pairs.items():
                words = seed.slice(usage, where, start, start + part.size)
                # One of the two adds what the other one subtracts.
                combine = np.bitwise_xor if usage == ZERO_XOR else np.subtract if self._index > other else np.add
                combine(part, words, out=part)
        return total
