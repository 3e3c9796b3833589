"""Datasets from Parquet, Arrow, frames and databases give the same numbers; no error, chained ones included, holds a value."""

from __future__ import annotations

import datetime as dt
import os
import sqlite3
import subprocess
import sys
import time
from decimal import Decimal

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from mpc import ConfigError
from parties.config import load_node_config
from parties.datasets import NO_CATEGORY, NO_VALUE, load, table_of
from parties.schema import ColumnSettings

HEAD = 'name = "a"\nkey = "a.key"\nroster = "roster.toml"\n'
DECLARED = (
    '[datasets.p.columns]\nage = { range = [0, 120], unit = "years" }\nbmi = {}\nward = { categories = ["a", "b", "c"], baseline = "b" }\n'
)
PLANTED = "77713371"
NAMES = ("age", "bmi", "ward=a", "ward=c")
ROWS = {"age": [50, 60, 70], "bmi": [21.5, 22.5, 23.5], "ward": ["a", "b", "c"], "note": ["x", "y", "z"]}
EXPECTED = [[50, 21.5, 1, 0], [60, 22.5, 0, 0], [70, 23.5, 0, 1]]


def configured(home, source, declared=DECLARED):
    (home / "a.toml").write_text(f"{HEAD}[datasets.p]\n{source}\n{declared}")
    return load_node_config(home / "a.toml")


def as_parquet(home, rows):
    parquet.write_table(pa.table(rows), home / "p.parquet", row_group_size=1000)
    return 'path = "p.parquet"'


def as_feather(home, rows):
    feather.write_feather(pa.table(rows), home / "p.feather")
    return 'path = "p.feather"'


