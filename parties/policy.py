"""The policy of this organisation: everything that is not named is denied.

The policy is checked first without data, before this party signs the job, and then on the rows, before any of them is shared.  The texts of
denials stay here: elsewhere the job is only "denied by NAME".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np

from mpc.errors import ConfigError, Disagreement, PolicyDenied
from mpc.membership.toml_text import did_you_mean
from parties.data import Table
from parties.datasets import load
from parties.jobs.endings import UNLIKE
from parties.programs import PROGRAMS, tells_all

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mpc.membership.roster import Roster
    from parties.auditing.history import History, Use
    from parties.config import NodeConfig
    from parties.jobs.job import Task
    from parties.rules import Policy
    from parties.sources.halt import Halt

ANY = "*"


def check_policy(config: NodeConfig) -> None:
    """Raise ConfigError unless every protocol of the policy is one of this version, and all data that it names is declared.

    The members that it names are no reason to refuse it: see `absent`.
    """
    rules = config.rules
    for location, names in (
        (("allow",), rules.allow),
        (("ask",), rules.ask),
        *((("clients", name, "gives"), client.gives) for name, client in rules.clients.items()),
        *((("clients", name, "gets"), client.gets) for name, client in rules.clients.items()),
    ):
        for entry, name in enumerate(names):
            if name not in PROGRAMS:
                text = f"key {'.'.join(location)!r}, entry {entry + 1}: unknown protocol {name!r}; {did_you_mean(name, PROGRAMS)}"
                raise config.rule_fault((*location, entry), text)
    for entry, name in enumerate(rules.ask):
        if name in rules.allow:
            raise config.rule_fault(("ask", entry), f"key 'ask', entry {entry + 1}: {name!r} is in `allow` too; decide for one of them")
    for name, dataset in rules.datasets.items():
        if name not in config.datasets:
            text = f"key 'datasets': the configuration declares no dataset {name!r}; {did_you_mean(name, config.datasets)}"
            raise config.rule_fault(("datasets", name), text)
        for entry, column in enumerate(dataset.columns):
            declared = config.datasets[name].columns
            if column not in declared:
                text = f"key 'datasets.{name}.columns', entry {entry + 1}: unknown column {column!r}; {did_you_mean(column, declared)}"
                raise config.rule_fault(("datasets", name, "columns", entry), text)
    _check_parameters_there(config)


def absent(config: NodeConfig) -> list[ConfigError]:
    """Return one error for each entry of the policy that names nobody of the roster.

    Such an entry allows nothing, since no job has an asker or a receiver outside the roster.  So it must not keep a node from taking a new
    roster, which may be the one that revokes the key of the very member that the entry names.
    """
    rules, roster = config.rules, config.load_roster()
    clients = [member.name for member in roster.members if member.role == "client"]
    people = [*(member.name for member in roster.parties), *clients]
    revoked = {each.name for each in roster.content.revoked}
    named: list[tuple[tuple[str | int, ...], str, str, list[str]]] = [
        ((rule, entry), f"key {rule!r}, entry {entry + 1}: the roster has no party or client", name, people)
        for rule, names in (("receivers", rules.receivers), ("askers", rules.askers))
        for entry, name in enumerate(names or ())
    ]
    named += [(("clients", name), "key 'clients': the roster has no client", name, clients) for name in rules.clients]
    found = []
    for location, what, name, there in named:
        if name not in there:
            who = "a key of that name was revoked" if name in revoked else did_you_mean(name, there)
            text = f"{what} {name!r}, so this allows nothing; remove it here, or a later member of that name is allowed what it says; {who}"
            found.append(config.rule_fault(location, text))
    return found


def _check_parameters_there(config: NodeConfig) -> None:
    for protocol, parameters in config.rules.parameters.items():
        if protocol not in PROGRAMS:
            text = f"key 'parameters': no protocol {protocol!r}; {did_you_mean(protocol, PROGRAMS)}"
            raise config.rule_fault(("parameters", protocol), text)
        for name, values in parameters.items():
            for entry, value in enumerate(values):
                try:
                    PROGRAMS[protocol].value(name, value)
                except ConfigError as fault:
                    text = f"key 'parameters.{protocol}.{name}', entry {entry + 1}: {fault}"
                    raise config.rule_fault(("parameters", protocol, name, entry), text) from None


def admit(config: NodeConfig, history: History, task: Task, asker: str) -> bool:
    """Return whether someone here must approve the job first.

    PolicyDenied names the rule that denies the job, and the column.  ConfigError says what the job lacks.  Disagreement with another
    `asker` means that only the names of categories stand in the job's way.
    """
    rules, roster = config.rules, config.load_roster()
    if task.protocol not in (*rules.allow, *rules.ask):
        allowed = ", ".join((*rules.allow, *rules.ask)) or "nothing"
        _deny("allow", f"{task.protocol!r} is not on the list of {config.name} ({allowed})")
    _check_form(config, roster, task)
    _check_parameters(rules, task)
    _check_client(rules, roster, task, asker)
    columns = own_columns(config, task)
    if task.dataset or not task.given:
        _check_data(config, task, columns)
    _check_people(rules, roster, task, asker)
    check_limits(rules, history, task)
    _check_categories(config, task, columns, asker)
    dataset = rules.dataset(task.dataset)
    return task.protocol in rules.ask or (dataset is not None and dataset.ask)


def check_parties(roster: Roster, task: Task) -> None:
    """Raise ConfigError unless the computing parties, and all receivers but the client, are parties of the roster."""
    for name in (*task.parties, *(name for name in task.to if name != task.told)):
        if name not in roster or roster[name].role != "party":
            hint = did_you_mean(name, [party.name for party in roster.parties])
            msg = f"job of {task.protocol!r}: {name!r} is no party of the roster; {hint}"
            raise ConfigError(msg)


def _deny(rule: str, text: str) -> NoReturn:
    msg = f"rule `{rule}`: {text}"
    raise PolicyDenied(msg, rule)


def _check_form(config: NodeConfig, roster: Roster, task: Task) -> None:
    """Check that this is a job at all, and one of this party."""
    check_parties(roster, task)
    if config.name not in task.parties or not set(task.to) <= set(task.signers):
        msg = f"job of {task.protocol!r}: {config.name} and all receivers must be among its parties {', '.join(task.parties)}"
        raise ConfigError(msg)
    if task.protocol not in PROGRAMS:
        msg = f"{task.protocol!r} is no protocol of this version; `beaver protocols` lists them"
        raise ConfigError(msg)
    PROGRAMS[task.protocol].check(task, len(task.parties))


def _check_parameters(rules: Policy, task: Task) -> None:
    """Check that each parameter has a listed value, even if the job leaves it out."""
    settings = PROGRAMS[task.protocol].settings(task)
    for name, values in rules.parameters.get(task.protocol, {}).items():
        if settings[name] not in values:
            _deny(f"parameters.{task.protocol}.{name}", f"{settings[name]!r} is not on the list ({', '.join(map(repr, values))})")


def _check_client(rules: Policy, roster: Roster, task: Task, asker: str) -> None:
    """Check that a client asks only for itself, and may give and get what it wants to."""
    client = task.client
    if roster[asker].role != "client" and client is None:
        return
    if client is None or client.name != asker or roster[asker].role != "client":
        msg = f'job of {task.protocol!r}: {asker} asks, so the client of the job must be {asker}, with the role "client" in the roster'
        raise ConfigError(msg)
    if asker not in rules.clients:
        _deny("clients", f"{asker} is not on the list")
    for rule, protocols, wanted in (("gives", rules.clients[asker].gives, client.rows), ("gets", rules.clients[asker].gets, task.told)):
        if wanted and task.protocol not in protocols:
            _deny(f"clients.{asker}.{rule}", f"{task.protocol!r} is not on the list ({', '.join(protocols) or 'nothing'})")
    if not task.dataset and client.rows < rules.min_rows:
        _deny("min_rows", f"{asker} gives fewer than {rules.min_rows} rows, and nobody else any")
    if not task.dataset and client.rows < task.pool:
        raise too_few(task)


def _check_data(config: NodeConfig, task: Task, columns: list[str]) -> None:
    rules = config.rules
    if rules.names_datasets and task.dataset not in rules.datasets:
        _deny("datasets", f"{task.dataset!r} is not on the list of {config.name}")
    dataset = config.dataset(task.dataset)
    if not columns:
        wanted = ", ".join(task.columns)
        msg = (
            f"job of {task.protocol!r}: dataset {task.dataset!r} of {config.name} has none of the columns "
            f"{wanted}; name one, or other --parties"
        )
        raise ConfigError(msg)
    for column in columns:
        declared = dataset.unlisted(column) or config.source(task.dataset, column)[0]
        if rules.names_datasets and declared not in rules.datasets[task.dataset].columns:
            _deny(f"datasets.{task.dataset}.columns", f"column {declared!r} is not on the list of {config.name}")


def _check_categories(config: NodeConfig, task: Task, columns: list[str], asker: str) -> None:
    """Check that the categories of the job are listed here.  This comes last, since its Disagreement tells another member that asks."""
    for column in columns:
        name = config.dataset(task.dataset).unlisted(column)
        if name is None:
            continue
        if asker == config.name:
            # `source` refuses the category, as it refuses any column that is not declared.
            config.source(task.dataset, column)
        hint = did_you_mean(column, config.dataset(task.dataset).split(name))
        text = f"describes its columns differently: it asks for {column!r}, which is no category of column {name!r} here; {hint}"
        raise Disagreement(asker, f"{text} Declare the same everywhere.", UNLIKE)


def _check_people(rules: Policy, roster: Roster, task: Task, asker: str) -> None:
    if ANY not in rules.purposes and task.purpose not in rules.purposes:
        listed = ", ".join(repr(text) for text in rules.purposes if text) or "nothing"
        stated = f"the purpose {task.purpose!r} is not on the list" if task.purpose else "a job must state its purpose with --purpose"
        _deny("purposes", f"{stated} ({listed})")
    if rules.askers is not None and asker not in rules.askers:
        _deny("askers", f"{asker} is not on the list")
    for name in task.receivers:
        if rules.receivers is not None and name not in rules.receivers:
            _deny("receivers", f"{name} would get the result and is not on the list")
    for name in task.parties if tells_all(task.protocol, task.given) else ():
        if rules.receivers is not None and name not in rules.receivers:
            _deny("receivers", f"{name} would learn what {task.protocol!r} reveals to every party and is not on the list")
    if rules.rosters is not None and roster.digest.hex() not in rules.rosters:
        _deny("rosters", f"the roster with digest {roster.digest.hex()} is not on the list")
    if len(task.parties) < rules.min_parties:
        _deny("min_parties", f"{len(task.parties)} take part, fewer than {rules.min_parties}")


def check_limits(rules: Policy, history: History, task: Task) -> None:
    """Raise PolicyDenied if as many jobs have run as may.  Counted from the audit log, so a restart forgets none."""
    dataset = rules.dataset(task.dataset)
    day = "jobs started within the last 24 hours"
    if rules.max_jobs_per_day is not None and history.within_a_day() >= rules.max_jobs_per_day:
        _deny("max_jobs_per_day", f"{rules.max_jobs_per_day} {day}")
    if dataset is None:
        return
    if dataset.max_jobs_per_day is not None and history.within_a_day(task.dataset) >= dataset.max_jobs_per_day:
        _deny(f"datasets.{task.dataset}.max_jobs_per_day", f"{dataset.max_jobs_per_day} {day}")
    if dataset.max_jobs_ever is not None and history.ever(task.dataset) >= dataset.max_jobs_ever:
        _deny(f"datasets.{task.dataset}.max_jobs_ever", f"{dataset.max_jobs_ever} jobs started since the audit log began")


def check_difference(rules: Policy, history: History, use: Use) -> None:
    """Raise PolicyDenied if the rows of an earlier job differ by only a few: whoever gets both results could subtract them."""
    dataset = rules.dataset(use.dataset)
    if dataset is None or dataset.min_difference is None:
        return
    for earlier in history.near(use, dataset.min_difference):
        who = ", ".join(sorted(use.learners & earlier.learners))
        _deny(
            f"datasets.{use.dataset}.min_difference",
            f"its rows are fewer than {dataset.min_difference} more or less than those of job {earlier.job}, of which {who} learned, too",
        )


class Rows(NamedTuple):
    """This party's rows for a job, and how many of them its result is made of."""

    table: Table
    counted: int


