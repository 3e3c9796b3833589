"""TOML documents: their contents, the lines of their values, and the likely meaning of a misspelt word."""

from __future__ import annotations

import bisect
import difflib
import tomllib
from typing import TYPE_CHECKING, Any

from mpc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


MAX_DEPTH, MAX_BITS = 16, 64
"""Limits on nesting, and on the bits of an integer: none of our files has more, and TOML itself guarantees no longer integers."""
MAX_TRIED = 100
"""Lines at which one statement might end but does not: trying all of them would take quadratic time."""
_ZERO = ("\\u0000", "\\U00000000")
"""The escapes of a zero byte in a text; a raw zero byte is not valid TOML."""
_CLOSING = ("]", "}", '"""', "'''")
"""Characters that end the last line of a multi-line value."""


AGAIN = "a key or a table is there again, or adds to one that is complete; keep one of the two, or write all of it in one place"
"""The meaning of `Cannot overwrite a value` and similar errors."""


def parsed(text: str, source: str) -> dict[str, Any]:
    """The TOML document `text`; ConfigError names `source`, the line and the error, including errors that the library raises under
    other names or not at all.
    """
    # With a final line end, an error at the end of the file has a line, too.
    text += "\n"
    try:
        return _document(text)
    except tomllib.TOMLDecodeError as fault:
        again = str(fault).startswith(("Cannot ", "Duplicate "))
        msg = f"{source}: {AGAIN if again else 'is not TOML'}: {fault}"
        raise ConfigError(msg) from None


def undecodable(source: str, fault: UnicodeDecodeError) -> ConfigError:
    """The error for a file `source` whose text is not UTF-8."""
    line = fault.object.count(b"\n", 0, fault.start) + 1
    return ConfigError(f"{source}, line {line}: a byte there is not UTF-8; save the file as UTF-8 text")


def _document(text: str) -> dict[str, Any]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except (ValueError, RecursionError):
        # Python reads no number of thousands of digits, and the library recurses into nested values.
        raise _beyond() from None
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        if any(isinstance(each, int) and each.bit_length() > MAX_BITS for each in level):
            raise _beyond()
        if any(isinstance(each, str) and "\0" in each for each in level):
            # The system accepts no such path, and Python reports that with different errors in many places.
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
    """A hint with the closest known word, or the list of all known words."""
    listed = list(known)
    close = difflib.get_close_matches(word, listed, len(listed) or 1)
    if not close:
        return f"known are: {', '.join(listed) or 'none'}"
    # Among equally close ones, prefer one with the same beginning.
    best = max(close, key=lambda each: (difflib.SequenceMatcher(None, each, word).ratio(), each[:1] == word[:1]))
    return f"did you mean {best!r}?"


def at_line(text: str, location: Sequence[str | int]) -> str:
    """`, line N`: the line where the value at `location` of the TOML document `text` begins, or the deepest existing table around it.

    Empty if not even the first step exists, or if a value before it has too many lines that might be its last. `text` must be valid TOML;
    keys are names, list entries count from 0.
    """
    lines = text.split("\n")
    begins: list[int] = []
    ends: list[int] = []
    begin = tried = 0
    for end in range(1, len(lines) + 1):
        if end > begin + 1 and not any(mark in lines[end - 1] for mark in _CLOSING):
            continue
        # A statement ends at the first line with which it parses, so multi-line values, quotes and comments are no special cases.
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
    """The number of steps of `location` that exist in `text`."""
    here: Any = tomllib.loads(text)
    for count, step in enumerate(location):
        exists = step in here if isinstance(here, dict) else isinstance(here, list) and isinstance(step, int) and step < len(here)
        if not exists:
            return count
        here = here[step]
    return len(location)


class MisplacedError(ConfigError):
    """An error at `location` of a TOML document."""

    def __init__(self, text: str, *location: str | int) -> None:
        super().__init__(text)
        self.location = location
