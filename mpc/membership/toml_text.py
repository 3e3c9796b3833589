"""TOML documents: what they say, where a value stands in one, and what a misspelt word may have meant."""

from __future__ import annotations

import bisect
import contextlib
import difflib
import re
import tomllib
from typing import TYPE_CHECKING, Any

from mpc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


MAX_DEPTH, MAX_BITS = 16, 64
"""Tables and lists inside each other, and bits of a whole number: no file of ours has more, and TOML itself promises no longer numbers."""
MAX_TRIED = 100
"""Lines at which one statement might end and does not: to try all of them would take as long as their square."""
_ZERO = ("\\u0000", "\\U00000000")
"""How a text may have a zero byte; where it stands as it is, it is no TOML."""
_CLOSING = ("]", "}", '"""', "'''")
"""What is in the last line of a value of many lines."""


_PLACE = re.compile(r"\(at line (\d+), column \d+\)")


def parsed(text: str, source: str) -> dict[str, Any]:
    """The TOML document `text`; ConfigError names `source`, the line and what is wrong, also of what the library takes or does not call so."""
    # With a last line end, a fault at the end of the file has a line too.
    text += "\n"
    try:
        return _document(text)
    except tomllib.TOMLDecodeError as fault:
        msg = f"{source}{_contradiction(text, str(fault)) or f': is not TOML: {fault}'}"
        raise ConfigError(msg) from None


def undecodable(source: str, fault: UnicodeDecodeError) -> ConfigError:
    """What is said of the file `source` whose text is not UTF-8."""
    line = fault.object.count(b"\n", 0, fault.start) + 1
    return ConfigError(f"{source}, line {line}: a byte there is not UTF-8; save the file as UTF-8 text")


def _contradiction(text: str, fault: str) -> str:
    """The line and the key of the statement that `fault` is about, if that is right by itself and only does not go with what stands above; empty otherwise."""
    found = _PLACE.search(fault)
    if found is None:
        return ""
    lines, end = text.split("\n"), int(found[1])
    # Its value may have many lines, and the fault is at the last of them.
    for begin in range(end - 1, max(end - 1 - MAX_TRIED, -1), -1):
        with contextlib.suppress(tomllib.TOMLDecodeError):
            statement = "\n".join(lines[begin:end])
            tomllib.loads(statement)
            above = "\n".join(lines[:begin])
            tomllib.loads(above)
            why = _why(statement, above)
            return f", line {begin + 1}: {why}" if why else ""
    return ""


def _why(statement: str, above: str) -> str:
    """How the statement contradicts the document `above`: it is there already, or something on the way to it that nothing is added to."""
    subject = _subject(statement)
    header = subject.startswith("[")
    own = _names(tomllib.loads(subject if header else f"{subject} = 0"))
    names = own if header else (*_table_at_end(above), *own)
    depth, here = 0, tomllib.loads(above)
    while depth < len(names) and isinstance(here, dict) and names[depth] in here:
        here = _last(here[names[depth]])
        depth += 1
    shown = subject if header else f"key {subject!r}"
    if depth == len(names):
        return f"{shown} is there already, further above; keep one of the two"
    if depth <= len(names) - len(own):
        return ""
    begun = ".".join(names[:depth])
    return f"{shown} adds to {begun!r}, which is complete further above; write all of it there, or call one of the two otherwise"


def _names(statement: dict[str, Any]) -> tuple[str, ...]:
    """The keys inside each other of which a statement is."""
    names, here = [], statement
    while here:
        ((name, inner),) = here.items()
        names.append(name)
        here = inner[0] if isinstance(inner, list) else inner
    return tuple(names)


def _table_at_end(text: str) -> tuple[str, ...]:
    """The table of which a key would be that is appended to the document."""
    mark = "_"
    while mark in text:
        mark += "_"
    tables: list[tuple[tuple[str, ...], Any]] = [((), tomllib.loads(f"{text}\n{mark} = 0"))]
    while mark not in tables[-1][1]:
        names, table = tables.pop()
        tables += [((*names, name), _last(inner)) for name, inner in table.items() if isinstance(_last(inner), dict)]
    return tables[-1][0]


