"""docs/errors.md has a row for every error that the sources make: all of mpc, parties and protocols, all kinds."""

from __future__ import annotations

import re
from functools import cache
from itertools import groupby

import pytest

from tests.error_rows import DOCUMENT, ROWS
from tests.error_texts import LETTERS, Q, Sources

UNSEEN = {
    f"{Q} words do not hold the bits of shape {Q}": "ops make the words of bits",
    f"a masked value of shape {Q} under a mask of shape {Q}": "ops make masked values",
    f"a mask of shape {Q} cannot hide words of shape {Q}: some of it would hide two": "ops take masks of the shape of what they hide",
    f"{Q} has no endpoint in the roster": "only a member with an endpoint is dialled",
}
"""Texts that no program has met, and why: each stands guard over what is promised elsewhere."""
TOLD = {"PeerLost", "PeerMisbehaved"}
"""Kinds whose section of the document says for all texts of one clause, which say what the peer did and no more, what to do."""
YET = {
    "mpc/channels/flow.py",
    "mpc/framing/handshake.py",
    "mpc/framing/records.py",
    "mpc/messaging/agreement.py",
    "mpc/messaging/departure.py",
    "mpc/network/checks.py",
    "mpc/network/mesh.py",
    "mpc/network/ways.py",
    "mpc/preprocessing/dealer.py",
    "mpc/transport/incoming.py",
    "mpc/transport/mqtt.py",
    "mpc/transport/office.py",
    "parties/check.py",
}
"""Modules of which rows are still to be written."""
BY_MODULE = {path: list(found) for path, found in groupby(Sources().raised(), lambda each: each.path)}


def one_clause(text):
    """Whether a text only says what happened; what more it says has a row."""
    return not re.search(r"[;:.] |\.$", text)


@cache
def documented(kind, text):
    """Whether a row shows this text, or may become it; it may stand in it behind a file, a place or a name, each with a colon."""
    shown = text.replace(Q, "Q")
    becomes = re.compile(".*".join(map(re.escape, text.split(Q))))
    for row in ROWS:
        parts = row.text.split(": ") if row.kind == kind else []
        for number in range(len(parts)):
            behind = ": ".join(parts[number:])
            if LETTERS.search(behind) and (row._replace(text=behind).shows(shown) or becomes.fullmatch(behind)):
                return True
        if parts and row.shows(f"Q: {shown}"):
            return True
    return kind in TOLD and (one_clause(text) or f"`{text}`" in DOCUMENT)


def is_known(kind, text):
    """Whether the document has it; of what only passes on another text, that text is looked at where it is written."""
    return text in UNSEEN or not LETTERS.search(text) or documented(kind, text)


@pytest.mark.parametrize("path", sorted(BY_MODULE.keys() - YET))
def test_every_error_of_a_module_is_documented(path):
    lacking = []
    for line, raised in groupby(BY_MODULE[path], lambda each: each.line):
        # A repr of a number has no quotes, and a variable kind comes with the texts of all kinds.
        texts = {}
        for each in raised:
            texts.setdefault(each.text.replace(f"'{Q}'", Q), []).append(is_known(each.kind, each.text))
        lacking += [(line, text) for text, known in texts.items() if not any(known)]
    assert not lacking


def test_what_is_unseen_is_written_and_has_no_row():
    written = {each.text: each.kind for found in BY_MODULE.values() for each in found}
    assert written.keys() >= UNSEEN.keys()
    assert not any(documented(written[text], text) for text in UNSEEN)
