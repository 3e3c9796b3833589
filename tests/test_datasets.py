"""Datasets: the right numbers from any CSV file, and errors that say where a fault is but never show a value."""

from __future__ import annotations

import asyncio
import os
import stat
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpc import ConfigError
from parties.config import load_node_config
from parties.data import Table, load_diabetes
from parties.datasets import load
from parties.sources import text
from parties.sources.cells import COMMA

CONFIG = """\
name = "a"
key = "a.key"
roster = "roster.toml"
[datasets.patients]
path = "data/patients.csv"
[datasets.patients.columns]
age = { range = [0, 120], unit = "years" }
bmi = { range = [-5.5, 80] }
dose = {}
"""
PLANTED = "77713371"
HEADER = "age,bmi,dose\n"
GOOD = HEADER + "50,21.5,3\n60,22.5,4\n"


@pytest.fixture
def clinic(tmp_path):
    return Clinic(tmp_path)


class Clinic:
    """A configuration and its one CSV file."""

    def __init__(self, home):
        (home / "data").mkdir()
        (home / "a.toml").write_text(CONFIG)
        self.toml, self.csv = home / "a.toml", home / "data" / "patients.csv"
        self.config = load_node_config(home / "a.toml")

    def load(self, content, *columns):
        self.csv.write_bytes(content.encode() if isinstance(content, str) else content)
        return load(self.config, "patients", columns or ("age", "bmi", "dose"))

    def refusal(self, content, *columns):
        with pytest.raises(ConfigError) as caught:
            self.load(content, *columns)
        message = str(caught.value)
        start = f"{self.csv}: dataset 'patients'"
        assert message.startswith(start)
        assert PLANTED not in message
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        return message.removeprefix(start)


# -- what is read ---------------------------------------------------------------------------------------------


def test_columns_come_in_the_order_asked_for(clinic):
    table = clinic.load(GOOD, "dose", "age")
    assert table.columns == ["dose", "age"]
    assert table.rows.dtype == np.float64
    assert table.rows.tolist() == [[3, 50], [4, 60]]
    assert clinic.load("name,dose,bmi,age\nx,3,21.5,50\ny,4,22.5,60\n", "dose", "age").rows.tolist() == table.rows.tolist()


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\r"),
        GOOD.rstrip("\n"),
        GOOD + "\n\r\n\n",
        " age ,bmi, dose\n 50,21.5 ,3\n60,2.25e1,+4.0\n",
        'age,"bmi","dose"\n"50",21.5,"3"\n60,"22.5",4\n',
        'note,age,bmi,dose\n"one, two",50,21.5,3\n"a ""b"" c",60,22.5,4\n',
        'age,bmi,note,dose\n50,21.5,"one\ntwo\n\nthree",3\n60,22.5,"\n",4\n',
        'age,bmi,"no\nte",dose\n50,21.5,1_0,3\n60,22.5,\u0661,4\n',
        "age,bmi,dose,,\n50,21.5,3,,\n60,22.5,4,nan,x\n",
    ],
)
def test_forms_of_the_same_table(clinic, content):
    assert clinic.load(content).rows.tolist() == [[50, 21.5, 3], [60, 22.5, 4]]


def test_a_header_alone_is_a_table_without_rows(clinic):
    for content in (HEADER, HEADER.rstrip(), HEADER + "\n\n"):
        assert clinic.load(content).rows.shape == (0, 3)
        assert clinic.load(content, "age").rows.shape == (0, 1)


def test_one_column(clinic):
    table = clinic.load("age\n50\n60\n\n", "age")
    assert table.rows.tolist() == [[50], [60]]
    assert ", line 3: is empty, but rows follow" in clinic.refusal("age\n50\n\n60\n", "age")


def test_the_diabetes_data_as_it_ships(tmp_path):
    expected = load_diabetes()
    lines = [",".join(expected.columns), *(",".join(map(repr, row)) for row in expected.rows.tolist())]
    (tmp_path / "d.csv").write_text("\n".join(lines))
    columns = "".join(f"{column} = {{}}\n" for column in expected.columns)
    (tmp_path / "d.toml").write_text(f'name = "a"\nkey = "k"\nroster = "r"\n[datasets.d]\npath = "d.csv"\n[datasets.d.columns]\n{columns}')
    np.testing.assert_array_equal(load(load_node_config(tmp_path / "d.toml"), "d", expected.columns).rows, expected.rows)


async def test_what_prints_a_table_prints_no_rows():
    """Tasks and futures show their results wherever they are shown (invariant 34)."""
    table = Table(["age"], np.array([[147.25]]))
    told = asyncio.get_running_loop().create_future()
    told.set_result(table)
    assert repr(table) == "Table(columns=['age'], shape=(1, 1))"
    assert "147" not in f"{told!r} {table} {(table,)}"