def as_stream(home, rows):
    table = pa.table(rows)
    with pa.OSFile(str(home / "p.bin"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    return 'path = "p.bin"\nformat = "arrow"'


def as_csv(home, rows):
    lines = [",".join(rows), *(",".join("" if cell is None else str(cell) for cell in row) for row in zip(*rows.values(), strict=True))]
    (home / "p.csv").write_text("\n".join(lines))
    return 'path = "p.csv"'


def as_sqlite(home, rows):
    (home / "p.db").unlink(missing_ok=True)
    with sqlite3.connect(home / "p.db") as connection:
        connection.execute(f"CREATE TABLE t ({', '.join(rows)})")
        connection.executemany(f"INSERT INTO t VALUES ({', '.join('?' * len(rows))})", zip(*rows.values(), strict=True))
    connection.close()
    return 'database = "sqlite:p.db"\nsql = "SELECT * FROM t ORDER BY rowid"'


def as_duckdb(home, rows):
    (home / "p.duck").unlink(missing_ok=True)
    table = pa.table(rows)
    with duckdb.connect(str(home / "p.duck")) as connection:
        connection.register("given", table)
        connection.execute("CREATE TABLE t AS SELECT * FROM given")
    return 'database = "duckdb:p.duck"\nsql = "SELECT * FROM t"'


FILES = [as_csv, as_parquet, as_feather, as_stream]
DATABASES = [as_sqlite, as_duckdb]
SOURCES = FILES + DATABASES


def refusal(call, *arguments):
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    chain, fault = [], caught.value
    while fault is not None:
        chain.append(str(fault))
        fault = fault.__cause__ or (None if fault.__suppress_context__ else fault.__context__)
    assert PLANTED not in "".join(chain)
    return chain[0]


# -- what is read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", SOURCES)
def test_every_source_gives_the_same_numbers(tmp_path, write):
    config = configured(tmp_path, write(tmp_path, ROWS))
    table = load(config, "p", NAMES)
    assert table.columns == list(NAMES)
    assert table.rows.dtype == np.float64
    assert table.rows.tolist() == EXPECTED


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_frames_give_the_same_numbers(make):
    columns = {
        "age": ColumnSettings(range=(0, 120)),
        "bmi": ColumnSettings(),
        "ward": ColumnSettings(categories=["a", "b", "c"], baseline="b"),
    }
    assert table_of(make(ROWS), columns).rows.tolist() == EXPECTED
    assert table_of(make(ROWS), columns, ["ward=b", "age"]).rows.tolist() == [[0, 50], [1, 60], [0, 70]]
    assert "the frame, row 2, column 'age': outside" in refusal(table_of, make({"age": [5, int(PLANTED)]}), {"age": columns["age"]})
    assert "there is no such column; did you mean 'AGE'?" in refusal(table_of, make({"AGE": [5]}), {"age": columns["age"]})
    assert "no column 'agee' is declared for the frame" in refusal(table_of, make(ROWS), columns, ["agee"])


def test_what_is_no_frame():
    for given in ([[1, 2]], {"age": [1, "x" + PLANTED]}, None, pd.DataFrame({"age": [1, "x" + PLANTED]})):
        assert "is no table: pass a pandas or polars frame" in refusal(table_of, given, {"age": ColumnSettings()})


@pytest.mark.parametrize("write", SOURCES)
def test_a_table_without_rows(tmp_path, write):
    empty = {
        "age": pa.array([], pa.int64()),
        "bmi": pa.array([], pa.float64()),
        "ward": pa.array([], pa.string()),
    }
    config = configured(tmp_path, write(tmp_path, empty))
    assert load(config, "p", NAMES).rows.shape == (0, 4)


KINDS = {
    "booleans": ([True, False], [1, 0]),
    "decimals": ([Decimal("1.50"), Decimal(-2)], [1.5, -2]),
    "small integers": (pa.array([1, 2], pa.uint8()), [1, 2]),
    "exact large integers": ([2**60, -(2**53)], [2.0**60, -(2.0**53)]),
    "single precision": (pa.array([0.5, 2], pa.float32()), [0.5, 2]),
    "a dictionary": (pa.array([3, 4]).dictionary_encode(), [3, 4]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("write", [as_parquet, as_duckdb])
def test_kinds_of_numbers(tmp_path, write, kind):
    given, expected = KINDS[kind]
    if kind == "a dictionary" and write is as_duckdb:
        given = [3, 4]
    config = configured(tmp_path, write(tmp_path, {"bmi": given}))
    assert load(config, "p", ["bmi"]).rows[:, 0].tolist() == expected


WHOLE, TEXT = [1, 2, 1], ["1", "2", "1"]
CODED = '[datasets.p.columns]\nward = { categories = ["1", "2"] }\nflag = { categories = ["true", "false"] }\n'


@pytest.mark.parametrize("given", [WHOLE, [1.0, 2.0, 1.0], TEXT, pa.array(TEXT).dictionary_encode()])
def test_categories_may_be_coded(tmp_path, given):
    config = configured(tmp_path, as_parquet(tmp_path, {"ward": given, "flag": [True, False, True]}), CODED)
    assert load(config, "p", ["ward=1", "flag=true"]).rows.tolist() == [[1, 1], [0, 0], [1, 1]]


# -- missing values -------------------------------------------------------------------------------------------

RULES = """\
[datasets.p.columns]
age = { missing = "drop" }
bmi = { missing = "mean" }
ward = { categories = ["a", "b"], missing = "drop" }
dose = {}
"""
HOLES = {"age": [1, None, 3, 4], "bmi": [None, 50.0, 2.0, 4.0], "ward": ["a", "b", None, "b"], "dose": [1, 2, 3, 4]}


@pytest.mark.parametrize("write", SOURCES)
def test_missing_values_by_rule(tmp_path, write):
    config = configured(tmp_path, write(tmp_path, HOLES), RULES)
    assert load(config, "p", ["age", "dose"]).rows.tolist() == [[1, 1], [3, 3], [4, 4]]
    # The mean is over the rows that stay.
    assert load(config, "p", ["bmi", "age", "ward=b"]).rows.tolist() == [[4, 1, 0], [4, 4, 1]]
    assert ", row 2" in (text := refusal(lambda: load(config, "p", ["age", "dose"], aligned=True)))
    assert text.endswith("column 'age': " + NO_VALUE)
    config = configured(tmp_path, write(tmp_path, HOLES), RULES.replace('missing = "drop"', 'missing = "error"'))
    assert ", row 3" in (text := refusal(load, config, "p", ["ward=a"]))
    assert text.endswith("column 'ward': " + NO_CATEGORY)


def test_no_mean_of_nothing(tmp_path):
    config = configured(tmp_path, as_csv(tmp_path, {"bmi": ["", ""], "dose": [1, 2]}), RULES)
    assert refusal(load, config, "p", ["bmi", "dose"]).endswith("column 'bmi': no row has a value, so there is no mean to fill in")
    config = configured(tmp_path, as_parquet(tmp_path, {"bmi": [float("nan"), 2.0, None]}), RULES)
    assert load(config, "p", ["bmi"]).rows.tolist() == [[2], [2], [2]]


def test_the_diabetes_of_two_files_is_one(tmp_path):
    """Large enough for several batches: rows are counted across them."""
    rows = {"bmi": np.arange(150_000) / 7}
    config = configured(tmp_path, as_parquet(tmp_path, rows))
    assert np.array_equal(load(config, "p", ["bmi"]).rows[:, 0], rows["bmi"])
    rows["bmi"][140_000] = np.inf
    config = configured(tmp_path, as_parquet(tmp_path, rows))
    assert refusal(load, config, "p", ["bmi"]).endswith(", row 140001, column 'bmi': no finite number")


# -- what is refused ------------------------------------------------------------------------------------------

CELLS = {
    "range": (
        {"age": [1, int(PLANTED)]},
        ["age"],
        ", row 2, column 'age': outside the declared range [0, 120]; mend the cell or declare another range",
    ),
    "null": ({"age": [1, None], "bmi": [1, 2]}, ["age"], ", row 2, column 'age': " + NO_VALUE),
    "infinite": ({"bmi": [1, float("inf")]}, ["bmi"], ", row 2, column 'bmi': no finite number"),
    "huge": (
        {"bmi": [1, 2**53 + 1]},
        ["bmi"],
        ", row 2, column 'bmi': a whole number beyond 2^53 that 64-bit floating point does not hold exactly",
    ),
    "category": ({"ward": ["a", "x" + PLANTED]}, ["ward=a"], ", row 2, column 'ward': not among the declared categories"),
    "column": ({"bmi": [1.0]}, ["age"], ", column 'age': there is no such column; the source must name the column exactly so"),
}


@pytest.mark.parametrize("what", CELLS)
@pytest.mark.parametrize("write", SOURCES)
def test_cells_that_no_job_may_use(tmp_path, write, what):
    rows, names, message = CELLS[what]
    config = configured(tmp_path, write(tmp_path, rows))
    text = refusal(load, config, "p", names)
    if write is as_csv:
        message = message.replace("row 2", "row 2 (line 3)") if "row" in message.split(":")[0] else ", line 1" + message
    assert text.endswith(f": dataset 'p'{message}")


TYPES = {
    "text": (["1" + PLANTED], "the column holds text, not numbers", "text, but a number is needed"),
    "dates": ([dt.date(2020, 1, 2)], "the column holds date32[day], not numbers", "a date or time, but a number is needed"),
    "lists": ([[7]], "the column holds list<", "a value of type list, but a number is needed"),
    "structures": ([{"a": 7}], "the column holds struct<", "a value of type dict, but a number is needed"),
    "bytes": ([b"7"], "the column holds binary, not numbers", "a value of type bytes, but a number is needed"),
}


@pytest.mark.parametrize("kind", TYPES)
def test_types_that_are_no_numbers(tmp_path, kind):
    given, of_column, of_cell = TYPES[kind]
    assert f"column 'bmi': {of_column}" in refusal(load, configured(tmp_path, as_parquet(tmp_path, {"bmi": given})), "p", ["bmi"])
    text = refusal(load, configured(tmp_path, as_duckdb(tmp_path, {"bmi": given})), "p", ["bmi"])
    assert kind == "text" or text.endswith(f"row 1, column 'bmi': {of_cell}")


def test_types_that_are_no_categories(tmp_path):
    config = configured(tmp_path, as_parquet(tmp_path, {"ward": [dt.date(2020, 1, 2)]}))
    assert refusal(load, config, "p", ["ward=a"]).endswith("column 'ward': the column holds date32[day], not text")


def test_names_that_come_twice(tmp_path):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["bmi", "bmi"])
    feather.write_feather(table, tmp_path / "p.feather")
    config = configured(tmp_path, 'path = "p.feather"')
    assert refusal(load, config, "p", ["bmi"]).endswith(": columns 1 and 2 have the same name, 'bmi'")
    as_sqlite(tmp_path, ROWS)
    config = configured(tmp_path, 'database = "sqlite:p.db"\nsql = "SELECT bmi, age, bmi FROM t"')
    assert refusal(load, config, "p", ["age"]).endswith(": columns 1 and 3 have the same name")


@pytest.mark.parametrize("write", [as_parquet, as_feather, as_stream])
@pytest.mark.parametrize("how", ["nothing", "cut", "rubbish", "flipped"])
def test_damaged_files(tmp_path, write, how):
    source = write(tmp_path, {"bmi": np.arange(3000.0)})
    (path,) = (path for path in tmp_path.iterdir() if path.suffix != ".toml")
    good = path.read_bytes()
    middle = len(good) // 2
    path.write_bytes(
        {"nothing": b"", "cut": good[:middle], "rubbish": PLANTED.encode() * 99, "flipped": good[:8] + b"\xff" * 64 + good[72:]}[how]
    )
    config = configured(tmp_path, source)
    try:
        rows = load(config, "p", ["bmi"]).rows
    except ConfigError:
        assert "dataset 'p': " in refusal(load, config, "p", ["bmi"])
    else:
        # Arrow has no checksums: flipped numbers are numbers.
        assert how == "flipped"
        assert rows.shape == (3000, 1)


@pytest.mark.parametrize("write", SOURCES)
def test_sources_that_are_not_there(tmp_path, write):
    source = write(tmp_path, ROWS)
    for path in tmp_path.glob("p.*"):
        path.unlink()
    assert refusal(load, configured(tmp_path, source), "p", ["age"]).endswith(
        "cannot be read (No such file or directory); correct its path, or let this user read it"
    )
    assert not list(tmp_path.glob("p.*"))


# -- databases ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT nothing FROM t", "the query failed (SQLITE_ERROR); the database's own shell says why"),
        ("SELEC", "the query failed (SQLITE_ERROR)"),
        ("DELETE FROM t", "the query failed (SQLITE_READONLY"),
        (f"SELECT CAST(x'ff{PLANTED}' AS TEXT) AS age", "the query failed (OperationalError)"),
        ("", "the query gives no rows; it must be one SELECT"),
        ("SELECT bmi FROM t", "there is no such column"),
        (f"SELECT '{PLANTED}x' AS age", "row 1, column 'age': text, but a number is needed"),
    ],
)
def test_sqlite_queries(tmp_path, sql, message):
    as_sqlite(tmp_path, ROWS)
    config = configured(tmp_path, f'database = "sqlite:p.db"\nsql = "{sql}"')
    assert message in refusal(load, config, "p", ["age"])


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT nothing FROM t", "the query failed (BinderException)"),
        (f"SELECT CAST('x{PLANTED}' AS INT) AS age", "the query failed (ConversionException)"),
        ("DELETE FROM t", "the query failed (InvalidInputException)"),
        ("SELECT bmi FROM t", "there is no such column"),
    ],
)
def test_duckdb_queries(tmp_path, sql, message):
    as_duckdb(tmp_path, ROWS)
    config = configured(tmp_path, f'database = "duckdb:p.duck"\nsql = "{sql}"')
    assert message in refusal(load, config, "p", ["age"])