def _last(value: Any) -> Any:
    """What a name inside this value is of: of tables with one name, the last."""
    return value[-1] if isinstance(value, list) and value else value


def _subject(statement: str) -> str:
    """The header of a table, or the key of a value, as it is written."""
    if statement.lstrip().startswith("["):
        return statement[: statement.rindex("]") + 1].strip()
    for place in (found.start() for found in re.finditer("=", statement)):
        # The first equals sign may be one of the key, in quotes.
        with contextlib.suppress(tomllib.TOMLDecodeError):
            tomllib.loads(f"{statement[:place]} = 0")
            return statement[:place].strip()
    return statement


def _document(text: str) -> dict[str, Any]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except (ValueError, RecursionError):
        # Python reads no number of thousands of digits, and the library calls itself for what is inside.
        raise _beyond() from None
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        if any(isinstance(each, int) and each.bit_length() > MAX_BITS for each in level):
            raise _beyond()
        if any(isinstance(each, str) and "\0" in each for each in level):
            # The system takes no such path, and Python says so with errors of its own at many places.
            line = text.count("\n", 0, text.index(next(filter(text.__contains__, _ZERO)))) + 1
            msg = f"a text has a zero byte, as no name and no path may (at line {line})"
            raise tomllib.TOMLDecodeError(msg)
        level = [inner for each in level if isinstance(each, dict | list) for inner in (each.values() if isinstance(each, dict) else each)]
    if level:
        raise _beyond()
    return document


def _beyond() -> tomllib.TOMLDecodeError:
    return tomllib.TOMLDecodeError(
        f"a number has more than {MAX_BITS} bits, or more than {MAX_DEPTH} tables and lists are inside each other"
    )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint with the closest known word, or the list of all."""
    listed = list(known)
    close = difflib.get_close_matches(word, listed, len(listed) or 1)
    if not close:
        return f"known are: {', '.join(listed) or 'none'}"
    # Of equally close ones, the one that begins alike.
    best = max(close, key=lambda each: (difflib.SequenceMatcher(None, each, word).ratio(), each[:1] == word[:1]))
    return f"did you mean {best!r}?"


def at_line(text: str, location: Sequence[str | int]) -> str:
    """`, line N`: where the value at `location` of the TOML document `text` begins, or the deepest table around it that exists.

    Empty if not even the first step exists, or a value before it has too many lines that might be its last.  `text` must be valid TOML; keys are names, list entries count from 0.
    """
    lines = text.split("\n")
    begins: list[int] = []
    ends: list[int] = []
    begin = tried = 0
    for end in range(1, len(lines) + 1):
        if end > begin + 1 and not any(mark in lines[end - 1] for mark in _CLOSING):
            continue
        # A statement ends at the first line with which it parses; so values of many lines, quotes and comments are no special cases.
        try:
            tomllib.loads("\n".join(lines[begin:end]))
        except tomllib.TOMLDecodeError:
            tried += 1
            if tried > MAX_TRIED:
                return ""
            continue
        begins.append(begin)
        ends.append(end)
        begin, tried = end, 0
    depth = _depth(text, location)
    found = bisect.bisect_left(ends, depth, key=lambda end: _depth("\n".join(lines[:end]), location))
    return f", line {begins[found] + 1}" if depth and found < len(begins) else ""


def _depth(text: str, location: Sequence[str | int]) -> int:
    """How many steps of `location` exist in `text`."""
    here: Any = tomllib.loads(text)
    for count, step in enumerate(location):
        exists = step in here if isinstance(here, dict) else isinstance(here, list) and isinstance(step, int) and step < len(here)
        if not exists:
            return count
        here = here[step]
    return len(location)


class MisplacedError(ConfigError):
    """A fault at `location` of a TOML document."""

    def __init__(self, text: str, *location: str | int) -> None:
        super().__init__(text)
        self.location = location