def test_values_at_the_ends_of_the_range_are_in_it(clinic):
    assert clinic.load(HEADER + "0,-5.5,1e300\n120,80,-1e300\n").rows.shape == (2, 3)


# -- what is refused ------------------------------------------------------------------------------------------


def test_datasets_and_columns_that_are_not_declared(clinic):
    clinic.csv.write_text(GOOD)
    with pytest.raises(ConfigError) as caught:
        load(clinic.config, "patient", ["age"])
    assert str(caught.value) == f"{clinic.toml}, line 4: unknown dataset 'patient'; did you mean 'patients'?"
    with pytest.raises(ConfigError) as caught:
        load(clinic.config, "patients", ["age", "bmj"])
    assert str(caught.value) == f"{clinic.toml}, line 6: dataset 'patients' declares no column 'bmj'; did you mean 'bmi'?"


NO_VALUE = 'the value is missing; fill it in, or declare for this column missing = "mean", or "drop" where no columns are split'
CELLS = {
    "text": ("x" + PLANTED, "text, but a number is needed"),
    "other digits": ("\u0661\u0662", "text, but a number is needed"),
    "underscores": ("7_7", "text, but a number is needed"),
    "a decimal comma": (f'"{PLANTED},5"', COMMA),
    "hexadecimal": ("0x1F", "text, but a number is needed"),
    "empty": ("", NO_VALUE),
    "blank": ("  ", NO_VALUE),
    "quoted empty": ('""', NO_VALUE),
    "nan": ("NaN", NO_VALUE),
    "missing in R": ("NA", NO_VALUE),
    "quoted missing in R": ('"NA"', NO_VALUE),
    "something like it": ("N/A", "text, but a number is needed"),
    "inf": ("-inf", "no finite number"),
    "overflow": ("1e999", "no finite number"),
    "above": (PLANTED, "outside the declared range [-5.5, 80]; mend the cell or declare another range"),
    "below": ("-" + PLANTED, "outside the declared range [-5.5, 80]; mend the cell or declare another range"),
}


@pytest.mark.parametrize("what", CELLS)
@pytest.mark.parametrize("before", [0, 1, 5000])
def test_cells_that_are_no_numbers(clinic, what, before):
    cell, message = CELLS[what]
    content = HEADER + "50,21.5,3\n" * before + f"50,{cell},3\n" + f"{PLANTED},{PLANTED}x,3\n"
    assert clinic.refusal(content) == f", row {before + 1} (line {before + 2}), column 'bmi': {message}"


def test_rows_and_lines_differ_where_a_cell_has_lines(clinic):
    content = f'note,age\n"a\nb",50\n"c\n\nd",{PLANTED}\n'
    assert clinic.refusal(content, "age") == (
        ", row 2 (line 4), column 'age': outside the declared range [0, 120]; mend the cell or declare another range"
    )
    long = 'note,age\n"a\nb",50\n' + "x,50\n" * 9000 + f'"c\n{"d" * 9}",50\nx,{PLANTED}\n'
    assert ", row 9003 (line 9006), column 'age': outside" in clinic.refusal(long, "age")


def test_columns_that_nobody_asks_for_may_hold_anything(clinic):
    assert clinic.load(HEADER + f"{PLANTED},21.5,x\n,NaN,\n".replace("NaN", "22"), "bmi").rows.tolist() == [[21.5], [22.0]]


FILES = {
    "nothing": ("", ": is empty; its first line must name the columns"),
    "only a mark": (b"\xef\xbb\xbf", ": is empty; its first line must name the columns"),
    "blank header": ("\n" + GOOD, ", line 1: is empty; its first line must name the columns"),
    "missing column": (
        "age,weight,dose\n50,1,2\n",
        ", line 1, column 'bmi': there is no such column; the source must name the column exactly so",
    ),
    "capitals": ("Age,BMI,dose\n50,1,2\n", ", line 1, column 'age': there is no such column; did you mean 'Age'?"),
    "no header": (
        f"{PLANTED},21.5,3\n",
        ", line 1, column 'age': there is no such column; the first line holds numbers, so it may be no header",
    ),
    "same names": ("age,bmi,dose,bmi\n1,2,3,4\n", ", line 1: columns 2 and 4 have the same name, 'bmi'"),
    "same others": (f"age,bmi,dose,{PLANTED},{PLANTED}\n1,2,3,4,5\n", ", line 1: columns 4 and 5 have the same name"),
    "semicolons": (GOOD.replace(",", ";"), ', line 1: the cells are separated by semicolons; declare separator = ";" for the dataset'),
    "tabs": (GOOD.replace(",", "\t"), ', line 1: the cells are separated by tabs; declare separator = "\\t" for the dataset'),
    "short row": (GOOD + f"{PLANTED},1\n", ", row 3 (line 4): has 2 cell(s), but the header has 3"),
    "long row": (GOOD + f"1,1,1,{PLANTED}\n", ", row 3 (line 4): has 4 cell(s), but the header has 3"),
    "white row": (GOOD + "  \n", ", row 3 (line 4): has 1 cell(s), but the header has 3"),
    "gap": (GOOD + "\n\n" + "50,21.5,3\n", ", line 4: is empty, but rows follow"),
    "long gap": (GOOD + "\n" * 5000 + "50,21.5,3\n", ", line 4: is empty, but rows follow"),
    "open quote": (GOOD + f'"{PLANTED},1,1\n', ", line 4: is not CSV: unexpected end of data"),
    "open quote in the header": ('age,"bmi', ", line 1: is not CSV: unexpected end of data"),
    "half quoted": (GOOD + f'"{PLANTED}"{PLANTED},1,1\n', ", line 4: is not CSV: ',' expected after '\"'"),
    "huge cell": (GOOD + f'50,"{PLANTED * 20000}",3\n', ", line 4: is not CSV: field larger than field limit (131072)"),
    "latin": (GOOD.encode() + PLANTED.encode() + b",\xe4,3\n", ", line 4: is not UTF-8 text; save it as CSV in UTF-8"),
    "utf-16": (GOOD.encode("utf-16"), ", line 1: is not UTF-8 text; save it as CSV in UTF-8"),
}


