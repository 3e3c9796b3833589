"""`beaver data check` reports counts and places, and no value."""

from __future__ import annotations

import json

import pytest

from tests.nodes import beaver

HEAD = 'name = "a"\nkey = "a.key"\nroster = "roster.toml"\n'
COLUMNS = (
    '[datasets.NAME.columns]\nage = { range = [0, 120], unit = "years" }\nbmi = { missing = "drop" }\nward = { categories = ["a", "b"] }\n'
)
PLANTED = "77713371"
GOOD = "age,bmi,ward\n50,,a\n60,22.5,b\n"
BAD = f"age,bmi,ward\n50,1,a\n{PLANTED},2,b\n,x{PLANTED},\n3,nan,{PLANTED}\n{PLANTED},1,b\n"


async def check(home, *arguments):
    status, out, complaints = await beaver(home, "data", "check", "-c", "a.toml", *arguments)
    assert PLANTED not in out + complaints
    assert "Traceback" not in complaints
    return status, out, complaints


@pytest.fixture
def home(tmp_path):
    text = HEAD
    for name, content in (("good", GOOD), ("bad", BAD), ("broken", f"age,bmi,ward\n1,2\n{PLANTED}")):
        (tmp_path / f"{name}.csv").write_text(content)
        text += f'[datasets.{name}]\npath = "{name}.csv"\n{COLUMNS.replace("NAME", name)}'
    (tmp_path / "a.toml").write_text(text)
    return tmp_path


async def test_one_good_dataset(home):
    status, out, _ = await check(home, "good")
    assert status == 0
    assert "good: 2 rows from good.csv" in out
    assert "years" in out
    (report,) = json.loads((await check(home, "good", "--json"))[1])
    assert report["rows"] == 2
    assert report["usable"]
    assert [column["missing"] for column in report["columns"]] == [0, 1, 0]


async def test_all_datasets(home):
    status, out, _ = await check(home, "--json")
    assert status == 1
    good, bad, broken = json.loads(out)
    assert (good["usable"], bad["usable"], broken["usable"]) == (True, False, False)
    assert broken["error"] == "broken.csv: dataset 'broken', row 1 (line 2): has 2 cell(s), but the header has 3"
    assert [(column["missing"], column["refused"]) for column in bad["columns"]] == [(1, 3), (1, 1), (1, 2)]
    assert [column["why"] for column in bad["columns"]] == [
        "row 2: outside the declared range [0, 120]; mend the cell or declare another range",
        "row 3: text, but a number is needed",
        'row 3: the category is missing; fill it in, or declare for this column missing = "drop" where no columns are split',
    ]
    status, out, _ = await check(home)
    assert status == 1
    assert "has 2 cell(s)" in out


@pytest.mark.parametrize("rule", ["drop", "mean", "error"])
@pytest.mark.parametrize("nothing", ["", "NA"])
async def test_a_column_without_any_value_is_told(home, rule, nothing):
    (home / "empty.csv").write_text(f"age,bmi\n50,{nothing}\n60,{nothing}\n")
    (home / "a.toml").write_text(
        f'{HEAD}[datasets.empty]\npath = "empty.csv"\n[datasets.empty.columns]\nage = {{}}\nbmi = {{ missing = "{rule}" }}\n'
    )
    status, out, _ = await check(home, "--json")
    (report,) = json.loads(out)
    assert (status, report["usable"]) == (1, False)
    age, bmi = report["columns"]
    assert (age["missing"], age["why"], bmi["missing"]) == (0, "", 2)
    expected = "row 1: the value is missing; " if rule == "error" else "no row has a value, so no job can use this column"
    assert bmi["why"].startswith(expected)


async def test_a_table_without_rows_lacks_no_value(home):
    (home / "good.csv").write_text("age,bmi,ward\n")
    assert (await check(home, "good"))[0] == 0


async def test_what_is_not_there(home):
    status, _, complaints = await check(home, "god")
    assert status == 1
    assert "unknown dataset 'god'; did you mean 'good'?" in complaints
    (home / "a.toml").write_text(HEAD)
    assert (await check(home))[:2] == (0, "no dataset is declared\n")
