"""A party's keyed streams in one session, and the forward-only allocation of their ranges by scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from mpc.correlations import MaskName, Range
from mpc.prg import Stream, blocks_for, derive
from mpc.ring import Words, count, zeros

if TYPE_CHECKING:
    from collections.abc import Mapping


def pair_seed(exporter: bytes, transcript: bytes, session: bytes, job: bytes, one: str, other: str) -> bytes:
    """The seed that two ends of a channel share in one session; keyed by the channel's exporter, bound to all the rest."""
    return derive(exporter, "pair", transcript, session, job, *sorted((one, other)))


def mask_words(seed: bytes, name: MaskName) -> Words:
    """One party's share of the mask `name`; the dealer calls it with every party's seed."""
    return Stream(seed, ("mask", name.scope)).words(name.block, name.shape)


def share_words(seed: bytes, out: Range) -> Words:
    """One party's share of the correlation at `out`, unless it is the receiver."""
    return Stream(seed, ("share", out.scope)).words(out.block, out.shape)


class Ranges:
    """Hands out ranges of one scope; each usage only moves forward, by whole blocks."""

    __slots__ = ("_next", "scope")

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self._next: dict[str, int] = {}

    def take(self, usage: str, shape: tuple[int, ...]) -> Range:
        """A range of `shape` words that no one else in this session will ever get."""
        block = self._next.get(usage, 0)
        self._next[usage] = block + blocks_for(count(shape))
        return Range(self.scope, block, shape)


class Watch(Protocol):
    """Sees which stream words are spent on what; the simulator's mask oracle implements it."""

    def spends(self, party: int, usage: str, where: Range, on: Words | bytes) -> None:
        """`where` of stream `usage` at `party` is spent on these secret words, or on this relation."""


class Streams:
    """Everything party `index` can expand without help: its masks, its shares, and zero sharings with each other party."""

    def __init__(self, index: int, dealer: bytes, pairs: Mapping[int, bytes], watch: Watch | None = None) -> None:
        self._index = index
        self._dealer = dealer
        self._pairs = dict(pairs)
        self._watch = watch

    def __repr__(self) -> str:
        return "Streams(...)"

    def mask(self, name: MaskName, hides: Words) -> Words:
        """This party's share of a mask, to be spent on the share `hides` and on nothing else, ever."""
        if self._watch:
            self._watch.spends(self._index, "mask", name, hides)
        return mask_words(self._dealer, name)

    def share(self, out: Range, relation: bytes) -> Words:
        """This party's share of the correlation `relation` at `out`."""
        if self._watch:
            self._watch.spends(self._index, "share", out, relation)
        return share_words(self._dealer, out)

    def expect(self, out: Range, relation: bytes) -> None:
        """This party's share of `relation` at `out` comes as a correction; its own stream is not read there."""
        if self._watch:
            self._watch.spends(self._index, "share", out, relation)

    def zero(self, where: Range) -> Words:
        """Words that sum to 0 over the parties, uniform to any n - 1 of them: every pair shares a seed, never a ring."""
        total = zeros(where.shape)
        for other, seed in self._pairs.items():
            if self._watch:
                self._watch.spends(self._index, f"zero {other}", where, b"zero")
            words = Stream(seed, ("zero", where.scope)).words(where.block, where.shape)
            if self._index < other:
                total += words
            else:
                total -= words
        return total
