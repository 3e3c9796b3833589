"""The log of Beaver's own processes: one line per event on standard error, in UTC, and never a value.

`2026-03-01T09:30:00.125Z INFO node=hospital_a job=trial-7 peer=hospital_b phase=agreement waiting for hospital_c`

A record may carry `job`, `peer` and `phase` as attributes (`extra=` or a LoggerAdapter); if its text has them already, the text stays as it
is.
In JSON the same event is one object, and every `NAME=VALUE` at the beginning of its text becomes a field:

`{"time": "2026-03-01T09:30:00.125Z", "level": "INFO", "node": "hospital_a", "job": "trial-7", "phase": "done", "rounds": 12, "text": ""}`
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from enum import StrEnum
from pathlib import PurePath
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, TextIO

from mpc.errors import BeaverError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

FIELDS = ("job", "peer", "phase")
LONGEST = 4000
"""Characters of one text of an event; the rest is only counted.  A job may have 60,000 bytes of columns and parameters."""
_OURS = "beaver"
_PLAIN = re.compile(r"[^\s\"'=\\]+")
_KNOWN = frozenset({"Task exception was never retrieved", "Future exception was never retrieved", "Task was destroyed but it is pending!"})
"""The texts of asyncio that hold nothing of the program."""
_LEADING = re.compile(r"(\w+)=(%[sdg]|[^\s%]+)(?: |$)")
_NUMBERS = {"%d": int, "%g": float}


class LogFormat(StrEnum):
    """How an event is written."""

    TEXT = "text"
    JSON = "json"


def configure(verbose: int = 0, stream: TextIO | None = None, form: LogFormat = LogFormat.TEXT) -> None:
    """Log to standard error from now on: INFO, or DEBUG if `verbose`.  An exception that nobody catches becomes a line too.

    May be called again; then the new settings apply.
    """
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Lines)]:
        root.removeHandler(handler)
    handler = _Lines(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(verbose) if form is LogFormat.JSON else Formatter(verbose))
    root.addHandler(handler)
    logging.getLogger(_OURS).setLevel(logging.DEBUG if verbose else logging.INFO)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_a_thread
    sys.unraisablehook = _unraisable


def announce(node: str, text: str) -> None:
    """Print on standard output what `node` is ready for: as an object if events are objects, since both may end in one journal."""
    forms = [handler.formatter for handler in logging.getLogger().handlers if isinstance(handler, _Lines)]
    event = logging.makeLogRecord({"name": f"{_OURS}.{node}", "levelno": logging.INFO, "levelname": "INFO", "msg": text})
    print(next((form.format(event) for form in forms if isinstance(form, JsonFormatter)), f"{node} {text}"), flush=True)


class _Lines(logging.StreamHandler[TextIO]):
    """Writes lines.  A line that cannot be written is lost: nothing else is ever printed in its place."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Do nothing: the default prints the arguments."""


class Formatter(logging.Formatter):
    """One event as one line.

    It shows of an exception the kind, the place, and the text if it is Beaver's own, since other texts may hold data; with `verbose`, all
    places that the exception passed.  The text of other libraries' events is withheld for the same reason.
    """

    def __init__(self, verbose: int = 0) -> None:
        super().__init__()
        self._verbose = verbose

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        parts = [_time(record.created), record.levelname, *(f"{name}={_quoted(value)}" for name, value in _about(record).items())]
        parts.append(bounded(printable(record.getMessage())) if _ours(record) else f"source={_quoted(record.name)} {_foreign(record)}")
        if record.exc_info and record.exc_info[1] is not None:
            parts.append(self._fault(record.exc_info[1]))
        return " ".join(parts)

    def _fault(self, fault: BaseException) -> str:
        # A text of ours names the cause already; another exception's text may hold a value.
        text = f" text={_quoted(bounded(str(fault)))}" if isinstance(fault, BeaverError) else ""
        line = f"fault={type(fault).__name__}{text}{_at(self._places(fault))}"
        return line + "".join(f" after={type(cause).__name__}{_at(self._places(cause))}" for cause in self._causes(fault))

    def _causes(self, fault: BaseException) -> Iterator[BaseException]:
        """Yield the exceptions that came before, the last first; nothing unless verbose."""
        seen = {id(fault)}
        while self._verbose and (cause := fault.__cause__ or fault.__context__) is not None and id(cause) not in seen:
            yield cause
            seen.add(id(cause))
            fault = cause

    def _places(self, fault: BaseException) -> list[str]:
        places = [f"{PurePath(frame.f_code.co_filename).name}:{number}" for frame, number in walk_tb(fault.__traceback__)]
        return places if self._verbose else places[-1:]


