"""The tags and digests of a session's messages: functions of what all members know, so they need not be sent ahead.

docs/wire.md has both in full.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from mpc.canonical import pack_sequence
from mpc.framing import wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpc.naming.expressions import Tree

    About = tuple[str, Sequence[int], Sequence[int], Sequence[Tree | bytes]]


def message_tag(session: bytes, scope: str, number: int) -> bytes:
    """The tag of a message: the session's prefix, and a hash of (session, path of its scope, its number there)."""
    name = session + pack_sequence((scope, number))
    return session[: wire.SESSION_PREFIX] + blake2b(name, digest_size=wire.TAG_HASH_BYTES, person=b"beaver/tag").digest()


def message_digest(session: bytes, tag: bytes, about: About) -> bytes:
    """The digest on which both ends must agree before a value under `tag` is used: op, shape, lineages, and names of masks or of a
    relation.
    """
    op, shape, lineages, names = about
    histories = [lineage.to_bytes(16, "little") for lineage in lineages]
    packed = session + pack_sequence((tag, op, shape, histories, names))
    return blake2b(packed, digest_size=wire.DIGEST_BYTES, person=b"beaver/message").digest()


def correction_tag(session: bytes, key: bytes) -> bytes:
    """The tag of the correction of the relation `key`: a function of its name alone, so the same whenever it is asked for."""
    tag = blake2b(session + key, digest_size=wire.TAG_HASH_BYTES, person=b"beaver/correct").digest()
    return session[: wire.SESSION_PREFIX] + tag


def correction_digest(tag: bytes, key: bytes) -> bytes:
    """The digest on which dealer and receiver must agree before a correction is used."""
    return blake2b(tag + key, digest_size=wire.DIGEST_BYTES, person=b"beaver/dealt").digest()
