"""Clients that are no parties, with real nodes: results, policies, audit (invariants 19, 24, 26, 28, 34)."""

from __future__ import annotations

import json
import math
import re
import stat
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import mpc
from parties.auditing.history import History
from parties.client import ask, ask_sync, declared, power_above, rows_of
from parties.commands.client import client
from parties.config import load_node_config
from parties.data import Table
from parties.jobs.job import Client, Task, unpack_task
from parties.policy import absent, admit, check_policy
from parties.programs import program
from parties.status.watch import Watch
from tests.brokers import Mosquitto
from tests.error_rows import row_of
from tests.jobs import entries, requested
from tests.nodes import Nodes
from tests.test_mqtt_nodes import meet_at
from tests.waiting import until

GIVES = ["sum", "mean", "variance", "standard_deviation", "linear_regression"]
POLICY = f"""allow = {json.dumps([*GIVES, "maximum"])}
min_rows = 5
[policy.clients.lab]
gives = {json.dumps(GIVES)}
gets = {json.dumps([*GIVES, "maximum"])}
"""
OWN = """[datasets.own]
path = "lab.csv"
[datasets.own.columns]
age = { range = [0, 120] }
bmi = { range = [0, 60] }
score = { range = [-500, 500] }
"""
CANARY = 7310481.25
CLIENTS = [
    "this one does neither",
    "takes no rows of a client",
    "is not for rows of a client",
    "is computed on the rows of a client alone",
    "rows of a client are too few for a fit",
    "a client gets the result of split=rows",
    "is none of me, parties, both",
    "a client gives from 1 to",
    "a client's rows are a Table",
    "ranges= has a column",
    "ranges= of column",
    "rows= takes what",
    "nothing to compute on",
    "the power of two above the column's range",
    "the roster has no client",
    "asks, so the client of the job must be",
    "rule `clients`",
    "rule `clients.NAME.gives`",
    "rule `clients.NAME.gets`",
    "gives fewer than N rows, and nobody",
    "a client gives at most",
    "what a client adds to a proposed job is wrong",
]
"""Rows of docs/errors.md that this file provokes."""


def served(folder, names=("a", "b", "c"), *, join=20.0, **policies):
    """Nodes that take the jobs of the client lab, which has 40 rows of its own; `other` is a client that no policy names."""
    nodes = Nodes(folder, names=names, clients=("lab", "other"))
    for name in names:
        config = folder / f"{name}.toml"
        lines = [line.replace("join = 20.0", f"join = {join}") for line in config.read_text().splitlines() if not line.startswith("allow")]
        config.write_text("\n".join(lines) + f"\n[policy]\n{policies.get(name, POLICY)}\n")
    rng = np.random.default_rng(99)
    age, bmi = rng.uniform(20, 90, 40), rng.uniform(15, 45, 40)
    nodes.data["lab"] = np.round(np.column_stack([age, bmi, 2 * age - bmi + rng.normal(size=40)]), 6)
    nodes.write("lab", nodes.data["lab"])
    for name in ("lab", "other"):
        with (folder / f"{name}.toml").open("a") as file:
            file.write(OWN)
    return nodes


def given(rows, columns=("age", "bmi", "score")):
    return rows_of(Table(list(columns), rows), {"age": (0, 120), "bmi": (0, 60), "score": (-500, 500)})


async def asked(nodes, protocol, at="lab", **what):
    return (await ask(nodes.folder / f"{at}.toml", protocol, **what))["result"]


def shown(case, fault):
    """Check that a fault, or its text, is what the row of docs/errors.md says."""
    row, text = row_of(case), str(fault)
    assert row.shows(text) and (isinstance(fault, str) or type(fault).__name__ == row.kind), (row.text, text)