class JsonFormatter(Formatter):
    """One event as one JSON object in ASCII.

    It holds what the line of `Formatter` does, and as `error` the kind of the error that it reports.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the object."""
        event: dict[str, Any] = {"time": _time(record.created), "level": record.levelname, **_about(record)}
        if _ours(record):
            fields, text = _parsed(record)
            event |= fields | _code(record) | {"text": bounded(text)}
        else:
            event |= {"source": record.name, "text": _foreign(record)}
        if record.exc_info and (fault := record.exc_info[1]) is not None:
            event["fault"] = self._told(fault) | ({"text": bounded(str(fault))} if isinstance(fault, BeaverError) else {})
            if causes := [self._told(cause) for cause in self._causes(fault)]:
                event["fault"]["after"] = causes
        return json.dumps(event)

    def _told(self, fault: BaseException) -> dict[str, Any]:
        return {"kind": type(fault).__name__, "at": self._places(fault)}


def _ours(record: logging.LogRecord) -> bool:
    return record.name == _OURS or record.name.startswith(f"{_OURS}.")


def _about(record: logging.LogRecord) -> dict[str, str]:
    """Return the fields that a record carries."""
    node = record.name.removeprefix(_OURS).removeprefix(".") if _ours(record) else ""
    fields = {"node": node} | {name: str(getattr(record, name, "")) for name in FIELDS}
    return {name: value for name, value in fields.items() if value}


def _code(record: logging.LogRecord) -> dict[str, str]:
    """Return the kind of error that an event is about: the one given with it, or that of an argument."""
    given = getattr(record, "error", "")
    told = (type(each).__name__ for each in (record.args or ()) if isinstance(each, BeaverError))
    kind = given or next(told, "")
    return {"error": kind} if kind else {}


def _parsed(record: logging.LogRecord) -> tuple[dict[str, Any], str]:
    """Return the fields at the beginning of the text, and the rest.

    They are found in the template, so that no argument can pass for a field.
    """
    if not isinstance(record.args, tuple):
        return {}, record.getMessage()
    template, arguments, fields = str(record.msg), list(record.args), {}
    while match := _LEADING.match(template):
        name, value = match.groups()
        fields[name] = _NUMBERS.get(value, bounded)(value % (arguments.pop(0),) if value.startswith("%") else value)
        template = template[match.end() :]
    return fields, template % tuple(arguments) if record.args else template


def _at(places: list[str]) -> str:
    return f" at={'>'.join(places)}" if places else ""


def _time(seconds: float) -> str:
    whole, rest = divmod(round(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{rest:03d}Z"


def _quoted(value: str) -> str:
    """Return a value as it is, or in JSON's quotes: a name that a peer chose cannot pass for another field or line."""
    return value if _PLAIN.fullmatch(value) and value.isprintable() else json.dumps(value)


def printable(text: str) -> str:
    """Return the text with every control character escaped, so that an event stays one line."""
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def bounded(text: str) -> str:
    """Return the text, or its beginning and how much is left out."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text) - LONGEST:,} characters more)"


def _foreign(record: logging.LogRecord) -> str:
    first = str(record.msg).partition("\n")[0]
    return first if first in _KNOWN else "(text withheld: it may hold data)"


# -- exceptions that nobody caught -----------------------------------------------------------------------------


def _tell(fault: BaseException | None, where: str) -> None:
    if fault is not None:
        logging.getLogger(_OURS).critical("an unexpected fault %s", where, exc_info=fault)


def _uncaught(kind: type[BaseException], fault: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, fault, trace)
    else:
        _tell(fault, "ended this process")


def _uncaught_in_a_thread(arguments: threading.ExceptHookArgs) -> None:
    _tell(arguments.exc_value, "ended a thread")


def _unraisable(arguments: Any) -> None:
    _tell(arguments.exc_value, "could not be raised")
