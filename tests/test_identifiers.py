"""The identifier of a dataset matches the rows of parties that split the columns of records; nobody is told it (invariants 25, 34)."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import uuid
from decimal import Decimal

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from mpc import ConfigError
from mpc.framing.records import Sealer
from parties import nodes as service
from parties.config import load_node_config
from parties.control import ask, socket_path
from parties.data import Identifiers, Table
from parties.datasets import NO_IDENTIFIER, REPEATED, load
from parties.jobs.job import Task
from parties.schema import IdentifierSettings
from parties.sources.cells import of_objects
from tests.error_rows import logged, row_of
from tests.jobs import entries
from tests.nodes import Nodes, beaver, rows_of
from tests.test_datasets_sources import HEAD, SOURCES, as_csv, as_duckdb, as_feather, as_parquet, as_sqlite, as_stream, refusal
from tests.waiting import until

PLANTED = "canary77713371"
DECLARED = 'identifier = "patient"\n[datasets.p.columns]\nage = {}\nbmi = { missing = "drop" }\n'
NAMES = ["Zo\u00eb", "a1", "a10", "a2", "b c", "\u00c9mile"]
"""In the order of code points: capitals first, letters with accents last."""
UUID_7 = "00000000-0000-0000-0000-000000000007"
WARDS = 'w = { categories = ["a", "b"] }\n'


def configured(home, source, declared=DECLARED):
    (home / "a.toml").write_text(f"{HEAD}[datasets.p]\n{source}\n{declared}")
    return load_node_config(home / "a.toml")


def shuffled(names):
    """A table of these records in another order: the age says which row it is of."""
    order = np.random.default_rng(len(names)).permutation(len(names)).tolist()
    return {"age": [float(place) for place in order], "patient": [names[place] for place in order], "bmi": [20.0] * len(names)}


# -- what is read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", SOURCES)
@pytest.mark.parametrize("names", [NAMES, [10, 100, 9]], ids=["texts", "whole numbers"])
def test_common_records_come_in_the_order_of_their_identifiers(tmp_path, write, names):
    config = configured(tmp_path, write(tmp_path, shuffled(names)))
    table = load(config, "p", ["age"], aligned=True)
    assert table.columns == ["age"]
    assert table.rows[:, 0].tolist() == list(range(len(names)))
    assert table.index == tuple(map(str, names))


def test_a_text_is_read_as_it_stands_but_for_blanks_around_it(tmp_path):
    config = configured(tmp_path, as_csv(tmp_path, {"patient": [" 007", "7 ", "7.0", "1e3"], "age": [1, 2, 3, 4]}))
    assert load(config, "p", ["age"], aligned=True).index == ("007", "1e3", "7", "7.0")


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (2**60 + 1, str(2**60 + 1)),
        (Decimal("12"), "12"),
        (dt.date(2020, 1, 2), "2020-01-02"),
        (uuid.UUID(int=7), UUID_7),
        ("NA", "NA"),
    ],
)
def test_what_a_database_may_have_as_an_identifier(cell, text):
    assert of_objects([cell], IdentifierSettings()).identifiers == (text,)


@pytest.mark.parametrize("cell", [1.0, True, b"x", Decimal("1.5"), Decimal("NaN"), dt.datetime(2020, 1, 2, tzinfo=dt.UTC), ["x"]])
def test_what_has_several_texts_is_no_identifier(cell):
    (text,) = of_objects([cell], IdentifierSettings()).wrong.values()
    assert text.startswith(f"a value of type {type(cell).__name__}, but an identifier is text")


@pytest.mark.parametrize("write", [as_parquet, as_feather, as_stream, as_duckdb])
def test_a_uuid_is_an_identifier_of_every_source_that_has_the_type(tmp_path, write):
    given = {"patient": pa.array([uuid.UUID(int=8).bytes, uuid.UUID(int=7).bytes], pa.uuid()), "age": [1.0, 2.0]}
    assert load(configured(tmp_path, write(tmp_path, given)), "p", ["age"], aligned=True).index == (UUID_7, UUID_7[:-1] + "8")
    with duckdb.connect() as connection:
        # No schema of Arrow is in this one.
        connection.execute(f"COPY (SELECT '{UUID_7}'::UUID AS patient, 1.0 AS age) TO '{tmp_path / 'p.parquet'}' (FORMAT parquet)")
    assert load(configured(tmp_path, 'path = "p.parquet"'), "p", ["age"], aligned=True).index == (UUID_7,)


def test_jobs_on_rows_read_no_identifier(tmp_path):
    """Such jobs ignore what stands in the identifier's column, and rows keep their order."""
    for names in (["b", "", "b", "a"], ["b", "c", "d", "a"]):
        config = configured(tmp_path, as_csv(tmp_path, {"patient": names, "age": [1, 2, 3, 4], "bmi": [1, "", 3, 4]}))
        table = load(config, "p", ["age", "bmi"])
        assert table.index is None
        assert table.rows.tolist() == [[1, 1], [3, 3], [4, 4]]
    (tmp_path / "p.csv").write_text("age\n1\n")
    assert load(config, "p", ["age"]).rows.tolist() == [[1]]
    assert "column 'patient': there is no such column" in refusal(lambda: load(config, "p", ["age"], aligned=True))