def rows_for(config: NodeConfig, task: Task, halt: Halt | None = None) -> Rows:
    """Return the data for a job that everyone signed.  Raises PolicyDenied or ConfigError if it is not enough, or not right.

    There are no rows if only a client gives any.  `halt` may end the reading.
    """
    if not task.dataset:
        return Rows(Table(list(task.columns), np.zeros((0, len(task.columns)))), 0)
    table = load(config, task.dataset, own_columns(config, task), aligned=task.by_columns, halt=halt)
    rules = config.rules
    if len(table.rows) < rules.min_rows:
        _deny("min_rows", f"dataset {task.dataset!r} of {config.name} has fewer than {rules.min_rows} rows")
    program = PROGRAMS[task.protocol]
    contributing = program.contributing(table, task)
    for what, rows in program.told_apart(contributing, task):
        if rows < rules.min_rows:
            _deny("min_rows", f"in dataset {task.dataset!r} of {config.name} fewer than {rules.min_rows} rows {what}")
    # Where columns are split, all parties have the same records, so the rows of one are those of all.
    if task.by_columns and len(table.rows) < task.pool:
        raise too_few(task)
    return Rows(table, len(contributing.rows))


def least_pool(rules: Policy, task: Task) -> int:
    """Return how many rows this party wants all parties of the job to have together, before it shares any."""
    program = PROGRAMS.get(task.protocol)
    # A model has one coefficient for every column but its target, and an intercept.
    fits = program is not None and any(setting.name == "target" for setting in program.parameters)
    return rules.least_pool(len(task.columns) if fits else 0)


