"""Attackers of the channel, as strong as the threat model lets them be."""

from __future__ import annotations

from mpc.framing.handshake import KK


def flipped(raw, bit):
    """The same bytes with one bit changed."""
    out = bytearray(raw)
    out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


class KeyThief(KK):
    """Holds A's secret key and poses towards A as the initiator B.  It can compute DH(a, B), but not DH(b, A's ephemeral)."""

    def __init__(self, a, public_b, prologue, suite="AESGCM"):
        super().__init__(False, suite, prologue, a.curve_secret, public_b, peer=a.name)
        self._initiator = True
        self._public_b = public_b
        self._rs = a.curve_public

    def _mix_key(self, secret, public):
        super()._mix_key(secret, self._public_b if secret is self._s and public is self._rs else public)