def test_a_dataset_without_rows_has_no_records(tmp_path):
    config = configured(tmp_path, as_csv(tmp_path, {"patient": [], "age": []}))
    table = load(config, "p", ["age"], aligned=True)
    assert (table.rows.shape, table.index) == ((0, 1), None)


def test_what_prints_records_prints_none_of_them():
    records = Identifiers([PLANTED])
    assert PLANTED not in f"{records!r} {records} {Table(['age'], np.ones((1, 1)), records)} {(records,)}"


# -- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [as_csv, as_parquet, as_sqlite, as_duckdb])
@pytest.mark.parametrize("before", [0, 5000])
def test_missing_and_repeated_identifiers_are_named_by_their_row(tmp_path, write, before):
    for last, text in ((None, NO_IDENTIFIER), (" ", NO_IDENTIFIER), (f"{PLANTED} ", REPEATED)):
        names = [PLANTED, *(f"n{number}" for number in range(before)), last, PLANTED]
        config = configured(tmp_path, write(tmp_path, {"patient": names, "age": [1.0] * len(names)}))
        line = f" (line {before + 3})" if write is as_csv else ""
        told = refusal(lambda config=config: load(config, "p", ["age"], aligned=True))
        assert told.endswith(f": dataset 'p', row {before + 2}{line}, column 'patient': {text}")


def test_na_is_missing_in_a_text_file_only(tmp_path):
    rows = {"patient": ["NA", "x"], "age": [1.0, 2.0]}
    assert NO_IDENTIFIER in refusal(lambda: load(configured(tmp_path, as_csv(tmp_path, rows)), "p", ["age"], aligned=True))
    assert load(configured(tmp_path, as_sqlite(tmp_path, rows)), "p", ["age"], aligned=True).index == ("NA", "x")


@pytest.mark.parametrize("job_column", ["patient", "ward=a"])
def test_no_job_names_an_identifier(tmp_path, job_column):
    config = configured(tmp_path, as_csv(tmp_path, shuffled(NAMES)), DECLARED.replace('"patient"', f'"{job_column}"'))
    for aligned in (False, True):
        told = refusal(lambda aligned=aligned: load(config, "p", ["age", job_column], aligned=aligned))
        where = f"{config.folder / 'a.toml'}, line 6"
        assert told == f"{where}: column {job_column!r} is the identifier of dataset 'p', which no job may use; leave it out of the job"


@pytest.mark.parametrize(("identifier", "declared"), [("age", "age = {}\n"), ("w", WARDS), ("w=a", WARDS)])
def test_a_column_for_jobs_is_no_identifier(tmp_path, identifier, declared):
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, 'path = "p.csv"', f'identifier = "{identifier}"\n[datasets.p.columns]\n{declared}')
    assert row_of("'identifier' names one of 'columns'").shows(str(caught.value))