def test_files_that_are_no_databases(tmp_path):
    (tmp_path / "p.db").write_text(PLANTED * 100)
    for kind, name in (("sqlite", "SQLITE_NOTADB"), ("duckdb", "IOException")):
        config = configured(tmp_path, f'database = "{kind}:p.db"\nsql = "SELECT 1 AS age"')
        if kind == "sqlite":
            config = configured(tmp_path, 'database = "sqlite:p.db"\nsql = "SELECT * FROM t"')
        assert name in refusal(load, config, "p", ["age"])


def test_a_locked_database(tmp_path, monkeypatch):
    from parties.sources import database

    monkeypatch.setattr(database, "PATIENCE", 0.1)
    config = configured(tmp_path, as_sqlite(tmp_path, ROWS))
    writer = sqlite3.connect(tmp_path / "p.db", isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    assert "the database is locked by another program (SQLITE_BUSY); let it finish" in refusal(load, config, "p", ["age"])
    writer.close()
    assert len(load(config, "p", ["age"]).rows) == 3


def test_postgresql_that_does_not_answer(tmp_path):
    config = configured(tmp_path, 'database = "postgresql://me@127.0.0.1:1/x"\nsql = "SELECT 1 AS age"')
    assert "127.0.0.1:1/x: dataset 'p': the server cannot be reached, or refuses: " in refusal(load, config, "p", ["age"])
    with_file = 'database = "postgresql://me@127.0.0.1:1/x"\npassword_file = "secret"\nsql = "SELECT 1 AS age"'
    config = configured(tmp_path, with_file)
    assert "secret: no such database password file" in refusal(load, config, "p", ["age"])
    (tmp_path / "secret").write_text(PLANTED)
    (tmp_path / "secret").chmod(0o644)
    assert "others may read or write this database password (mode 0644)" in refusal(load, config, "p", ["age"])
    (tmp_path / "secret").chmod(0o600)
    assert "the server cannot be reached" in refusal(load, config, "p", ["age"])


@pytest.mark.parametrize(("module", "write", "extra"), [("pyarrow", as_parquet, "frames"), ("duckdb", as_duckdb, "sql")])
def test_a_missing_library_is_named_with_its_extra(tmp_path, module, write, extra):
    configured(tmp_path, write(tmp_path, ROWS))
    program = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from parties.config import load_node_config; from parties.datasets import load; from mpc import ConfigError\n"
        "try: load(load_node_config(sys.argv[1]), 'p', ['age'])\n"
        "except ConfigError as fault: print(fault)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.toml")], capture_output=True, text=True, check=True, env=os.environ
    )
    assert f"needs {module}, which is not installed: pip install 'beaver-mpc[{extra}]'" in run.stdout


@pytest.mark.parametrize("write", [as_parquet, as_sqlite, as_csv])
def test_many_rows_take_little_time(tmp_path, write):
    count = 200_000
    rows = {"age": [50] * count, "bmi": np.linspace(0, 1, count).tolist()}
    config = configured(tmp_path, write(tmp_path, rows))
    began = time.process_time()
    assert load(config, "p", ["age", "bmi"]).rows.shape == (count, 2)
    assert time.process_time() - began < 5
