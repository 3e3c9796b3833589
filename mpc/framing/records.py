"""Sealed records: one AEAD key and counter per direction; anything but the next record kills the direction (paper: noise)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from cryptography.exceptions import InvalidTag

from mpc.errors import PeerMisbehaved, ProgramError
from mpc.framing.handshake import SEAL_BYTES, cipher, nonce

if TYPE_CHECKING:
    from mpc.framing.wire import Part

MAX_RECORD = 1 << 20
"""Bytes of plaintext in a record."""
REKEY_AFTER = 1 << 36
"""Bytes of plaintext under one key: 2^32 blocks of AES, at which GCM's birthday bound gives an attacker about 2^-64."""
MAX_COUNTER = (1 << 64) - 2
"""The last nonce of a record; the next one is for a new key."""


class _Direction:
    __slots__ = ("_aead", "_bytes", "_counter", "_pid", "_rekey_after", "_suite")

    def __init__(self, key: bytes, suite: str, rekey_after: int = REKEY_AFTER) -> None:
        self._aead = cipher(suite, key)
        self._suite = suite
        self._counter = 0
        self._bytes = 0
        self._rekey_after = rekey_after
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._suite}, record {self._counter})"

    def _next_nonce(self) -> bytes:
        if os.getpid() != self._pid:
            # A forked child would reuse its parent's counters.
            msg = "this process was forked from the one that opened the channel; open a node of its own"
            raise ProgramError(msg)
        if self._counter > MAX_COUNTER:
            msg = "the record counter is used up"
            raise OverflowError(msg)
        number = nonce(self._suite, self._counter)
        self._counter += 1
        return number

    def _account(self, size: int) -> None:
        # Both ends count the same plaintext bytes, so both change the key after the same record. This is Noise's REKEY. Its nonce, 2^64 -
        # 1,
        # is beyond MAX_COUNTER and seals no record. The counter goes on, so no nonce is ever used twice, whatever the key.
        self._bytes += size
        if self._bytes >= self._rekey_after:
            fresh = self._aead.encrypt(nonce(self._suite, (1 << 64) - 1), bytes(32), b"")[:32]
            self._aead = cipher(self._suite, fresh)
            self._bytes = 0


class Sealer(_Direction):
    """Seals what this side sends."""

    def seal(self, plaintext: Part) -> bytes:
        """The ciphertext and tag. ValueError beyond MAX_RECORD bytes."""
        if len(plaintext) > MAX_RECORD:
            msg = f"a record of {len(plaintext)} bytes; at most {MAX_RECORD} fit"
            raise ValueError(msg)
        sealed = self._aead.encrypt(self._next_nonce(), plaintext, None)
        self._account(len(plaintext))
        return sealed


def opening_buffer() -> memoryview:
    """Memory to open records in, one at a time; shared by all channels of a thread."""
    # Not filled with zeros: only the pages that a record needs are ever committed.
    return np.empty(MAX_RECORD, np.uint8).data


class Opener(_Direction):
    """Opens the peer's records in order, each exactly once; dead for ever after the first record that is not the next one."""

    __slots__ = ("_buffer", "_dead", "_peer")

    def __init__(self, key: bytes, suite: str, peer: str, buffer: memoryview, rekey_after: int = REKEY_AFTER) -> None:
        super().__init__(key, suite, rekey_after)
        self._buffer = buffer
        self._peer = peer
        self._dead = False

    def open(self, record: Part) -> memoryview:
        """The plaintext, valid until the next record is opened in the same buffer; PeerMisbehaved if `record` is not the peer's next
        one.
        """
        if self._dead or not SEAL_BYTES <= len(record) <= MAX_RECORD + SEAL_BYTES:
            self._dead = True
            raise PeerMisbehaved(self._peer, "sent a record of an impossible length, or went on after a wrong one")
        size = len(record) - SEAL_BYTES
        plaintext = self._buffer[:size]
        try:
            # The buffer is reused: fresh pages would cost as much as the cipher.
            self._aead.decrypt_into(self._next_nonce(), record, None, plaintext)
        except InvalidTag:
            self._dead = True
            raise PeerMisbehaved(self._peer, "a record was altered, repeated, reordered or lost on the way") from None
        self._account(size)
        return plaintext
