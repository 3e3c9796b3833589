"""Every invariant of docs/invariants.md has a test that names it, and no test names one that does not exist."""

from __future__ import annotations

import ast
import re

from tests.conftest import ROOT


def named(head):
    """The numbers that a head names, as in "(invariants 4, 25-27)"."""
    for listed in re.findall(r"\(invariants? ([\d, -]+)\)", head):
        for part in listed.split(", "):
            first, _, last = part.partition("-")
            yield from range(int(first), int(last or first) + 1)


def test_every_invariant_has_its_tests():
    text = (ROOT / "docs" / "invariants.md").read_text()
    written = [int(number) for number in re.findall(r"^(\d+)\. ", text, re.MULTILINE)]
    heads = [ast.get_docstring(ast.parse(path.read_text())) for path in (ROOT / "tests").glob("test_*.py")]
    assert written == list(range(1, 38))
    assert {number for head in heads for number in named(head)} == set(written)
