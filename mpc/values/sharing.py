"""How someone who computes nothing splits words among the parties: a fresh secret for every party, and the difference for the first as
well.

A party's share is the stream of its secret; the first party's is its stream plus the difference. The secrets are random bytes of the
system, so the joint shares of any n - 1 parties are uniform, whatever the words are.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from mpc.prg import SEED_BYTES, Stream, fields
from mpc.ring import WORD, Words, count

if TYPE_CHECKING:
    from collections.abc import Sequence

_USAGE = ("client-share",)


def portion_bytes(shape: Sequence[int], *, first: bool) -> int:
    """The size of a party's portion of words of `shape`."""
    return SEED_BYTES + first * WORD.itemsize * count(tuple(shape))


@dataclass(frozen=True, slots=True, repr=False)
class Portion:
    """What one party gets: its secret, and for the first party the difference, of the shape of the words; None for others."""

    shape: tuple[int, ...]
    secret: bytes
    difference: Words | None = None

    def __repr__(self) -> str:
        return f"Portion(shape={self.shape})"

    @classmethod
    def parse(cls, raw: bytes | memoryview, shape: tuple[int, ...]) -> Portion:
        """The portion whose `pack` is `raw`, which has the size given by `portion_bytes`."""
        words = np.frombuffer(raw, WORD, offset=SEED_BYTES)
        return cls(shape, bytes(raw[:SEED_BYTES]), words.reshape(shape) if words.size else None)

    def pack(self) -> bytes:
        """The bytes to send to the party."""
        return self.secret + (b"" if self.difference is None else self.difference.tobytes())

    @property
    def commitment(self) -> bytes:
        """A 32-byte commitment to exactly this portion.

        Keyed with the secret: otherwise a holder of all other portions could try out possible words.
        """
        raw = b"" if self.difference is None else self.difference.tobytes()
        return blake2b(fields(*self.shape, raw), key=self.secret, digest_size=32, person=b"beaver/part/v1").digest()

    def words(self) -> Words:
        """This party's share: all parties' shares add up to the words that were split."""
        stream = Stream(self.secret, _USAGE).words(0, self.shape)
        return stream if self.difference is None else stream + self.difference


def split(words: Words, n: int) -> list[Portion]:
    """Portions of `words` for n parties, in their order. All secrets are new, so no two calls give related portions."""
    portions = [Portion(words.shape, secrets.token_bytes(SEED_BYTES)) for _ in range(n)]
    difference = words.copy()
    for portion in portions:
        difference -= portion.words()
    return [Portion(words.shape, portions[0].secret, difference), *portions[1:]]


__all__ = ["Portion", "portion_bytes", "split"]
