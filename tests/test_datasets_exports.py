"""CSV files as R, pandas and spreadsheets of other countries write them: read right, or refused with what to declare."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpc import ConfigError
from parties.datasets import NO_CATEGORY, NO_VALUE, load
from parties.schema import ColumnSettings
from parties.sources import cells, text
from parties.sources.cells import COMMA, POINT
from tests.test_datasets_sources import CODED, RULES, as_csv, as_parquet, as_sqlite, configured, refusal

TRUTHS = '[datasets.p.columns]\nward = {}\nflag = { categories = ["true", "false"] }\nown = { categories = ["TRUE", "FALSE"] }\n'

WHOLE_CODES = "[datasets.p.columns]\nward = { categories = [1, 2], baseline = 2 }\nflag = { categories = [true, false] }\n"

LABORATORY = 'path = "p.csv"\nseparator = ";"\ndecimal = ","'
DOSES = "[datasets.p.columns]\ndose = {}\nage = { range = [0, 120] }\n"


# -- separators and decimal marks -----------------------------------------------------------------------------


def exported(home, content, source=LABORATORY):
    (home / "p.csv").write_text(content)
    return configured(home, source, DOSES)


def test_semicolons_and_decimal_commas(tmp_path):
    config = exported(tmp_path, 'age;note;dose\n50;a, b;1,5\n60,25;"c;d";-2,0e1\n7;;" 3"\n')
    assert load(config, "p", ["dose", "age"]).rows.tolist() == [[1.5, 50], [-20, 60.25], [3, 7]]


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_each_separator(tmp_path, mark):
    content = "age,dose\n50,1.5\n".replace(",", mark)
    written = mark.replace("\t", "\\t")
    assert load(exported(tmp_path, content, f'path = "p.csv"\nseparator = "{written}"'), "p", ["dose"]).rows.tolist() == [[1.5]]
    # What the refusal says to declare is what helps.
    assert refusal(load, exported(tmp_path, content, 'path = "p.csv"'), "p", ["dose"]).endswith(
        f'declare separator = "{written}" for the dataset'
    )


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_the_name_of_an_only_column_may_hold_the_separator(tmp_path, mark):
    (tmp_path / "p.csv").write_text(f'"weight{mark} kg"\n1\n2\n')
    written = mark.replace("\t", "\\t")
    declared = f'[datasets.p.columns]\n"weight{written} kg" = {{}}\n'
    config = configured(tmp_path, f'path = "p.csv"\nseparator = "{written}"', declared)
    assert load(config, "p", [f"weight{mark} kg"]).rows.tolist() == [[1], [2]]


def test_commas_where_something_else_is_declared(tmp_path):
    config = exported(tmp_path, "age,dose\n50,1\n")
    assert refusal(load, config, "p", ["dose"]).endswith(
        ', line 1: the cells are separated by commas; declare separator = "," for the dataset'
    )


def test_decimal_commas_in_quotes_between_commas(tmp_path):
    assert load(exported(tmp_path, 'age,dose\n50,"1,5"\n', 'path = "p.csv"\ndecimal = ","'), "p", ["dose"]).rows.tolist() == [[1.5]]


POINTS = 'path = "p.csv"\nseparator = ";"'


@pytest.mark.parametrize(
    ("source", "cell", "message"),
    [
        (POINTS, "1,5", COMMA),
        (POINTS, "1,234", COMMA),
        (POINTS, "-1,234,567.8", COMMA),
        (POINTS, "1.234,5", COMMA),
        (POINTS, "one, two", "text, but a number is needed"),
        (LABORATORY, "1.5", POINT),
        (LABORATORY, "1.234", POINT),
        (LABORATORY, "1.234.567,8", POINT),
        (LABORATORY, "01.02.2020", "text, but a number is needed"),
        (LABORATORY, "1,234,567", "text, but a number is needed"),
        (LABORATORY, "9007199254740993", "a whole number beyond 2^53 that 64-bit floating point does not hold exactly"),
        (LABORATORY, "120,5", "outside the declared range [0, 120]; mend the cell or declare another range"),
    ],
)
@pytest.mark.parametrize("before", [0, 5000])
def test_what_could_be_read_in_two_ways_is_not_read(tmp_path, source, cell, message, before):
    config = exported(tmp_path, "age\n" + "50\n" * before + f"{cell}\n", source)
    assert refusal(load, config, "p", ["age"]).endswith(f", row {before + 1} (line {before + 2}), column 'age': {message}")


PIECES = st.sampled_from(['"', ",", ".", "\n", ";", "1", "23", "-2,5", "nan", "NA", " ", "TRUE", "x", "1e9", "9007199254740993"])


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(pieces=st.lists(PIECES, max_size=14), source=st.sampled_from([POINTS, LABORATORY]))
def test_the_quick_way_reads_as_the_careful_one(tmp_path, pieces, source):
    config, outcomes = exported(tmp_path, "age;dose\n1;2\n" + "".join(pieces), source), []
    for quick in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not quick:
                patch.setattr(text, "BLOCK", 1)
            try:
                outcomes.append(load(config, "p", ["dose", "age"]).rows.tolist())
            except ConfigError as fault:
                outcomes.append(str(fault))
    assert repr(outcomes[0]) == repr(outcomes[1])


# -- categories that are no texts in the configuration --------------------------------------------------------


def test_categories_may_be_listed_as_the_column_has_them(tmp_path):
    rows = {"ward": [1, 2, 1], "flag": [True, False, True]}
    config = configured(tmp_path, as_parquet(tmp_path, rows), WHOLE_CODES)
    assert load(config, "p", ["ward=1", "flag=true"]).rows.tolist() == [[1, 1], [0, 0], [1, 1]]
    assert config.expand("p", ["ward"]) == ("ward=1",)
    # All parties say the same, however each wrote it.
    coded = configured(tmp_path, 'path = "x"', CODED)
    assert config.datasets["p"].meaning(["ward=1", "flag=true"]) == coded.datasets["p"].meaning(["ward=1", "flag=true"])


@pytest.mark.parametrize("mark", [".", ","])
def test_whole_numbers_beside_a_missing_one_are_categories_as_pandas_writes_them(tmp_path, mark):
    rows = pd.DataFrame({"ward": [1, None, 2, 0, -3, 2**53]})
    rows.to_csv(tmp_path / "p.csv", index=False, sep=";", decimal=mark)
    assert f"1{mark}0" in (tmp_path / "p.csv").read_text()
    declared = f'[datasets.p.columns]\nward = {{ categories = [1, 2, 0, -3, {2**53}], missing = "drop" }}\n'
    source = f'separator = ";"\ndecimal = "{mark}"'
    names = ["ward=1", "ward=2", "ward=0", "ward=-3"]
    text = configured(tmp_path, f'path = "p.csv"\n{source}', declared)
    rows.to_parquet(tmp_path / "p.parquet")
    assert load(text, "p", names).rows.tolist() == np.eye(5, 4).tolist()
    assert load(configured(tmp_path, 'path = "p.parquet"', declared), "p", names).rows.tolist() == np.eye(5, 4).tolist()


@pytest.mark.parametrize("cell", ["1.5", "01.0", "1,0", "1.", "1e0", "a.0", "_1.0", "9007199254740993.0", "9" * 400 + ".0", "\u0661.0"])
def test_other_texts_are_no_whole_numbers_as_categories(tmp_path, cell):
    (tmp_path / "p.csv").write_text(f'ward\n"{cell}"\n')
    declared = '[datasets.p.columns]\nward = { categories = ["1", "2", "a", "9007199254740992", "9007199254740993"] }\n'
    assert refusal(load, configured(tmp_path, 'path = "p.csv"', declared), "p", ["ward=1"]).endswith("not among the declared categories")


def test_a_category_with_a_point_is_itself(tmp_path):
    declared = '[datasets.p.columns]\nward = { categories = ["1", "1.0"] }\n'
    config = configured(tmp_path, as_csv(tmp_path, {"ward": ["1.0", "1", "1.00"]}), declared)
    assert load(config, "p", ["ward=1.0", "ward=1"]).rows.tolist() == [[1, 0], [0, 1], [0, 1]]


def test_cells_of_categories_are_read_as_no_numbers():
    """Once each: what a number would need is not computed for them."""

    class Cell(str):
        __slots__ = ()

        def replace(self, *_):
            raise AssertionError

    found = cells.of_texts([Cell("a,b"), Cell("b")], ColumnSettings(categories=["a,b", "b"]), ",")
    assert np.array_equal(found[0], [0, 1])


@pytest.mark.parametrize("listed", ['[1, "1"]', "[1.5, 2]", '[true, "true"]', "[[1], 2]"])
def test_categories_that_cannot_be(tmp_path, listed):
    with pytest.raises(ConfigError, match=r"a\.toml, line \d: key 'datasets\.p\.columns\.ward\.categories'"):
        configured(tmp_path, 'path = "p.csv"', f"[datasets.p.columns]\nward = {{ categories = {listed} }}\n")


# -- truth values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", ["TRUE,FALSE,TRUE", "True,False,True", "true,false,true"])
def test_truth_values_are_the_same_in_text_and_in_frames(tmp_path, cells):
    rows = cells.split(",")
    config = configured(tmp_path, as_csv(tmp_path, {"ward": rows, "flag": rows, "own": rows}), TRUTHS)
    (tmp_path / "frame").mkdir()
    same = configured(
        tmp_path / "frame", as_parquet(tmp_path / "frame", dict.fromkeys(("ward", "flag", "own"), [True, False, True])), TRUTHS
    )
    names = ("ward", "flag=true", "own=FALSE")
    assert load(config, "p", names).rows.tolist() == load(same, "p", names).rows.tolist() == [[1, 1, 0], [0, 0, 1], [1, 1, 0]]


def test_truth_values_are_told_apart_by_their_spelling_where_the_categories_do(tmp_path):
    declared = '[datasets.p.columns]\nflag = { categories = ["true", "TRUE"] }\n'
    config = configured(tmp_path, as_csv(tmp_path, {"flag": ["TRUE", "true"]}), declared)
    assert load(config, "p", ["flag=true", "flag=TRUE"]).rows.tolist() == [[0, 1], [1, 0]]
    config = configured(tmp_path, as_csv(tmp_path, {"flag": ["True"]}), declared)
    assert refusal(load, config, "p", ["flag=true"]).endswith("not among the declared categories")


# -- missing values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", ["", "NA", '"NA"', " NaN ", "nan"])
def test_missing_values_as_other_programs_write_them(tmp_path, nothing):
    """R writes NA, and pandas nothing or what it is told to."""
    lines = ["age,bmi,ward,dose", f"1,{nothing},a,1", f"{nothing},50,b,2", f"3,2,{nothing},3", "4,4,b,4"]
    (tmp_path / "p.csv").write_text("\n".join(lines))
    config = configured(tmp_path, 'path = "p.csv"', RULES)
    assert load(config, "p", ["age", "dose"]).rows.tolist() == [[1, 1], [3, 3], [4, 4]]
    assert load(config, "p", ["bmi", "age", "ward=b"]).rows.tolist() == [[4, 1, 0], [4, 4, 1]]
    config = configured(tmp_path, 'path = "p.csv"', RULES.replace('missing = "drop"', 'missing = "error"'))
    assert refusal(load, config, "p", ["dose", "age"]).endswith(f", row 2 (line 3), column 'age': {NO_VALUE}")
    assert refusal(load, config, "p", ["ward=a"]).endswith(f", row 3 (line 4), column 'ward': {NO_CATEGORY}")


def test_a_category_may_be_called_as_nothing_is_called_elsewhere(tmp_path):
    (tmp_path / "p.csv").write_text('country\nNA\nDE\n""\nNA\n')
    config = configured(tmp_path, 'path = "p.csv"', '[datasets.p.columns]\ncountry = { categories = ["DE", "NA"], missing = "drop" }\n')
    assert load(config, "p", ["country=NA"]).rows[:, 0].tolist() == [1, 0, 1]
    config = configured(tmp_path, 'path = "p.csv"', '[datasets.p.columns]\ncountry = { categories = ["DE", "FR"], missing = "drop" }\n')
    assert load(config, "p", ["country=DE"]).rows[:, 0].tolist() == [1]


@pytest.mark.parametrize("write", [as_parquet, as_sqlite])
def test_text_is_text_where_a_source_has_nulls(tmp_path, write):
    """In such a source a missing value is null, so the text NA is somebody's code."""
    config = configured(tmp_path, write(tmp_path, {"ward": ["a", "NA"]}), RULES)
    assert refusal(load, config, "p", ["ward=a"]).endswith("row 2, column 'ward': not among the declared categories")
