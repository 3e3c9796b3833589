"""docs/errors.md has a row for every error of every kind that the sources of mpc, parties and protocols make."""

from __future__ import annotations

import re
from functools import cache
from itertools import groupby

import pytest

from parties.sources import cells
from tests.error_rows import DOCUMENT, ROWS
from tests.error_texts import LETTERS, Q, Sources, product

UNSEEN = {
    f"{Q} words do not hold the bits of shape {Q}": "ops make the words of bits",
    f"a masked value of shape {Q} under a mask of shape {Q}": "ops make masked values",
    f"a mask of shape {Q} cannot hide words of shape {Q}: some of it would hide two": "ops take masks of the shape of what they hide",
    f"{Q}: no such state file; restore it": "it is read only where it exists",
    f"{Q} has no endpoint in the roster": "only a member with an endpoint is dialled",
}
"""Texts that no program has met, and why: each stands guard over what is promised elsewhere."""
TOLD = {"PeerLost", "PeerMisbehaved", "AuthenticationFailed"}
"""Kinds whose section of the document says for all texts of one clause, which say what the peer did and no more, what to do."""
FINDINGS = {"parties/check.py", "mpc/network/checks.py"}
"""Where `beaver check` finds faults, which it tells with what to do behind."""


@cache
def raised_in_product():
    """Every error of the product, by its module: of no use to a process that runs other tests, which all collect these."""
    return {path: list(found) for path, found in groupby(Sources(product()).raised(), lambda each: each.path)}


def one_clause(text):
    """Whether a text only says what happened; what more it says has a row."""
    return not re.search(r"[;:.] |\.$", text)


def shown_by(row, *, found):
    """The texts that a row shows: all of it, and what stands in it behind a file, a place or a name, each with a colon."""
    parts = (row.text.rpartition("; ")[0] if found else row.text).split(": ")
    return [text for number in range(len(parts)) if LETTERS.search(text := ": ".join(parts[number:]))]


def behind_names(text):
    """A text, and what of it stands behind the name of a file, a place or a party."""
    name, _, behind = text.partition(": ")
    return [text] if LETTERS.search(name.replace(", line ", "")) or not LETTERS.search(behind) else [text, behind]


@cache
def documented(kind, text, *, found=False):
    """Whether a row shows this text, or may become it; of what `beaver check` has `found` also without what to do."""
    rows = [(row, shown) for row in ROWS if row.kind == kind for each in {False, found} for shown in shown_by(row, found=each)]
    for said in behind_names(text):
        filled, becomes = said.replace(Q, "Q"), re.compile(".*".join(map(re.escape, said.split(Q))))
        if any(row._replace(text=shown).shows(filled) or becomes.fullmatch(shown) for row, shown in rows):
            return True
    return kind in TOLD and (one_clause(text) or f"`{text}`" in DOCUMENT)


def is_known(raised):
    """Whether the document has it; of what only passes on another text, that text is looked at where it is written."""
    return raised.text in UNSEEN or not LETTERS.search(raised.text) or documented(raised.kind, raised.text, found=raised.path in FINDINGS)


def test_every_error_of_every_module_is_documented():
    lacking = []
    for path, found in raised_in_product().items():
        for line, raised in groupby(found, lambda each: each.line):
            # A repr of a number has no quotes, and a variable kind comes with the texts of all kinds.
            texts = {}
            for each in raised:
                texts.setdefault(each.text.replace(f"'{Q}'", Q), []).append(is_known(each))
            lacking += [(path, line, text) for text, known in texts.items() if not any(known)]
    assert not lacking


def test_what_is_wrong_with_a_cell_is_documented():
    texts = {name: text for name, text in vars(cells).items() if name.isupper() and isinstance(text, str)}
    assert len(texts) > 5
    assert [name for name, text in texts.items() if not documented("ConfigError", text)] == []


def test_what_is_unseen_is_written_and_has_no_row():
    written = {each.text: each.kind for found in raised_in_product().values() for each in found}
    assert written.keys() >= UNSEEN.keys()
    assert not any(documented(written[text], text) for text in UNSEEN)


SEEN = {
    "in place": ("raise ConfigError(f'{path}: is gone')", {("ConfigError", f"{Q}: is gone")}),
    "by its module": ("raise errors.PolicyDenied('not on the list', 'rule')", {("PolicyDenied", "not on the list")}),
    "remote": ("raise errors.PeerLost(name, 'is away')", {("PeerLost", "is away")}),
    "a subclass": ("class Mine(ConfigError): ...\nraise Mine('is gone')", {("ConfigError", "is gone")}),
    "of a sum": ("text = 'is '\nraise ConfigError(text + f'{what} gone')", {("ConfigError", f"is {Q} gone")}),
    "in branches": (
        "if a:\n    msg = 'one is'\nelif b:\n    msg = 'two are'\nelse:\n    raise ProgramError('three are')\nraise ConfigError(msg)",
        {("ConfigError", "one is"), ("ConfigError", "two are"), ("ProgramError", "three are")},
    ),
    "of a choice": ("raise ConfigError('one is' if a else 'two are')", {("ConfigError", "one is"), ("ConfigError", "two are")}),
    "of several kinds": (
        "kind = Disagreement if a else PeerLost\nraise kind(name, 'is other')",
        {("Disagreement", "is other"), ("PeerLost", "is other")},
    ),
    "by a call": (
        (
            "def deny(rule, text):\n    raise PolicyDenied(f'rule `{rule}`: {text}')\n"
            "deny('ask', 'it is late')\ndeny('gets', f'{who} may not')"
        ),
        {("PolicyDenied", "rule `ask`: it is late"), ("PolicyDenied", f"rule `gets`: {Q} may not")},
    ),
    "of a constant": ("TEXT = 'is gone'\ndef f():\n    raise ConfigError(TEXT)", {("ConfigError", "is gone")}),
    "of the nearest assignment": ("msg = 'an old one'\nmsg = 'a new one'\nraise ConfigError(msg)", {("ConfigError", "a new one")}),
}
"""Ways to raise, and the kinds and texts that are seen."""


@pytest.mark.parametrize("way", SEEN)
def test_every_way_to_raise_is_seen(way):
    source, seen = SEEN[way]
    lines = source.splitlines()
    # In a function, and as it stands.
    for text in (source, "\n".join(["def around(path, name, what):", *(f"    {line}" for line in lines)])):
        assert {(each.kind, each.text) for each in Sources({"m.py": text}).raised()} == seen, text
