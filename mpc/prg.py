"""AES-128-CTR as a seekable stream of ring words, keyed by BLAKE2b (papers: sp800-38a, blake2)."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from mpc.ring import WORD, Words, count

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.ciphers import CipherContext
    from numpy.typing import NDArray

SEED_BYTES = 32
BLOCK_WORDS = 2
_CHUNK = 1 << 18
_SHORT = 16
_PIECE = 1 << 13
"""Single words that are read at a time: their blocks stay in cache."""
_ZEROS = bytes(_CHUNK)


def fields(*parts: bytes | str | int) -> bytes:
    """Canonical bytes of a list: every field is preceded by its length, so no two lists share an encoding."""
    out: list[bytes] = []
    for part in parts:
        raw = part if isinstance(part, bytes) else part.encode() if isinstance(part, str) else part.to_bytes(8, "little")
        out += (len(raw).to_bytes(4, "little"), raw)
    return b"".join(out)


def derive(key: bytes, *context: bytes | str | int) -> bytes:
    """A 32-byte seed from `key` (16 to 64 bytes, all of them used) and its context."""
    if not 16 <= len(key) <= 64:
        msg = f"a key of {len(key)} bytes: between 16 and 64 are needed"
        raise ValueError(msg)
    return blake2b(fields(*context), key=key, digest_size=SEED_BYTES, person=b"beaver/seed/v1").digest()


def blocks_for(words: int) -> int:
    """How many 16-byte blocks, the unit in which streams are allocated, hold `words` ring words."""
    return -(-words // BLOCK_WORDS)


class Stream:
    """An endless sequence of pseudorandom words; any slice can be recomputed from its first block."""

    __slots__ = ("_block_cipher", "_key")

    def __init__(self, seed: bytes, label: Iterable[bytes | str | int]) -> None:
        self._key = algorithms.AES128(derive(seed, *label)[:16])
        self._block_cipher: CipherContext | None = None

    def __repr__(self) -> str:
        return "Stream(...)"

    def words(self, first_block: int, shape: tuple[int, ...]) -> Words:
        """Uniform words of `shape`, starting at block `first_block` of the stream."""
        return self.slice(first_block, 0, count(shape)).reshape(shape)

    def slice(self, first_block: int, start: int, stop: int) -> Words:
        """Words start:stop, counted from block `first_block`, without computing those before."""
        skipped = start % BLOCK_WORDS
        counter = first_block + start // BLOCK_WORDS
        if stop - start <= _SHORT:
            return self._short(counter, blocks_for(stop - start + skipped))[skipped : skipped + stop - start]
        out = np.empty(stop - start + skipped, WORD)
        encrypt = Cipher(self._key, modes.CTR(counter.to_bytes(16, "big"))).encryptor().update_into
        target = out.view(np.uint8)
        for at in range(0, target.size, _CHUNK):
            end = min(at + _CHUNK, target.size)
            encrypt(_ZEROS[: end - at], target[at:end].data)
        return out[skipped:]

    def _short(self, counter: int, blocks: int) -> Words:
        """The stream's words by encrypting the counters: one cipher context serves all short reads, while counter mode needs one for
        each.
        """
        return self._blocks(b"".join([(counter + block).to_bytes(16, "big") for block in range(blocks)]))

    def at(self, first_block: int, places: NDArray[np.intp]) -> Words:
        """The words at these places, counted as in `slice`, without making those between: each from its one block."""
        out = np.empty(places.size, WORD)
        for start in range(0, places.size, _PIECE):
            piece = places[start : start + _PIECE]
            counters = np.zeros((piece.size, 2), ">u8")
            counters[:, 1] = first_block + piece // BLOCK_WORDS
            blocks = self._blocks(counters.tobytes()).reshape(-1, BLOCK_WORDS)
            out[start : start + _PIECE] = blocks[np.arange(piece.size), piece % BLOCK_WORDS]
        return out

    def _blocks(self, counters: bytes) -> Words:
        if self._block_cipher is None:
            self._block_cipher = Cipher(self._key, modes.ECB()).encryptor()  # noqa: S305  of counters, each for its own block: counter mode
        # A bytearray, so that the words are writable like those of long reads.
        return np.frombuffer(bytearray(self._block_cipher.update(counters)), WORD)