def near(found, expected, tolerance=1e-6):
    return np.allclose(list(found.values()), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c")])
async def test_a_client_gives_rows_gets_results_or_both(tmp_path, names):
    async with served(tmp_path, names) as nodes:
        own, theirs = nodes.data["lab"], np.concatenate([nodes.data[name] for name in names])
        rows = given(own)
        for protocol, reduce in (("sum", np.sum), ("mean", np.mean), ("variance", np.var), ("standard_deviation", np.std)):
            for what, pool in (({}, own), ({"dataset": "patients"}, np.concatenate([own, theirs]))):
                result = await asked(nodes, protocol, rows=rows, **what)
                assert near(result[protocol], reduce(pool, axis=0), 2e-6) and result.get("rows", len(pool)) == len(pool), (protocol, what)
        line, *_ = np.linalg.lstsq(np.column_stack([own[:, :2], np.ones(len(own))]), own[:, 2], rcond=None)
        fit = await asked(nodes, "linear_regression", rows=rows, parameters={"target": "score"})
        assert near(fit["coefficients"] | {"intercept": fit["intercept"]}, line, 1e-4)
        # No rows of its own: it asks on the parties' data, and is the only receiver.
        columns = {"dataset": "patients", "columns": ["age", "bmi", "score"]}
        assert near((await asked(nodes, "variance", **columns))["variance"], theirs.var(axis=0))
        assert near((await asked(nodes, "maximum", **columns))["maximum"], theirs.max(axis=0))
        line, *_ = np.linalg.lstsq(np.column_stack([theirs[:, :2], np.ones(len(theirs))]), theirs[:, 2], rcond=None)
        fit = await asked(nodes, "linear_regression", parameters={"target": "score"}, **columns)
        assert near(fit["coefficients"] | {"intercept": fit["intercept"]}, line, 1e-4)
        # For the parties: the client hears that it is done, and no more.
        answer = await ask(nodes.folder / "lab.toml", "mean", rows=rows, to="parties")
        assert answer["result"] is None
        for name in names:
            shown = (await requested(nodes, {"do": "show", "id": answer["id"]}, at=name))[-1]
            assert near(shown["result"]["mean"], own.mean(axis=0))


async def test_the_command_and_what_every_party_records_of_it(tmp_path):
    async with served(tmp_path, ("a", "b")) as nodes:
        nodes.write("lab", np.array([[number, CANARY] for number in range(12)]), ("age", "income"))
        status, out, complaints = await nodes.beaver(
            "client",
            "mean",
            "--data",
            "lab.csv",
            "--columns",
            "age,income",
            "--to",
            "me",
            "--json",
            "--out",
            "result.json",
            "-c",
            "lab.toml",
        )
        assert status != 0 and "column income, row 1 is missing, infinite or beyond 2^20" in complaints.replace("'", ""), complaints
        (tmp_path / "lab.toml").write_text((tmp_path / "lab.toml").read_text() + "[datasets.own.columns.income]\nrange = [0, 1e7]\n")
        status, out, complaints = await nodes.beaver(
            "client", "mean", "--data", "own", "--columns", "age,income", "--to", "both", "--json", "--out", "result.json", "-c", "lab.toml"
        )
        assert status == 0, complaints
        answer = json.loads(out)
        assert near(answer["result"]["mean"], [5.5, CANARY])
        assert json.loads((tmp_path / "result.json").read_text()) == answer
        assert stat.S_IMODE((tmp_path / "result.json").stat().st_mode) == 0o600
        result = await asked(nodes, "sum", rows=given(np.full((6, 3), 50.0)))
        assert near(result["sum"], [300.0] * 3)
        for name in ("a", "b"):
            (first, second), ended = entries(nodes, name, "started"), entries(nodes, name, "ended")
            assert first["asker"] == second["asker"] == "lab" and set(first["signatures"]) == {"a", "b", "lab"}
            assert (first["columns"], second["task"]["client"]["rows"], second["task"]["dataset"]) == ([], 6, "")
            assert [each["released"] for each in ended] == [
                [{"what": "given_mean/reveal", "shape": [3], "to": ["a", "b", "lab"], "times": 1}],
                [{"what": "given_sum/reveal", "shape": [3], "to": ["lab"], "times": 1}],
            ]
            # Of the second result a party has not even a digest.
            assert (ended[0]["output"] is None, ended[1]["output"]) == (False, None)
            written = nodes.log(name) + (tmp_path / f"{name}.audit.log").read_text()
            assert str(int(CANARY)) not in written and "300" not in json.dumps(ended[1]["released"])
        # A client is checked like any member, and meets the parties alone.
        status, out, complaints = await nodes.beaver("check", "-c", "lab.toml", "--json")
        assert (status, [row["peer"] for row in json.loads(out)["peers"]]) == (0, ["a", "b"]), complaints
        assert (await nodes.beaver("audit", "verify", "-c", "a.toml"))[0] == 0
        assert "mean on rows of the client alone: age, income; to a, b, lab" in (await nodes.beaver("audit", "show", "-c", "a.toml"))[1]


async def test_what_a_policy_does_not_name_is_denied_and_the_rule_stays_there(tmp_path):
    narrow = 'allow = ["mean", "sum"]\nmin_rows = 20\n[policy.clients.lab]\ngives = ["mean"]\n'
    async with served(tmp_path, ("a", "b"), b=narrow) as nodes:
        few, many = given(nodes.data["lab"][:6]), given(nodes.data["lab"])
        for case, what, rule in (
            ("rule `clients`", {"protocol": "mean", "rows": many, "at": "other"}, "rule `clients`: other is not on the list"),
            (
                "rule `clients.NAME.gets`",
                {"protocol": "mean", "rows": many},
                "rule `clients.lab.gets`: 'mean' is not on the list (nothing)",
            ),
            (
                "rule `clients.NAME.gives`",
                {"protocol": "sum", "rows": many, "to": "parties"},
                "rule `clients.lab.gives`: 'sum' is not on the list (mean)",
            ),
            (
                "gives fewer than N rows, and nobody",
                {"protocol": "mean", "rows": few, "to": "parties"},
                "rule `min_rows`: lab gives fewer than 20 rows, and nobody else any",
            ),
        ):
            shown(case, rule)
            with pytest.raises(mpc.Refused) as caught:
                await asked(nodes, **what)
            assert re.fullmatch("([ab]): the job was denied by .; the reason is known there only, in its log", str(caught.value))
            assert rule in nodes.log("b") and rule.split("`")[2] not in str(caught.value)
            # Told before it is written: no connection waits for the log.
            await until(lambda: entries(nodes, "b", "declined")[-1:])
            await until(lambda rule=rule: entries(nodes, "b", "declined")[-1]["reason"] == f"PolicyDenied: {rule}")
        assert "rule `clients.lab" not in nodes.log("a")
        assert await asked(nodes, "mean", rows=many, to="parties") is None


@pytest.mark.parametrize("least", [41, 42])
async def test_a_pool_is_that_of_the_parties_and_everyone_may_meet_at_a_broker(tmp_path, least):
    pool = POLICY.replace("min_rows = 5", f"min_rows = 5\nmin_pool_rows = {least}")
    async with Mosquitto(tmp_path) as broker:
        nodes = served(tmp_path, ("a", "b"), b=pool)
        meet_at(tmp_path, broker.relay)
        async with nodes:
            both = np.concatenate([nodes.data[name] for name in ("a", "b", "lab")])
            rows = given(nodes.data["lab"])
            for what in ({"rows": rows}, {"columns": ["age"]}):
                # The parties have 41 rows; the client could subtract its own 40 from the mean of all.
                with (
                    pytest.raises(mpc.PolicyDenied, match="rule `min_pool_rows`: all parties together have fewer than 42 rows")
                    if least == 42
                    else nullcontext()
                ):
                    found = (await asked(nodes, "mean", dataset="patients", to="both", **what))["mean"]
                    assert near(found, (both if "rows" in what else both[:41]).mean(axis=0)[: len(found)])
            assert entries(nodes, "a", "started")[-1]["task"]["pool"] == least
            # 40 of the client alone.
            with pytest.raises(mpc.Refused, match="the job was denied by [ab]"):
                await asked(nodes, "mean", rows=rows)
            # Categories are columns of ones and zeros, as everywhere.
            (tmp_path / "wards.csv").write_text("ward\n" + "\n".join(["medical", "surgical", "medical", "other"] * 20) + "\n")
            with (tmp_path / "lab.toml").open("a") as file:
                file.write(
                    '[datasets.wards]\npath = "wards.csv"\n[datasets.wards.columns]\nward.categories = ["medical", "surgical", "other"]\n'
                )
            config = load_node_config(tmp_path / "lab.toml")
            wards = declared(config, "wards", ("ward",))
            assert wards.powers == (0, 0, 0)
            found = (await asked(nodes, "mean", rows=wards))["mean"]
            assert list(found) == ["ward=medical", "ward=surgical", "ward=other"] and near(found, [0.5, 0.25, 0.25])


# -- without any node ------------------------------------------------------------------------------------------------


def test_ranges_become_powers_of_two():
    limits = [(0, 120), (0, 128), (-129, 1), (0, 1), (0, 0.3), None]
    assert [power_above(each) for each in limits] == [7, 7, 8, 0, -1, 20]


JOB = Task("mean", "", ("age",), ("a", "b"), ("lab",), client=Client("lab", 40, (7,), {"a": "0" * 64, "b": "0" * 64}))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"extra": 1}, "its fields"),
        ({"rows": (1 << 20) + 1}, "a client gives at most"),
        ({"rows": -1}, "a client gives at most"),
        ({"rows": True}, "a client gives at most"),
        ({"powers": []}, "a power of two for each column"),
        ({"powers": [41]}, "a power of two for each column"),
        ({"portions": {"a": "0" * 64}}, "a commitment for each party"),
        ({"portions": {"a": "0" * 64, "b": "0" * 63}}, "a commitment for each party"),
        ({"rows": 0}, "a power of two for each column"),
        ({"meaning": {"unit": 1}}, "what its columns mean"),
        ({"powers": 7}, "a power of two for each column"),
    ],
)
def test_what_a_client_adds_is_checked_before_anything_is_allocated(changes, text):
    assert unpack_task(JOB.pack()) == JOB
    data = JOB.pack()
    with pytest.raises(mpc.ConfigError, match=text) as caught:
        unpack_task({**data, "client": {**data["client"], **changes}})
    shown("a client gives at most" if "at most" in text else "what a client adds to a proposed job is wrong", caught.value)


