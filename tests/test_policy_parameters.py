"""A policy limits the values of a parameter that a job may give, its default among them (invariant 26)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mpc.errors import ConfigError, PolicyDenied
from tests.error_rows import row_of
from tests.jobs import RUN, governed, requested
from tests.test_policy import FIT, checked, denial, home  # noqa: F401  home is a fixture

LISTED = 'ask = ["linear_regression"]\n[policy.parameters.linear_regression]\nsolver = ["exact"]\nalpha = [0, 0.5]\n'
DENIED = "rule `parameters.PROTOCOL.NAME`"
MISTAKES = {
    "key 'parameters': no protocol": ('[policy.parameters.linear_regresion]\nsolver = ["exact"]\n', "did you mean 'linear_regression'"),
    "key 'parameters.PROTOCOL.NAME'": (LISTED.replace("exact", "exakt"), "'exakt' must be exact or sgd"),
}
PARAMETERS = [DENIED, *MISTAKES]
"""Rows of docs/errors.md that this file provokes."""


def fit(**given):
    return replace(FIT, parameters={"target": "score", **given})


@pytest.mark.parametrize("given", [{}, {"solver": "exact"}, {"alpha": 0.5}, {"alpha": 0}, {"alpha": 0.5, "fit_intercept": False}])
def test_what_is_listed_is_allowed(home, given):  # noqa: F811
    assert checked(home, LISTED, fit(**given)) is True
    assert checked(home, LISTED) is False


@pytest.mark.parametrize("where", ["table", "file"])
@pytest.mark.parametrize(
    ("rules", "given", "text"),
    [
        (LISTED, {"solver": "sgd"}, "rule `parameters.linear_regression.solver`: 'sgd' is not on the list ('exact')"),
        (LISTED, {"alpha": 0.25}, "rule `parameters.linear_regression.alpha`: 0.25 is not on the list (0, 0.5)"),
        # Left out, it is what the protocol takes then.
        (LISTED.replace("0, 0.5", "0.25"), {}, "rule `parameters.linear_regression.alpha`: 0.0 is not on the list (0.25)"),
        (
            LISTED.replace('solver = ["exact"]', 'target = ["age"]'),
            {},
            "rule `parameters.linear_regression.target`: 'score' is not on the list ('age')",
        ),
    ],
)
def test_what_is_not_listed_is_denied(home, where, rules, given, text):  # noqa: F811
    fault = denial(home, rules, fit(**given), where=where)
    assert isinstance(fault, PolicyDenied)
    assert (str(fault), row_of(DENIED).shows(text)) == (text, True)


@pytest.mark.parametrize("case", MISTAKES)
def test_a_policy_that_lists_what_no_job_can_have_is_a_mistake(home, case):  # noqa: F811
    rules, text = MISTAKES[case]
    for where, file in (("table", "configured.toml"), ("file", "policy.toml")):
        fault = denial(home, rules, where=where)
        assert isinstance(fault, ConfigError)
        assert (row_of(case).shows(str(fault)), text in str(fault)) == (True, True), fault
        assert str(fault).startswith(f"{home / file}, line ")


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ("alphas = [0]", "linear_regression: no parameter 'alphas'; did you mean 'alpha'"),
        ("alpha = [0, true]", "entry 2: linear_regression: parameter alpha=True must be a number"),
        ("epochs = [1.5]", "entry 1: linear_regression: parameter epochs=1.5 must be a whole number"),
        ("solver = []", "parameters.linear_regression.solver"),
    ],
)
def test_each_name_and_value_is_checked(home, rules, text):  # noqa: F811
    fault = denial(home, f"[policy.parameters.linear_regression]\n{rules}\n")
    assert isinstance(fault, ConfigError)
    assert text in str(fault)


async def test_a_node_denies_a_descent_that_its_policy_leaves_out(tmp_path):
    async with governed(tmp_path, a=LISTED.replace("ask", "allow").replace("alpha = [0, 0.5]\n", "")) as nodes:
        task = FIT.pack() | {"parameters": {"target": "score", "solver": "sgd"}}
        answer = (await requested(nodes, {**RUN, "task": task}, at="b"))[-1]
        assert answer["text"].startswith("a: the job was denied by a; "), answer
        assert f"{DENIED.replace('PROTOCOL.NAME', 'linear_regression.solver')}: 'sgd' is not on the list" in nodes.log("a")
        assert "parameters." not in answer["text"] + nodes.log("b")
        assert "result" in (await requested(nodes, {**RUN, "task": FIT.pack()}, at="b"))[-1]
