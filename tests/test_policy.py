"""Policies deny by default, and name the rule that denies (invariant 26).  test_policy_jobs.py has the cases that take nodes."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from mpc.errors import BeaverError, ConfigError, PolicyDenied
from mpc.membership.roster import Roster
from parties.auditing.history import DAY, History
from parties.config import load_node_config
from parties.jobs.job import Client, Task, unpack_task
from parties.policy import admit, check_policy, least_pool, rows_for, too_few
from tests.error_rows import row_of
from tests.nodes import Nodes

MEAN = Task("mean", "patients", ("age", "bmi"), ("a", "b", "c"))
FIT = Task("linear_regression", "patients", ("age", "bmi", "score"), ("a", "b", "c"), parameters={"target": "score"})
LISTED = '[policy.datasets.patients]\ncolumns = ["age", "bmi"]\n'


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    Nodes(folder)
    text = (folder / "a.toml").read_text()
    (folder / "bare.toml").write_text("\n".join(line for line in text.splitlines() if not line.startswith("allow")))
    return folder


def configured(home, rules, where="table"):
    """a's configuration with a policy, in its own table or in a file of its own."""
    text = (home / "bare.toml").read_text()
    if where == "file":
        (home / "policy.toml").write_text(rules.replace("[policy.", "[").replace("[policy]", ""))
        text = 'policy = "policy.toml"\n' + text
    else:
        text += "\n" + rules
    (home / "configured.toml").write_text(text)
    return load_node_config(home / "configured.toml")


def checked(home, rules, task=MEAN, asker="b", history=None, where="table"):
    """Whether the job is for someone to approve; raises what the policy says."""
    config = configured(home, '[policy]\nallow = ["mean"]\n' + rules, where)
    check_policy(config)
    return admit(config, history or History(), task, asker)


def denial(home, *arguments, **more):
    with pytest.raises(BeaverError) as caught:
        checked(home, *arguments, **more)
    return caught.value


def after(*starts, dataset="patients"):
    """A history with a job so many seconds ago, each."""
    history = History()
    for ago in sorted(starts, reverse=True):
        history.started("0" * 32, dataset, ["age"], time.time() - ago)
    return history


PURPOSES = 'purposes = ["trial-7"]\n'
DENIED = {
    "rule `datasets`: ": ("[policy.datasets]\n", {}),
    "rule `datasets.NAME.columns`": ('[policy.datasets.patients]\ncolumns = ["age"]\n', {}),
    "the purpose 'TEXT' is not on the list": (PURPOSES, {"task": replace(MEAN, purpose="trial-8")}),
    "a job must state its purpose": (PURPOSES, {}),
    "rule `askers`": ('askers = ["a", "c"]\n', {}),
    "reveals to every party": ('ask = ["variance"]\nreceivers = ["a"]\n', {"task": replace(MEAN, protocol="variance", to=("a",))}),
    "would get the result and": ('receivers = ["a", "b"]\n', {}),
    "rule `rosters`": (f'rosters = ["{"0" * 64}"]\n', {}),
    "rule `min_parties`": ("min_parties = 4\n", {}),
    "rule `max_jobs_per_day`": ("max_jobs_per_day = 2\n", {"history": after(10, 20, dataset="other")}),
    "rule `datasets.NAME.max_jobs_per_day`": (LISTED + "max_jobs_per_day = 1\n", {"history": after(10)}),
    "rule `datasets.NAME.max_jobs_ever`": (LISTED + "max_jobs_ever = 1\n", {"history": after(DAY + 10)}),
}
MISTAKES = {
    "is in `allow` too": 'ask = ["sum", "mean"]\n',
    "the configuration declares no dataset": '[policy.datasets.patient]\ncolumns = ["age"]\n',
    "unknown column 'NAME'": '[policy.datasets.patients]\ncolumns = ["agee"]\n',
}
GROUPS = ["fewer than N rows have a weight", "fewer than N rows differ from the rest", "fewer than N rows may be in one step"]
POLICY = [*DENIED, *MISTAKES, *GROUPS, "rule `min_pool_rows`: all", "is the policy's where there is one"]
"""Rows of docs/errors.md that this file provokes."""