async def test_data_check_looks_at_the_identifier(tmp_path):
    names = [PLANTED, "x", PLANTED, "", "x"]
    configured(tmp_path, as_csv(tmp_path, {"age": [1] * 5, "patient": names, "bmi": [1] * 5}))
    status, out, _ = await beaver(tmp_path, "data", "check", "-c", "a.toml", "--json")
    (report,) = json.loads(out)
    assert (status, report["usable"], PLANTED in out) == (1, False, False)
    first, *others = report["columns"]
    assert first == {"column": "patient", "unit": "", "missing": 1, "rule": "identifier", "refused": 3, "why": f"row 3: {REPEATED}"}
    assert [column["column"] for column in others] == ["age", "bmi"]
    configured(tmp_path, as_csv(tmp_path, {"age": [1] * 2, "patient": names[:2], "bmi": [1] * 2}))
    status, out, _ = await beaver(tmp_path, "data", "check", "-c", "a.toml")
    assert (status, "identifier" in out, PLANTED in out) == (0, True, False)


# -- between nodes --------------------------------------------------------------------------------------------

SPLIT = {"a": ["age"], "b": ["bmi", "score"]}
FIT = ("linear_regression", "--columns", "age,bmi,score", "--set", "target=score", "--set", "split=columns")


class Split(Nodes):
    """a has the age of some patients, and b the other columns of the same ones, each in an order of its own."""

    def __init__(self, folder, **others):
        super().__init__(folder, names=("a", "b"), **others)
        self.rows = rows_of(1)
        self.patients = [f"{PLANTED}-{number}" for number in range(len(self.rows))]
        for seed, name in enumerate(SPLIT):
            self.declare(name, 'identifier = "patient"')
            self.put(name, np.random.default_rng(seed).permutation(len(self.rows)))

    def declare(self, name, identifier):
        head = (self.folder / f"{name}.toml").read_text().partition("[datasets.")[0]
        columns = "".join(f"{column} = {{}}\n" for column in SPLIT[name])
        (self.folder / f"{name}.toml").write_text(
            f'{head}[datasets.patients]\npath = "{name}.csv"\n{identifier}\n[datasets.patients.columns]\n{columns}'
        )

    def put(self, name, order, **renamed):
        """These rows, in this order; `renamed` gives some of them other identifiers, by their place in it."""
        columns = {"age": 0, "bmi": 1, "score": 2}
        names = [self.patients[row] for row in order]
        for place, text in renamed.items():
            names[int(place.removeprefix("row"))] = text
        lines = [",".join(["patient", *SPLIT[name]])]
        lines += [
            ",".join([text, *(repr(float(self.rows[row, columns[column]])) for column in SPLIT[name])])
            for text, row in zip(names, order, strict=True)
        ]
        path = self.folder / f"{name}.csv.new"
        path.write_text("\n".join(lines) + "\n")
        path.rename(self.folder / f"{name}.csv")

    def right(self, result):
        x = np.column_stack([self.rows[:, :2], np.ones(len(self.rows))])
        wanted = np.linalg.lstsq(x, self.rows[:, 2], rcond=None)[0]
        return np.allclose([*(result["coefficients"][name] for name in ("age", "bmi")), result["intercept"]], wanted, atol=1e-3)