@pytest.mark.parametrize("what", FILES)
def test_files_that_are_no_tables(clinic, what):
    content, message = FILES[what]
    assert clinic.refusal(content) == message


def test_the_first_mistake_is_named(clinic):
    content = HEADER + "50,21.5,3\n50,,3\n50,21.5\n"
    assert ", row 2 (line 3), column 'bmi': the value is missing" in clinic.refusal(content)


def test_files_that_cannot_be_read(clinic):
    with pytest.raises(ConfigError, match=r"patients\.csv: dataset 'patients': cannot be read \(No such file or directory\)"):
        load(clinic.config, "patients", ["age"])
    clinic.csv.mkdir()
    with pytest.raises(ConfigError, match=r"cannot be read \(not a file\)"):
        load(clinic.config, "patients", ["age"])
    clinic.csv.rmdir()
    os.mkfifo(clinic.csv)
    with pytest.raises(ConfigError, match=r"cannot be read \(not a file\)"):
        load(clinic.config, "patients", ["age"])


def test_a_file_without_permission(clinic):
    clinic.csv.write_text(GOOD)
    clinic.csv.chmod(0)
    if os.access(clinic.csv, os.R_OK):
        assert stat.S_IMODE(clinic.csv.stat().st_mode) == 0
        pytest.skip("this user may read everything")
    with pytest.raises(ConfigError, match=r"cannot be read \(Permission denied\)"):
        load(clinic.config, "patients", ["age"])


@pytest.mark.parametrize("columns", [[], ["age", "age"]])
def test_a_job_names_each_column_once(clinic, columns):
    clinic.csv.write_text(GOOD)
    with pytest.raises(ConfigError, match="a job names one column or more, each once"):
        load(clinic.config, "patients", columns)


# -- both ways of reading, and size ---------------------------------------------------------------------------

PIECES = st.sampled_from(
    ['"', ",", "\n", "\r\n", "\r", "1", "-2.5", "nan", " ", "_", "x", "1e9", '"3"', "\xa0", "\0", "\x1c", "#", "\u0661", "\u2028"]
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(pieces=st.lists(PIECES, max_size=14), columns=st.sampled_from([["age"], ["bmi", "age"], ["dose"]]), alone=st.booleans())
def test_the_quick_way_reads_as_the_careful_one(clinic, pieces, columns, alone):
    """Both ways give the same numbers or the same error, whatever the file holds."""
    header, columns = ("age\n", ["age"]) if alone else ("age,bmi,dose\n1,2,3\n", columns)
    outcomes = []
    for quick in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not quick:
                patch.setattr(text, "BLOCK", 1)
            try:
                outcomes.append(clinic.load(header + "".join(pieces), *columns).rows.tolist())
            except ConfigError as fault:
                outcomes.append(str(fault))
    assert outcomes[0] == outcomes[1]


def test_a_large_file_takes_little_time_and_memory(clinic):
    rows = 100_000
    body = "".join(f"{i % 100},{i % 70}.25,{i}\n" for i in range(1000)) * (rows // 1000)
    clinic.csv.write_text(HEADER + body)
    began = time.process_time()
    table = load(clinic.config, "patients", ["dose", "age"])
    assert time.process_time() - began < 5
    assert table.rows.shape == (rows, 2)
    assert table.rows[-1].tolist() == [999, 99]
    tracemalloc.start()
    try:
        size = load(clinic.config, "patients", ["dose", "age"]).rows.nbytes
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Growing in place may hold the old and the new buffer for a moment.
    assert peak < 2.2 * size + 2_000_000
    assert ", row 100001 (line 100002), column 'age': text" in clinic.refusal(HEADER + body + f"x{PLANTED},1,1\n")
