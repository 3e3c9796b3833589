"""Jobs between real nodes whose datasets come from different sources, and what they must agree on."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sqlite3

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from mpc import Disagreement
from parties.client import ask
from parties.config import load_node_config
from parties.datasets import load
from tests.error_rows import row_of
from tests.jobs import RUN, entries, governed, requested, waiting
from tests.nodes import ROOT, Nodes, rows_of
from tests.test_client import served
from tests.waiting import until

WARDS = ["surgical", "medical", "other"]
WARD = '{ categories = ["surgical", "medical", "other"], baseline = "other" }'
COLUMNS = f'columns = {{ age = {{ unit = "years" }}, bmi = {{}}, ward = {WARD}, score = {{}} }}\n'
SOURCES = {
    "a": 'path = "stay.csv"\nseparator = ";"\ndecimal = ","\n',
    "b": 'path = "stay.parquet"\n',
    "c": 'database = "sqlite:stay.db"\nsql = "SELECT * FROM stay ORDER BY rowid"\n',
}


def stays(index):
    """Columns of one party; the score depends on the ward too."""
    rows = rows_of(index, 30)
    wards = np.random.default_rng(index).permutation(np.arange(len(rows)) % 3)
    score = rows[:, 2] + np.choose(wards, [5.0, -3.0, 0.0])
    return {"age": rows[:, 0], "bmi": rows[:, 1], "ward": [WARDS[ward] for ward in wards], "score": score}


def write(home):
    tables = {name: stays(index) for index, name in enumerate("abc")}
    lines = [";".join(map(str, row)).replace(".", ",") for row in zip(*tables["a"].values(), strict=True)]
    (home / "stay.csv").write_text("\n".join(["age;bmi;ward;score", *lines]) + "\n")
    parquet.write_table(pa.table(tables["b"]), home / "stay.parquet")
    with sqlite3.connect(home / "stay.db") as connection:
        connection.execute("CREATE TABLE stay (age, bmi, ward, score)")
        listed = (
            [cell.item() if isinstance(cell, np.generic) else cell for cell in row] for row in zip(*tables["c"].values(), strict=True)
        )
        connection.executemany("INSERT INTO stay VALUES (?, ?, ?, ?)", listed)
    connection.close()
    return tables


def declare(home, **changed):
    """`changed` gives a party's columns where they are not the others'."""
    for name, source in SOURCES.items():
        with (home / f"{name}.toml").open("a") as file:
            file.write(f"[datasets.stays]\n{source}{changed.get(name, COLUMNS)}")


async def test_one_regression_from_three_kinds_of_source(tmp_path):
    nodes = Nodes(tmp_path)
    tables = write(tmp_path)
    declare(tmp_path)
    async with nodes:
        command = ("run", "linear_regression", "--dataset", "stays", "--columns", "age,bmi,ward,score", "--set", "target=score")
        status, out, complaints = await nodes.beaver(*command, "--json", "-c", "b.toml")
        assert status == 0, complaints
        found = json.loads(out)["result"]["coefficients"]
        pooled = {name: np.concatenate([np.asarray(table[name]) for table in tables.values()]) for name in tables["a"]}
        x = np.column_stack([pooled["age"], pooled["bmi"], *(pooled["ward"] == ward for ward in WARDS[:2]), np.ones(len(pooled["age"]))])
        wanted = np.linalg.lstsq(x, pooled["score"], rcond=None)[0]
        assert list(found) == ["age", "bmi", "ward=surgical", "ward=medical"]
        assert np.allclose(list(found.values()), wanted[:4], atol=1e-3)
        status, out, complaints = await nodes.beaver(
            "run", "mean", "--dataset", "stays", "--columns", "ward=other", "--json", "-c", "a.toml"
        )
        assert status == 0, complaints
        assert abs(json.loads(out)["result"]["mean"]["ward=other"] - (pooled["ward"] == "other").mean()) < 1e-5


async def test_units_and_categories_must_be_the_same(tmp_path):
    nodes = Nodes(tmp_path)
    write(tmp_path)
    declare(
        tmp_path,
        b=COLUMNS.replace("years", "months")
        .replace('"other"], base', '"other", "new"], base')
        .replace("bmi = {}", "bmi = { range = [0, 99] }"),
    )
    async with nodes:

        async def mean(columns, at):
            return await nodes.beaver("run", "mean", "--dataset", "stays", "--columns", columns, "--json", "-c", f"{at}.toml")

        for columns, differs in (("age,bmi", "unit of column 'age'"), ("bmi,ward=surgical", "categories of column 'ward'")):
            status, _, complaints = await mean(columns, "a")
            assert status == 4, complaints
            assert "Disagreement: b: describes job" in complaints
            assert f"differently: {differs}. Start it" in complaints
        # A range stays at home.
        status, _, complaints = await mean("bmi", "c")
        assert status == 0, complaints
        for name in "abc":
            named = lambda name=name: re.findall(r"phase=failed Disagreement: (\w+): describes job .* differently: ", nodes.log(name))  # noqa: E731
            await until(lambda named=named: len(named()) == 2)
            # At b itself it is one of those that it differs from.
            assert set(named()) <= ({"a", "c"} if name == "b" else {"b"})


async def test_categories_that_are_spelt_differently_are_a_disagreement_and_no_denial(tmp_path):
    nodes = Nodes(tmp_path)
    write(tmp_path)
    declare(tmp_path, b=COLUMNS.replace('"surgical"', '"Surgical"'))
    for name in "ac":
        config = tmp_path / f"{name}.toml"
        config.write_text(config.read_text().replace("allow = [", 'allow = ["minimum", '))
    async with nodes:

        async def asked(protocol, columns, at):
            return await nodes.beaver("run", protocol, "--dataset", "stays", "--columns", columns, "--json", "-c", f"{at}.toml")

        status, out, complaints = await asked("mean", "age,ward=surgical", "a")
        assert (status, json.loads(out)["party"]) == (4, "b")
        told = "b: describes its columns differently: categories of column 'ward'. Declare the same everywhere."
        assert complaints.splitlines()[-1] == f"Disagreement: {told}"
        assert row_of("describes its columns differently").shows(told)
        # At the third party too, if it had accepted before b answered; and at b with what only b and its proposer know.
        mine = (
            "a: describes its columns differently: it asks for 'ward=surgical', which is no category of column 'ward' here; "
            "did you mean 'ward=Surgical'?"
        )
        assert f"phase=unlike {mine} Declare the same everywhere." in nodes.log("b")
        (entry,) = entries(nodes, "b")
        assert (entry["kind"], entry["by"], entry["reason"].startswith(f"Disagreement: {mine}")) == ("declined", "b", True)
        # The other way round, both others have it.
        status, _, complaints = await asked("mean", "ward=Surgical", "b")
        assert status == 4
        assert re.search(r"Disagreement: [ac]: describes its columns differently: categories of column 'ward'\. Declare", complaints)
        # What b lists is said to nobody, and what its policy does not allow hears nothing of categories.
        status, _, complaints = await asked("minimum", "ward=surgical", "a")
        assert (status, "the job was denied by b" in complaints, "categories" in complaints) == (5, True, False)
        for name in "ac":
            assert "Surgical" not in nodes.log(name).replace("ward=Surgical", "")
        # A column of one's own that is not declared stays a fault of this organisation.
        status, _, complaints = await asked("mean", "ward=Surgical", "a")
        assert (status, "declares no column 'ward=Surgical'; did you mean 'ward=surgical'?" in complaints) == (1, True)


async def test_a_client_hears_of_categories_that_are_spelt_differently(tmp_path):
    nodes = served(tmp_path)
    tables = write(tmp_path)
    declare(tmp_path, b=COLUMNS.replace('"surgical"', '"Surgical"'))
    async with nodes:
        with pytest.raises(Disagreement) as caught:
            await ask(tmp_path / "lab.toml", "mean", dataset="stays", columns=["ward=surgical"])
        assert row_of("describes its columns differently").shows(str(caught.value))
        assert caught.value.party == "b"
        # And what all have alike, it gets.
        answer = await ask(tmp_path / "lab.toml", "mean", dataset="stays", columns=["age"])
        assert answer["result"]["rows"] == sum(len(table["age"]) for table in tables.values())


async def test_categories_that_change_while_the_job_waits_for_approval_are_told_as_such(tmp_path):
    nodes = governed(tmp_path, b='ask = ["mean"]')
    write(tmp_path)
    declare(tmp_path)
    async with nodes:
        task = {**RUN["task"], "dataset": "stays", "columns": ["ward=surgical"]}
        asking = asyncio.create_task(requested(nodes, {**RUN, "task": task}))
        await waiting(nodes, "b")
        config = tmp_path / "b.toml"
        config.write_text(config.read_text().replace('"surgical"', '"Surgical"'))
        nodes.processes["b"].send_signal(signal.SIGHUP)
        answer = (await asking)[-1]
        assert (answer["error"], answer["text"]) == (
            "Disagreement",
            "b: describes its columns differently: categories of column 'ward'. Declare the same everywhere.",
        )


async def test_split_columns_drop_no_rows(tmp_path):
    nodes = Nodes(tmp_path, names=("a", "b"))
    rows = rows_of(1)
    nodes.write("a", rows[:, :1], ["age"])
    nodes.write("b", rows[:, 1:], ["bmi", "score"])
    text = (tmp_path / "b.csv").read_text().splitlines()
    text[3] = "," + text[3].partition(",")[2]
    (tmp_path / "b.csv").write_text("\n".join(text) + "\n")
    for name, unknown in (("a", ("bmi", "score")), ("b", ("age",))):
        config = tmp_path / f"{name}.toml"
        lines = [line for line in config.read_text().splitlines() if line.split(" ")[0] not in unknown]
        config.write_text("\n".join(lines).replace("bmi = {}", 'bmi = { missing = "drop" }') + "\n")
    async with nodes:
        setting = ("--set", "target=score", "--set", "split=columns")
        status, _, complaints = await nodes.run("linear_regression", "--columns", "age,bmi,score", *setting, at="b")
        assert status == 1
        assert "row 3 (line 4), column 'bmi': the value is missing; fill it in" in complaints


def test_the_document_declares_what_can_be_declared(tmp_path):
    block = next(part for part in (ROOT / "docs" / "operations.md").read_text("utf-8").split("```") if part.startswith("text\n[datasets."))
    (tmp_path / "a.toml").write_text('name = "a"\nkey = "a.key"\nroster = "r"\n' + block.removeprefix("text\n"))
    config = load_node_config(tmp_path / "a.toml")
    assert config.expand("patients", ["age", "ward"]) == ("age", "ward=surgical", "ward=medical")
    rows = {"age": [50], "bmi": [21.5], "ward": ["other"]}
    parquet.write_table(pa.table(rows), tmp_path / "patients.parquet")
    assert load(config, "patients", ["age", "ward=other"]).rows.tolist() == [[50, 1]]