def test_programs_say_what_they_do_not_take():
    def refused(case, protocol, **changes):
        with pytest.raises(mpc.ConfigError) as caught:
            program(protocol).check(replace(JOB, protocol=protocol, **changes), 2)
        shown(case, caught.value)

    refused("this one does neither", "mean", client=Client("lab"), to=(), dataset="patients")
    refused("takes no rows of a client", "maximum")
    refused("is not for rows of a client", "mean", parameters={"frac": 8})
    two = {"columns": ("age", "bmi"), "parameters": {"target": "bmi"}}
    refused("is computed on the rows of a client alone", "linear_regression", dataset="patients", **two)
    three = {"columns": ("age", "bmi", "score"), "parameters": {"target": "bmi"}}
    refused("rows of a client are too few for a fit", "linear_regression", client=replace(JOB.client, rows=2), **three)
    sgd = {"columns": ("age", "bmi"), "parameters": {"target": "bmi", "solver": "sgd"}, "client": Client("lab")}
    refused("a client gets the result of split=rows", "linear_regression", **sgd)
    assert program("mean").estimate(JOB, 2, 10).rounds == 1
    assert program("variance").estimate(replace(JOB, protocol="variance"), 2, 10).rounds == 4


def test_a_client_is_told_what_is_wrong_before_it_asks_anyone(tmp_path):
    nodes = served(tmp_path, ("a", "b"))
    lab, rows = tmp_path / "lab.toml", given(nodes.data["lab"])

    def refused(case, *arguments, **what):
        with pytest.raises(mpc.BeaverError) as caught:
            ask_sync(*arguments, **what)
        shown(case, caught.value)
        return str(caught.value)

    refused("its role in the roster must be", tmp_path / "a.toml", "mean", rows=rows)
    refused("is none of me, parties, both", lab, "mean", rows=rows, to="all")
    for names in (("a", "zed"), ("a", "dealer"), ("a", "lab")):
        refused("is no party of the roster", lab, "mean", rows=rows, parties=names)
    assert refused("is no party of the roster", lab, "mean", rows=rows, to=["zed"]).endswith("known are: a, b")
    refused("a client gives from 1 to", lab, "mean", rows=given(np.zeros((0, 3))))
    refused("rows= takes what", lab, "mean", rows=nodes.data["lab"])
    with pytest.raises(mpc.ConfigError) as caught:
        client("mean", "age", lab)
    shown("nothing to compute on", caught.value)
    (tmp_path / "own.csv").write_text("age\n63\n")
    # A file is called what the command calls it.
    with pytest.raises(mpc.ConfigError, match=r"own\.csv: dataset '.*own\.csv', line 1, column 'bmi': there is no such column"):
        client("mean", "age,bmi", lab, data=str(tmp_path / "own.csv"))
    # Before it reads anything: a party's own rows were read first.
    with pytest.raises(mpc.ConfigError) as caught:
        client("mean", "age,weight", tmp_path / "a.toml", data="patients")
    shown("its role in the roster must be", caught.value)
    # What cannot even be looked for was told as an output that cannot be written.
    with pytest.raises(mpc.ConfigError, match=r"cannot be read \(File name too long\); correct its path"):
        client("mean", "age", lab, data="x" * 300)
    far = nodes.data["lab"].copy()
    far[3, 1], far[5, 1] = CANARY, np.nan
    text = refused("the power of two above the column's range", lab, "mean", rows=given(far))
    assert text.startswith("column 'bmi', row 4 is missing, infinite or beyond 2^6") and "(2 such value(s))" in text
    assert "7310481" not in text and repr(rows) == "Rows(shape=(40, 3))"


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 3), (2, 3, 1)])
def test_rows_have_a_name_for_each_column(shape):
    """One column under two names was once taken for both."""
    for table in (Table(["age", "bmi"], np.ones(shape)), np.ones(shape)):
        with pytest.raises(mpc.ProgramError) as caught:
            rows_of(table)
        shown("a client's rows are a Table", caught.value)