def too_few(task: Task) -> PolicyDenied:
    """The denial of a job whose parties have too few rows together.  It names the job's own limit, so all parties give the same text."""
    return PolicyDenied(
        f"rule `min_pool_rows`: all parties together have fewer than {task.pool} rows, the most that the policy of one of them asks for",
        "min_pool_rows",
    )


def own_columns(config: NodeConfig, task: Task) -> list[str]:
    """Return the job's columns that this party contributes: all; where columns are split, those of its dataset; none without a dataset."""
    if not task.dataset:
        return []
    if not task.by_columns or task.dataset not in config.datasets:
        return list(task.columns)
    settings = config.datasets[task.dataset]
    # The identifier is among them: it is refused where the columns are looked up.
    return [column for column in task.columns if column == settings.identifier or settings.source(column)]


def own_declared(config: NodeConfig, columns: Iterable[str], dataset: str) -> list[str]:
    """Return the declared columns behind `columns` of a job, each once."""
    return list(dict.fromkeys(config.source(dataset, column)[0] for column in columns))


__all__ = [
    "Rows",
    "absent",
    "admit",
    "check_difference",
    "check_limits",
    "check_parties",
    "check_policy",
    "least_pool",
    "own_columns",
    "own_declared",
    "rows_for",
    "too_few",
]
