"""Rows of docs/errors.md about datasets, provoked by reading them."""

from __future__ import annotations

import sqlite3
import sys

import pyarrow as pa
import pytest

from mpc import ConfigError
from parties.config import load_node_config
from parties.datasets import load, table_of
from parties.schema import ColumnSettings
from parties.sources import database
from parties.sources import text as csv_text
from parties.sources.halt import Halt
from parties.sources.sheet import Sheet
from tests.error_rows import row_of
from tests.test_datasets_sources import as_duckdb, as_parquet, configured

HEAD = 'name = "a"\nkey = "a.key"\nroster = "roster.toml"\n[datasets.p]\n'
COLUMNS = '[datasets.p.columns]\nage = { missing = "mean" }\nward = { categories = ["a", "b"] }\n'
CSV, SQLITE = 'path = "p.csv"', 'database = "sqlite:p.db"'
POSTGRESQL = 'database = "postgresql://me@127.0.0.1:1/x"\nsql = "SELECT 1 AS age"'


def query(text):
    return f'{SQLITE}\nsql = "{text}"'


IDENTIFIED = f'{CSV}\nidentifier = "who"'


def column(settings):
    return f"{CSV}\n[datasets.p.columns]\nage = {settings}\n"


READING = {
    "have the same name": (CSV, "age,age\n", "age"),
    "is empty, but rows follow": (CSV, "age\n\n50\n", "age"),
    "is not CSV": (CSV, 'age\n"50\n', "age"),
    "the category is missing": (CSV, "age,ward\n1,\n", "ward=a"),
    "not among the declared categories": (CSV, "age,ward\n1,c\n", "ward=a"),
    "beyond 2^53": (CSV, "age\n9007199254740993\n", "age"),
    "no mean to fill in": (CSV, "age,ward\n,a\n", "age"),
    "has categories; a job names": (CSV, "age,ward\n1,a\n", "ward"),
    "is the identifier of dataset": (IDENTIFIED, "age,who\n1,x\n", "who"),
    "the identifier is missing": (IDENTIFIED, "age,who\n1,\n", "age"),
    "an earlier row has the same identifier": (IDENTIFIED, "age,who\n1,x\n2,x\n", "age"),
    "'identifier' names one of 'columns'": (f'{CSV}\nidentifier = "age"', "age\n1\n", "age"),
    "the query failed": (query("SELECT nothing"), "", "age"),
    "the query gives no rows": (query(""), "", "age"),
    "the server cannot be reached": (POSTGRESQL, "", "age"),
    "no such database password file": (f'{POSTGRESQL}\npassword_file = "no"', "", "age"),
    "cannot be read as a database password file": (f'{POSTGRESQL}\npassword_file = "."', "", "age"),
    "others may read or write this database password": (f'{POSTGRESQL}\npassword_file = "p.csv"', "", "age"),
    "needs either 'path'": ("", "", "age"),
    "are for a CSV file": (query("SELECT 1") + '\ndecimal = ","', "", "age"),
    "a number with a comma": (CSV, 'age\n"1,5"\n', "age"),
    "a number with a point": (f'{CSV}\ndecimal = ","', "age\n1.5\n", "age"),
    "'format' is for a file": (query("SELECT 1") + '\nformat = "csv"', "", "age"),
    "'database' must be": ('database = "oracle:x"\nsql = "x"', "", "age"),
    "'database' holds a password": ('database = "postgresql://me:x@h/d"\nsql = "x"', "", "age"),
    "'password_file' is for": (query("SELECT 1") + '\npassword_file = "x"', "", "age"),
    "two columns give jobs a column": (f'{CSV}\n[datasets.p.columns]\n"w=a" = {{}}\nw = {{ categories = ["a", "b"] }}\n', "", "age"),
    "must be two or more different names": (column('{ categories = ["a", "a"] }'), "", "age"),
    "must be text, a whole number": (column("{ categories = [1.5, 2] }"), "", "age"),
    "has no range, no unit": (column('{ categories = ["a", "b"], unit = "kg" }'), "", "age"),
    "'baseline' is for": (column('{ baseline = "a" }'), "", "age"),
    "'baseline' names no category": (column('{ categories = ["a", "b"], baseline = "c" }'), "", "age"),
}
"""Source in the configuration, contents of p.csv, and the column of a job."""


def read(home, case):
    source, content, job_column = READING[case]
    (home / "p.csv").write_text(content)
    (home / "p.csv").chmod(0o644)
    sqlite3.connect(home / "p.db").close()
    (home / "a.toml").write_text(HEAD + source + "\n" + ("" if "columns]" in source else COLUMNS))
    load(load_node_config(home / "a.toml"), "p", [job_column], aligned="identifier" in source)


def identified(home, write, cell):
    load(configured(home, f'{write(home, {"age": [1.0], "who": [cell]})}\nidentifier = "who"', COLUMNS), "p", ["age"], aligned=True)


def parquet(home, values, declared="{}"):
    import pyarrow as pa
    from pyarrow import parquet as files

    files.write_table(pa.table({"age": values}), home / "p.parquet")
    (home / "a.toml").write_text(HEAD + f'path = "p.parquet"\n[datasets.p.columns]\nage = {declared}\n')
    load(load_node_config(home / "a.toml"), "p", ["age"])