def test_a_frame_gives_its_columns_and_text_is_refused():
    rows = rows_of(pd.DataFrame({"age": [63, 51], "bmi": [27.5, 30.1]}), {"age": (0, 120)})
    assert (rows.table.columns, rows.table.rows.tolist(), rows.powers) == (["age", "bmi"], [[63.0, 27.5], [51.0, 30.1]], (7, 20))
    with pytest.raises(mpc.PrecisionError, match="column 'sex' holds str"):
        rows_of(pd.DataFrame({"age": [63, 51], "sex": ["m", "f"]}))


def test_a_range_is_of_a_column_that_is_there():
    table = Table(["age", "bmi"], np.ones((2, 2)))
    for name, hint in (("agee", "did you mean 'age'?"), ("income", "known are: age, bmi")):
        with pytest.raises(mpc.ConfigError, match=re.escape(f"a column {name!r}, which the rows have not; {hint}")) as caught:
            rows_of(table, {"bmi": (0, 60), name: (0, 120)})
        shown("ranges= has a column", caught.value)
    assert rows_of(pd.DataFrame(np.ones((2, 2))), {1: (0, 60)}).powers == (20, 6)
    # Of one without an end, the parties learnt the power of a column of zeros.
    for limits in ((0, math.inf), (math.nan, 1), (120, 0), (3, 3), 120, (0, 1, 2), ((0, 1), 2), ("0", "120"), (False, True)):
        with pytest.raises(mpc.ConfigError, match=re.escape("ranges= of column 'bmi' takes two finite numbers")) as caught:
            rows_of(table, {"bmi": limits})
        shown("ranges= of column", caught.value)