def shown(fault, case):
    row = row_of(case)
    assert (type(fault).__name__, row.shows(str(fault))) == (row.kind, True), fault


@pytest.mark.parametrize("where", ["table", "file"])
@pytest.mark.parametrize("case", DENIED)
def test_every_rule_denies_by_its_name(home, case, where):
    rules, more = DENIED[case]
    fault = denial(home, rules, where=where, **more)
    assert isinstance(fault, PolicyDenied)
    shown(fault, case)


@pytest.mark.parametrize("case", MISTAKES)
def test_what_a_policy_names_must_exist(home, case):
    for where, file in (("table", "configured.toml"), ("file", "policy.toml")):
        fault = denial(home, MISTAKES[case], where=where)
        shown(fault, case)
        assert str(fault).startswith(f"{home / file}, line ")


ALLOWED = {
    "nothing more": ("", {}),
    "columns": (LISTED, {}),
    "purpose": (PURPOSES, {"task": replace(MEAN, purpose="trial-7")}),
    "any purpose": ('purposes = ["*"]\n', {"task": replace(MEAN, purpose="whatever")}),
    "no purpose among purposes": ('purposes = ["", "trial-7"]\n', {}),
    "receivers": ('receivers = ["a"]\n', {"task": replace(MEAN, to=("a",))}),
    "askers": ('askers = ["b"]\n', {}),
    "as many parties": ("min_parties = 3\n", {}),
    "one fewer job": ("max_jobs_per_day = 3\n", {"history": after(10, 20, DAY + 1)}),
    "other data": (LISTED + "max_jobs_per_day = 1\nmax_jobs_ever = 1\n", {"history": after(10, dataset="other")}),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_what_is_named_is_allowed(home, case):
    rules, more = ALLOWED[case]
    assert checked(home, rules, **more) is False


def test_nothing_is_allowed_that_is_not_named(home):
    config = configured(home, "[policy]\n")
    with pytest.raises(PolicyDenied, match=r"'mean' is not on the list of a \(nothing\)"):
        admit(config, History(), MEAN, "b")
    assert "'because' is not on the list (nothing)" in str(denial(home, "", task=replace(MEAN, purpose="because")))
    assert str(denial(home, PURPOSES)).endswith("with --purpose ('trial-7')")
    assert "declares no column" in str(denial(home, "", task=replace(MEAN, columns=("age", "weight"))))
    assert "unknown dataset" in str(denial(home, "", task=replace(MEAN, dataset="others")))


def test_protocols_and_datasets_whose_jobs_someone_must_approve(home):
    assert checked(home, 'ask = ["sum"]\n', task=replace(MEAN, protocol="sum")) is True
    assert checked(home, 'ask = ["sum"]\n') is False
    assert checked(home, LISTED + "ask = true\n") is True


def test_rows_of_one_party_and_of_all(home):
    config = configured(home, '[policy]\nallow = ["mean"]\nmin_rows = 21\n')
    with pytest.raises(PolicyDenied, match="rule `min_rows`: dataset 'patients' of a has fewer than 21 rows"):
        rows_for(config, MEAN)
    config = configured(home, '[policy]\nallow = ["mean"]\nmin_rows = 20\nmin_pool_rows = 70\nmax_parameters_per_row = 0.03\n')
    assert len(rows_for(config, MEAN).table.rows) == 20
    # Two coefficients and an intercept want 100 rows; a mean has no parameters.
    assert (least_pool(config.rules, MEAN), least_pool(config.rules, FIT)) == (70, 100)
    # As many whole rows as are enough.
    assert least_pool(config.rules.model_copy(update={"max_parameters_per_row": 0.04}), FIT) == 75
    assert least_pool(config.rules.model_copy(update={"max_parameters_per_row": 0.0399}), FIT) == 76
    split = replace(FIT, parameters={"target": "score", "split": "columns"}, pool=21)
    with pytest.raises(PolicyDenied) as caught:
        rows_for(config, split)
    shown(caught.value, "rule `min_pool_rows`: all")
    assert str(too_few(split)) == str(caught.value)


def test_what_is_no_job_of_this_party_is_refused(home):
    for task, text in (
        (replace(MEAN, parties=("a", "b"), to=("c",)), "a and all receivers must be among its parties a, b"),
        (replace(MEAN, parties=("b", "c")), "a and all receivers must be among its parties b, c"),
        # On no data at all.
        (replace(MEAN, dataset=""), "unknown dataset ''"),
    ):
        with pytest.raises(ConfigError, match=text):
            checked(home, "", task=task)


def grouped(home, task, *columns):
    """The rows of a job on these columns, of which no group may be smaller than three."""
    lines = [",".join(task.columns), *(",".join(map(str, row)) for row in zip(*columns, strict=True))]
    (home / "wards.csv").write_text("\n".join(lines) + "\n")
    declared = "".join(f'"{name}" = {{}}\n' for name in task.columns)
    rules = f'[policy]\nallow = ["mean"]\nmin_rows = 3\n[datasets.wards]\npath = "wards.csv"\n[datasets.wards.columns]\n{declared}'
    return len(rows_for(configured(home, rules), replace(task, dataset="wards")).table.rows)


FLAGS = {
    "one": [1, 0, 0, 0, 0, 0, 0],
    "all but two": [0, 0, 1, 1, 1, 1, 1],
    "two dear ones": [0, 0, 0, 0, 0, 7, 9],
    "coded": [1, 1, 2, 1, 1, 1, 1],
}
AGES = [50, 51, 52, 53, 54, 55, 56]
WEIGHTED = Task("weighted_mean", "wards", ("age", "flag"), ("a", "b"), parameters={"weights": "flag"})


@pytest.mark.parametrize("case", FLAGS)
def test_a_small_group_of_rows_is_not_told_apart(home, case):
    fit = replace(WEIGHTED, protocol="linear_regression", parameters={"target": "age"})
    few_weights = case in ("one", "two dear ones")
    # A product of two columns is the same whichever is the weight.
    for task, row in ((WEIGHTED, GROUPS[not few_weights]), (replace(WEIGHTED, parameters={"weights": "age"}), GROUPS[1]), (fit, GROUPS[1])):
        if task is WEIGHTED and case == "all but two":
            continue
        with pytest.raises(PolicyDenied) as caught:
            grouped(home, task, AGES, FLAGS[case])
        shown(caught.value, row)
    # A mean is of all rows, and so is what no column sets apart.
    assert grouped(home, Task("mean", "wards", ("age", "flag"), ("a", "b")), AGES, FLAGS[case]) == 7


def test_a_step_of_a_descent_has_as_many_rows_as_there_must_be(home):
    def descent(**parameters):
        task = replace(WEIGHTED, protocol="linear_regression", parameters={"target": "age", "solver": "sgd", **parameters})
        return grouped(home, task, AGES, AGES[::-1])

    assert descent() == descent(batch_size=5) == descent(split="columns", batch_size=6) == 7
    for split, batch in (("rows", 4), ("rows", 1), ("columns", 4)):
        with pytest.raises(PolicyDenied) as caught:
            descent(split=split, batch_size=batch)
        shown(caught.value, GROUPS[2])


def test_groups_that_are_large_enough_or_not_there(home):
    for flags in ([1, 0, 0, 1, 0, 0, 1], AGES[::-1]):
        assert grouped(home, WEIGHTED, AGES, flags) == 7
        assert grouped(home, replace(WEIGHTED, protocol="linear_regression", parameters={"target": "age"}), AGES, flags) == 7
    assert grouped(home, replace(WEIGHTED, protocol="linear_regression", parameters={"target": "age"}), AGES, [0] * 7) == 7
    # Those without a weight count for nothing, and who has none gives nothing.
    assert grouped(home, WEIGHTED, AGES, [0, 0, 1, 1, 1, 1, 1]) == 7
    with pytest.raises(PolicyDenied):
        grouped(home, WEIGHTED, AGES, [0] * 7)


def test_the_short_policy_and_the_long_one_exclude_each_other(home):
    configured(home, "[policy]\n")
    (home / "both.toml").write_text('allow = ["mean"]\n' + (home / "configured.toml").read_text())
    with pytest.raises(ConfigError) as caught:
        load_node_config(home / "both.toml")
    shown(caught.value, "is the policy's where there is one")


BAD = {
    "misspelt": ("[policy]\nalow = []\n", "unknown key 'policy.alow'; did you mean 'allow'?"),
    "misspelt below": (
        "[policy.datasets.patients]\ncolums = []\n",
        "unknown key 'policy.datasets.patients.colums'; did you mean 'columns'?",
    ),
    "missing": ("[policy.datasets.patients]\nask = true\n", "key 'policy.datasets.patients.columns' is missing"),
    "type": ('[policy]\nmin_rows = "10"\n', "key 'policy.min_rows': input should be a valid integer"),
    "range": ("[policy]\nmin_parties = 1\n", "key 'policy.min_parties': input should be greater than or equal to 2"),
    "ratio": ("[policy]\nmax_parameters_per_row = 0.0\n", "key 'policy.max_parameters_per_row': input should be greater than 0"),
    "no table": ("policy = 3\n", "key 'policy' must be a table"),
    "no file": ('policy = "nowhere.toml"\n', "nowhere.toml: cannot be read (No such file or directory)"),
}


@pytest.mark.parametrize("case", BAD)
def test_mistakes_of_a_policy(home, case):
    text, message = BAD[case]
    bare = (home / "bare.toml").read_text()
    (home / "bad.toml").write_text(text + bare if text.startswith("policy") else bare + "\n" + text)
    with pytest.raises(ConfigError) as caught:
        load_node_config(home / "bad.toml")
    assert message in str(caught.value)
    if text.startswith("[policy"):
        (home / "policy.toml").write_text(text.replace("[policy.", "[").replace("[policy]\n", ""))
        (home / "bad.toml").write_text('policy = "policy.toml"\n' + bare)
        with pytest.raises(ConfigError) as caught:
            load_node_config(home / "bad.toml")
        assert message.replace("policy.", "") in str(caught.value)
        assert str(caught.value).startswith(f"{home / 'policy.toml'}, line ")


def test_a_rule_that_is_appended_to_a_policy_is_of_its_last_table(home):
    """A policy as `beaver init` writes it ends with `[clients]`, so a rule appended to it would be of that table."""
    (home / "policy.toml").write_text("allow = []\n[clients]\nmax_jobs_per_day = 5\n")
    (home / "bad.toml").write_text('policy = "policy.toml"\n' + (home / "bare.toml").read_text())
    with pytest.raises(
        ConfigError, match=r"line 3: 'max_jobs_per_day' stands in the table \[clients\], .* write it above the first \[table\]$"
    ):
        load_node_config(home / "bad.toml")


def test_a_policys_digest_is_that_of_all_it_says(home):
    digests = [
        configured(home, rules).rules.digest
        for rules in ("", "[policy]\n", "[policy]\nmin_rows = 11\n", '[policy]\nversion = "2"\n', LISTED)
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4
    assert configured(home, LISTED).rules.digest == configured(home, LISTED, "file").rules.digest


def test_a_wrong_date_makes_no_job_forgotten():
    """Jobs of the log count by their dates, those of this process by elapsed time, whatever the clock says for a moment."""
    at = SimpleNamespace(date=1e9, elapsed=5.0)
    history = History(lambda: at.date, lambda: at.elapsed)
    for when in (at.date - 2 * DAY, at.date - DAY / 2, at.date + 99 * DAY):
        history.started("1" * 32, "patients", ["age"], when)
    history.started("2" * 32, "patients", ["age"])
    assert (history.within_a_day("patients"), "has 1 job(s)" in history.warning) == (3, True)
    for jump, count in ((365 * DAY, 1), (-365 * DAY, 4), (0.0, 3)):
        at.date = 1e9 + jump
        assert history.within_a_day("patients") == count, jump
    # A moment before a day has passed, those count that started here, and what a clock that was ahead wrote.
    at.date, at.elapsed = at.date + DAY - 1.0, at.elapsed + DAY - 1.0
    assert history.within_a_day("patients") == 2
    # It has been right ever since: after a day, nothing counts any more, not even what a clock that was ahead wrote.
    at.date, at.elapsed = at.date + 1.0, at.elapsed + 1.0
    assert (history.within_a_day(), history.ever("patients"), history.warning) == (0, 4, "")


def test_a_job_counts_while_its_start_is_written_and_no_more_if_that_fails(home):
    history = History()
    history.started("1", "patients", ["age"])
    for job in ("2", "3"):
        history.starting(job, "patients", ["age"])
    assert (history.within_a_day(), history.within_a_day("patients"), history.within_a_day("others"), history.ever("patients")) == (
        3,
        3,
        0,
        3,
    )
    assert history.overlaps("patients", ["age", "bmi"]) == {"age": {"jobs": 3, "last": "3"}}
    history.unstarted("3")
    history.started("2", "patients", ["age"])
    assert (history.within_a_day(), history.ever("patients")) == (2, 2)
    assert history.overlaps("patients", ["age"]) == {"age": {"jobs": 2, "last": "2"}}


def test_overlaps_are_told_by_column(home):
    history = History()
    assert history.overlaps("patients", ["age"]) == {}
    history.started("1", "patients", ["age", "bmi"])
    history.started("2", "patients", ["bmi"])
    history.started("3", "others", ["bmi"])
    assert history.overlaps("patients", ["age", "bmi", "score"]) == {"age": {"jobs": 1, "last": "1"}, "bmi": {"jobs": 2, "last": "2"}}


@pytest.mark.parametrize(
    "change",
    [
        {"purpose": 1},
        {"purpose": "x" * 257},
        {"purpose": "a\x1b[2Jb"},
        {"purpose": "a\u202eb"},
        {"pool": -1},
        {"pool": True},
        {"pool": 1 << 41},
        {"pool": "1"},
    ],
)
def test_purposes_and_pools_that_are_none(change):
    with pytest.raises(ConfigError):
        unpack_task({**MEAN.pack(), **change})
    assert unpack_task(replace(MEAN, purpose="trial-7", pool=5).pack()) == replace(MEAN, purpose="trial-7", pool=5)


def test_the_roster_that_a_policy_names(home):
    digest = Roster.load(home / "roster.toml").digest.hex()
    assert checked(home, f'rosters = ["{digest}"]\n') is False


CLIENT = '[policy]\nallow = ["mean", "sum"]\nmin_rows = 20\n[policy.clients.lab]\ngives = ["mean"]\ngets = ["sum"]\n'


def given(protocol, rows, *, to=("a",), dataset="", **more):
    """A job that lab asks for."""
    return Task(protocol, dataset, ("age",), ("a", "b", "c"), to, client=Client("lab", rows, (7,) if rows else ()), **more)


def test_a_client_does_what_it_is_named_for_with_rows_enough_and_is_no_party(tmp_path):
    """Without nodes, all parties of a job may have one policy, so each limit is tested alone."""
    Nodes(tmp_path, clients=("lab",))
    text = "\n".join(line for line in (tmp_path / "a.toml").read_text().splitlines() if not line.startswith("allow"))
    (tmp_path / "bare.toml").write_text(text)
    config = configured(tmp_path, CLIENT)
    for task in (given("mean", 20), given("mean", 1, dataset="patients"), given("sum", 0, to=("lab",), dataset="patients")):
        assert admit(config, History(), task, "lab") is False
    for task, rule in (
        (given("mean", 19), "min_rows"),
        (given("mean", 29, pool=30), "min_pool_rows"),
        (given("sum", 20), "clients.lab.gives"),
        (given("mean", 20, to=("lab",)), "clients.lab.gets"),
    ):
        with pytest.raises(PolicyDenied) as caught:
            admit(config, History(), task, "lab")
        assert caught.value.rule == rule
    assert admit(config, History(), given("mean", 30, pool=30), "lab") is False
    # Whom the roster calls a party is nobody's client, whatever the policy names.
    posing = replace(given("mean", 20), client=Client("b", 20, (7,)))
    with pytest.raises(ConfigError, match='must be b, with the role "client" in the roster'):
        admit(config, History(), posing, "b")