def without_a_library(home):
    kept = {name: module for name, module in sys.modules.items() if name == "duckdb"}
    sys.modules["duckdb"] = None  # as Python marks what cannot be imported
    try:
        (home / "x.duck").write_text("")
        (home / "a.toml").write_text(HEAD + 'database = "duckdb:x.duck"\nsql = "SELECT 1 AS age"\n' + COLUMNS)
        load(load_node_config(home / "a.toml"), "p", ["age"])
    finally:
        del sys.modules["duckdb"]
        sys.modules.update(kept)


def damaged_database(home):
    (home / "x.duck").write_text("no database")
    (home / "a.toml").write_text(HEAD + 'database = "duckdb:x.duck"\nsql = "SELECT 1 AS age"\n' + COLUMNS)
    load(load_node_config(home / "a.toml"), "p", ["age"])


def of_a_database(home, value, column="age"):
    import duckdb

    duckdb.connect(str(home / "x.duck")).close()
    (home / "a.toml").write_text(HEAD + f'database = "duckdb:x.duck"\nsql = "SELECT {value} AS {column.partition("=")[0]}"\n' + COLUMNS)
    load(load_node_config(home / "a.toml"), "p", [column])


def of_a_folder_that_cannot_be_written(home):
    with sqlite3.connect(home / "p.db") as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (age)")
    connection.close()
    # Not even the superuser makes a file there.
    (home / "p.db-shm").symlink_to("missing/folder")
    (home / "a.toml").write_text(HEAD + query("SELECT age FROM t") + "\n" + COLUMNS)
    load(load_node_config(home / "a.toml"), "p", ["age"])


def locked(home):
    with sqlite3.connect(home / "p.db") as connection:
        connection.execute("CREATE TABLE t (age)")
    connection.close()
    writer = sqlite3.connect(home / "p.db", isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    (home / "a.toml").write_text(HEAD + query("SELECT age FROM t") + "\n" + COLUMNS)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(database, "PATIENCE", 0.1)
            load(load_node_config(home / "a.toml"), "p", ["age"])
    finally:
        writer.close()


def named_twice(home):
    (home / "a.toml").write_text(HEAD + CSV + "\n" + COLUMNS)
    load(load_node_config(home / "a.toml"), "p", ["age", "age"])


def changed_meanwhile(home):
    file = home / "p.csv"
    file.write_text("age\n" + "50\n" * 2 * csv_text.BLOCK)
    (home / "a.toml").write_text(HEAD + CSV + "\n" + COLUMNS)
    settings = load_node_config(home / "a.toml").datasets["p"]
    batches = csv_text.read(file, settings, Sheet(f"{file}: dataset 'p'", {"age": settings.columns["age"]}, Halt()))
    next(batches)
    with file.open("a") as export:
        export.write("60\n")
    list(batches)


DATASETS = {
    "was changed while it was read": changed_meanwhile,
    **{case: (lambda home, case=case: read(home, case)) for case in READING},
    "a date or time, but": lambda home: of_a_database(home, "DATE '2020-01-02'"),
    "a value of type TYPE, but a number": lambda home: of_a_database(home, "'7'::BLOB"),
    "a value of type TYPE, but a category": lambda home: of_a_database(home, "'a'::BLOB", "ward=a"),
    "a value of type TYPE, but an identifier": lambda home: identified(home, as_duckdb, 1.5),
    "a column of type TYPE, but an identifier": lambda home: identified(home, as_parquet, 1.5),
    "the column holds TYPE": lambda home: parquet(home, ["x"]),
    "which is not installed": without_a_library,
    "the database cannot be opened": damaged_database,
    "the database is locked": locked,
    "SQLite cannot make a file": of_a_folder_that_cannot_be_written,
    "is no table": lambda home: table_of(3, {"age": ColumnSettings()}),
    "one column or more, each once": named_twice,
    "is declared for the frame": lambda home: table_of({"age": [1]}, {"age": ColumnSettings()}, ["bmi"]),
}


@pytest.mark.parametrize("case", DATASETS)
def test_a_dataset_that_provokes_the_row(tmp_path, case):
    with pytest.raises(ConfigError) as caught:
        DATASETS[case](tmp_path)
    assert row_of(case).shows(str(caught.value)), str(caught.value)


@pytest.mark.parametrize("secret", ["password", "sslpassword", "oauth_client_secret"])
def test_no_secret_of_a_database_is_in_its_address_which_messages_show(tmp_path, secret):
    (tmp_path / "a.toml").write_text(HEAD + POSTGRESQL.replace("/x", f"/x?sslkey=me.key&{secret}=canary") + "\n" + COLUMNS)
    with pytest.raises(ConfigError) as caught:
        load(load_node_config(tmp_path / "a.toml"), "p", ["age"])
    assert "canary" not in str(caught.value)
    assert row_of("'database' holds a password").shows(str(caught.value))


@pytest.mark.parametrize("write", [as_parquet, as_duckdb])
def test_whole_numbers_that_are_kept_as_decimals_are_changed_no_more_silently_than_others(tmp_path, write):
    """PostgreSQL keeps the sum of large integers as a decimal."""
    for last, scale in ((2**53 + 2, 0), (2**53 + 1, 1)):
        config = configured(tmp_path, write(tmp_path, {"bmi": pa.array([1, last], pa.decimal128(20, scale))}))
        assert load(config, "p", ["bmi"]).rows[:, 0].tolist() == [1, float(last)]
    config = configured(tmp_path, write(tmp_path, {"bmi": pa.array([1, 2**53 + 1], pa.decimal128(20, 0))}))
    with pytest.raises(ConfigError) as caught:
        load(config, "p", ["bmi"])
    assert row_of("beyond 2^53").shows(str(caught.value)), caught.value