async def test_parties_that_sort_differently_get_the_right_model_and_those_with_other_records_none(tmp_path):
    nodes = Split(tmp_path)
    rows = len(nodes.rows)
    async with nodes:
        for solver in (["solver=exact"], ["solver=sgd", "--set", "epochs=100"]):
            status, out, complaints = await nodes.run(*FIT, "--set", *solver, "--json", at="a")
            assert status == 0, complaints
            answer = json.loads(out)["result"]
            assert answer["rows"] == rows
            assert nodes.right(answer)
        told = row_of("its rows are labelled differently")
        # Another record at b; and the right ones again.
        nodes.put("b", range(rows), row3="somebody else")
        status, out, complaints = await nodes.run(*FIT, "--json", at="a")
        assert (status, json.loads(out)["party"]) == (4, "b")
        assert told.shows(complaints.splitlines()[-1].removeprefix("Disagreement: "))
        for name in "ab":
            await until(lambda name=name: logged("its rows are labelled differently", nodes.log(name)))
            await until(lambda name=name: len(entries(nodes, name)) == 6)
            last = entries(nodes, name)[-1]
            assert (last["kind"], last["outcome"]) == ("ended", "failed"), last
            # Which columns each has, and the print by which they differ: no sum of anything.
            assert [each["what"] for each in last["announced"]] == ["announce", "column_layout/announce"]
            assert last["released"] == []
        # That a patient is there twice is told to this party alone.
        nodes.put("b", range(rows), row3=nodes.patients[0])
        status, _, complaints = await nodes.run(*FIT, at="b")
        assert (status, f"row 4 (line 5), column 'patient': {REPEATED}" in complaints) == (1, True)
        status, _, complaints = await nodes.run(*FIT, at="a")
        assert (status, "identifier" in complaints) == (5, False)
        nodes.put("b", range(rows - 1, -1, -1))
        status, out, complaints = await nodes.run(*FIT, "--json", at="b")
        assert status == 0, complaints
        assert nodes.right(json.loads(out)["result"])
        for columns, split in (("age,bmi,score,patient", "columns"), ("patient,score", "columns"), ("patient,score", "rows")):
            asked = ("linear_regression", "--columns", columns, "--set", "target=score", "--set", f"split={split}")
            status, _, complaints = await nodes.run(*asked, at="b")
            assert (status, "is the identifier of dataset 'patients', which no job may use" in complaints) == (1, True), complaints


async def test_a_party_without_an_identifier_beside_one_with_is_a_disagreement(tmp_path):
    nodes = Split(tmp_path)
    nodes.declare("b", "")
    async with nodes:
        status, _, complaints = await nodes.run(*FIT, at="b")
        assert status == 4
        assert row_of("its rows are labelled differently").shows(complaints.splitlines()[-1].removeprefix("Disagreement: "))


async def test_rows_belong_together_by_their_place_where_nobody_declares_an_identifier(tmp_path):
    nodes = Split(tmp_path)
    for name in SPLIT:
        nodes.declare(name, "")
        nodes.put(name, range(len(nodes.rows)))
    async with nodes:
        status, out, complaints = await nodes.run(*FIT, "--json")
        assert status == 0, complaints
        assert nodes.right(json.loads(out)["result"])


async def test_no_identifier_leaves_a_party_in_whatever_form(tmp_path, monkeypatch, caplog):
    nodes = Split(tmp_path)
    said, seal = [], Sealer.seal

    def sealed(self, plaintext):
        said.append(bytes(plaintext))
        return seal(self, plaintext)

    monkeypatch.setattr(Sealer, "seal", sealed)
    caplog.set_level(logging.DEBUG, "beaver")
    running = [asyncio.create_task(service.dealer(tmp_path / "dealer.toml"))]
    running += [asyncio.create_task(service.party(tmp_path / f"{name}.toml")) for name in SPLIT]
    sockets = {name: socket_path(load_node_config(tmp_path / f"{name}.toml")) for name in SPLIT}
    task = Task("linear_regression", "patients", ("age", "bmi", "score"), ("a", "b"), (), {"target": "score", "split": "columns"}).pack()

    async def asked(at):
        answers = [message async for message in ask(sockets[at], {"do": "run", "task": task, "wait": 20.0})]
        said.append(repr(answers).encode())
        return answers[-1]

    async with asyncio.timeout(60):
        while not all(path.exists() for path in sockets.values()):
            assert not any(each.done() for each in running)
            await asyncio.sleep(0.01)
        assert "result" in await asked("a")
        rows = len(nodes.rows)
        for wrong in ({"row3": f"{PLANTED}-else"}, {"row3": nodes.patients[0]}, {"row3": ""}):
            nodes.put("b", range(rows), **wrong)
            for at in SPLIT:
                assert "error" in await asked(at)
    for each in running:
        each.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    everything = b"".join([*said, caplog.text.encode(), *(path.read_bytes() for path in tmp_path.glob("*.audit.log"))])
    assert len(caplog.records) > 50
    assert b"linear_regression" in everything
    assert PLANTED.encode() not in everything
