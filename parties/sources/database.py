"""Datasets that are the answer of a database to a query.  Every database is opened only for reading."""

from __future__ import annotations

import os
import socket
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from mpc.errors import ConfigError
from mpc.membership.identity import private_text
from parties.sources.cells import of_objects
from parties.sources.sheet import Batch

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from parties.config import NodeConfig
    from parties.schema import DatasetSettings
    from parties.sources.sheet import Sheet

BLOCK = 4096
PATIENCE = 10
"""Seconds for a connection, and for a lock that someone else holds."""
_LOCKED = {"SQLITE_BUSY", "SQLITE_LOCKED", "55P03"}
_NO_FILE = "SQLITE_CANTOPEN"
"""SQLite cannot make a file beside the database: `_file` has seen that the database itself opens."""
Source = tuple[Any, Any, Any]
"""A driver, a function that connects, and a function that interrupts a connection."""


def read(config: NodeConfig, settings: DatasetSettings, sheet: Sheet) -> Generator[Batch]:
    """Yield the rows of the query's answer, in its order."""
    kind, _, place = str(settings.database).partition(":")
    if kind == "sqlite":
        driver, connect, interrupt = _sqlite(sheet, _file(sheet, config.resolve(place)))
    elif kind == "duckdb":
        driver, connect, interrupt = _duckdb(sheet, _file(sheet, config.resolve(place)))
    else:
        password = None if settings.password_file is None else _password(sheet, config.resolve(settings.password_file))
        driver, connect, interrupt = _postgresql(sheet, str(settings.database), password)
    doing, failed = "the database cannot be opened", ""
    try:
        with closing(connect()) as connection, sheet.halt.interrupting(lambda: interrupt(connection)):
            doing = "the query failed"
            yield from _batches(sheet, connection.execute(settings.sql))
    except (driver.Error, UnicodeDecodeError) as fault:
        # What SQLite says quotes a damaged database as it is.
        failed = str(getattr(fault, "sqlite_errorname", None) or getattr(fault, "sqlstate", None) or type(fault).__name__)
    # Raised out here: the driver's own words may hold values.
    if failed in _LOCKED:
        sheet.refuse(f"the database is locked by another program ({failed}); let it finish, and try again")
    if failed == _NO_FILE:
        sheet.refuse(
            f"SQLite cannot make a file ({failed}): in WAL mode it needs one beside the database; "
            "let this process write there, or end that mode (`PRAGMA journal_mode = DELETE`)"
        )
    if failed:
        sheet.refuse(f"{doing} ({failed}); the database's own shell says why")


def _batches(sheet: Sheet, cursor: Any) -> Iterator[Batch]:
    if cursor.description is None:
        sheet.refuse("the query gives no rows; it must be one SELECT")
    places = sheet.places([entry[0] for entry in cursor.description])
    while rows := cursor.fetchmany(BLOCK):
        columns = list(zip(*rows, strict=True))
        yield Batch(len(rows), [of_objects(columns[place], column) for place, column in zip(places, sheet.columns.values(), strict=True)])


def _file(sheet: Sheet, path: Path) -> Path:
    try:
        # A driver would say less, or make a new file.
        with path.open("rb"):
            return path.resolve()
    except OSError as fault:
        sheet.refuse(f"cannot be read ({fault.strerror}); correct its path, or let this user read it")


def _sqlite(sheet: Sheet, path: Path) -> Source:
    driver = sheet.driver("sqlite3", "sql")
    return driver, lambda: driver.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=PATIENCE), driver.Connection.interrupt


def _duckdb(sheet: Sheet, path: Path) -> Source:
    driver = sheet.driver("duckdb", "sql")
    return driver, lambda: driver.connect(str(path), read_only=True), driver.DuckDBPyConnection.interrupt


def _postgresql(sheet: Sheet, database: str, password: str | None) -> Source:
    driver = sheet.driver("psycopg", "sql")
    given = {} if password is None else {"password": password}

    def connect() -> Any:
        try:
            # A database without an encoding (SQL_ASCII) would give its text as bytes, which are no category.
            connection = driver.connect(database, connect_timeout=PATIENCE, client_encoding="UTF8", **given)
        except driver.OperationalError as fault:
            # No query was sent yet: these words are about the server and the user.
            sheet.refuse(f"the server cannot be reached, or refuses: {' '.join(str(fault).split())}")
        connection.read_only = True
        return connection

    def interrupt(connection: Any) -> None:
        with suppress(driver.Error, OSError):
            connection.cancel_safe(timeout=PATIENCE)
        # The server may be out of reach, and never say that it stopped.
        with suppress(driver.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)

    return driver, connect, interrupt


def _password(sheet: Sheet, path: Path) -> str:
    try:
        # A secret manager may give the password through a pipe: it is read for each job, within the seconds of its dataset.
        return private_text(path, "database password", "write the password into it, or correct `password_file`", pipes=True).strip()
    except ConfigError as fault:
        sheet.refuse(str(fault))