def test_a_party_refuses_a_client_that_speaks_for_another(tmp_path):
    served(tmp_path, ("a", "b"))
    config = load_node_config(tmp_path / "a.toml")
    assert not admit(config, History(), JOB, "lab")
    for asker in ("other", "b"):
        with pytest.raises(mpc.ConfigError) as caught:
            admit(config, History(), JOB, asker)
        shown("asks, so the client of the job must be", caught.value)
    (tmp_path / "a.toml").write_text((tmp_path / "a.toml").read_text().replace("clients.lab", "clients.lib"))
    misspelt = load_node_config(tmp_path / "a.toml")
    check_policy(misspelt)
    (fault,) = absent(misspelt)
    shown("the roster has no client", fault)
    assert str(fault).endswith("did you mean 'lab'?")
    with pytest.raises(mpc.PolicyDenied, match="rule `clients`: lab is not on the list"):
        admit(misspelt, History(), JOB, "lab")


async def test_a_status_page_shows_no_client_that_is_not_there(tmp_path):
    served(tmp_path, ("a", "b"))
    for name, peers in (("a", ["b", "dealer"]), ("dealer", ["a", "b"])):
        config = load_node_config(tmp_path / f"{name}.toml")
        watch = Watch(config, mpc.open_node(tmp_path / f"{name}.toml"), None, None)
        assert [contact.member.name for contact in watch.contacts()] == peers
