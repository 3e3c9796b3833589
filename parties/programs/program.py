"""The definition of a program: something that can run as a job, with everything that it promises and everything that it refuses."""

from __future__ import annotations

import itertools
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mpc.errors import ConfigError, PrecisionError
from mpc.membership.toml_text import did_you_mean
from parties.data import Table
from parties.jobs.job import MAX_NAMES, Parameter, Task
from parties.jobs.pool import large_enough
from parties.programs.dry import dry

if TYPE_CHECKING:
    from mpc import AShare, Floats, Plan, Session
    from mpc.ring import Words

Result = dict[str, Any]
"""JSON: numbers, texts and truth values by name.  What there is once for every column is a dict by column."""
Settings = Mapping[str, Any]
Group = tuple[str, int]
"""What some rows of one party have in common, and how many rows these are."""
Body = Callable[["Session", Table, Task, Settings], Awaitable["Result | None"]]

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a name"}
COLUMN, PARTY = "column", "party"
GIVEN_FRAC = 32
"""Fractional bits of the rows that a client gives.  In their units every value is at most 1."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A parameter: its type, its default (None if it must be given), and its allowed values.  `names` says what a text is the name of."""

    name: str
    kind: type[Parameter]
    default: Parameter | None
    help: str
    choices: tuple[str, ...] = ()
    least: float = -math.inf
    most: float = math.inf
    names: str = ""

    @property
    def wants(self) -> str:
        """What a value must be, in words."""
        if self.choices:
            return " or ".join(self.choices)
        if self.names:
            return f"the name of a {self.names}"
        limits = [f"from {self.least}"] * (self.least > -math.inf) + [f"to {self.most}"] * (self.most < math.inf)
        return " ".join([KINDS[self.kind], *limits])

    def parse(self, text: str) -> Parameter:
        """Return the value that is written as `text`."""
        word = text.strip()
        try:
            value: Parameter = {"true": True, "false": False}[word.lower()] if self.kind is bool else self.kind(word)
        except (KeyError, ValueError):
            raise self._refusal(word) from None
        return self.checked(value)

    def checked(self, value: object) -> Parameter:
        """Return the value in the parameter's type.  Raises ConfigError if it has another type or is out of range."""
        if self.kind is float and type(value) is int:
            value = float(value)
        if (
            not isinstance(value, self.kind)
            or isinstance(value, bool) != (self.kind is bool)
            or (self.choices and value not in self.choices)
            or (isinstance(value, int | float) and not (math.isfinite(value) and self.least <= value <= self.most))
        ):
            raise self._refusal(value)
        return value

    def _refusal(self, value: object) -> ConfigError:
        return ConfigError(f"parameter {self.name}={value!r} must be {self.wants}")


def fraction(help_: str = "fractional bits of the numbers: fewer allow larger ones") -> Setting:
    """Return the parameter `frac`."""
    return Setting("frac", int, 20, help_, least=0, most=40)


@dataclass(frozen=True, slots=True)
class OnGiven:
    """How a program runs with a client's rows: its body, the parameters that it takes then, and whether the parties' own rows count too.

    The body gets the client's rows as a share, in units of the job's powers of two.
    """

    body: Callable[[Session, Table, AShare, Task, Settings], Awaitable[Result | None]]
    parameters: tuple[str, ...] = ()
    pools: bool = True


@dataclass(frozen=True, slots=True)
class Program:
    """Something that can run as a job.

    `uses` has the names of the library's functions that it calls.  `tells_all` is whether it reveals something to every party, beyond who
    the receivers are.  `rule` checks several parameters together.  `sample` makes the data of one party for an estimate (None: one row,
    since only its sums enter).  `counting` gives those rows of one party that a result is made of (None: all).  `groups` gives the groups
    of these rows that the result tells apart (None: none).  `irrelevant` gives a value for each parameter that the cost does not depend on.
    """

    name: str
    version: int
    summary: str
    reveals: str
    body: Body
    uses: tuple[str, ...]
    parameters: tuple[Setting, ...] = ()
    at_least: int = 1
    at_most: int = MAX_NAMES
    rule: Callable[[Task, Settings], None] | None = None
    sample: Callable[[Sequence[str], int, Settings], Table] | None = None
    counting: Callable[[Table, Settings], Table] | None = None
    groups: Callable[[Table, Settings], Iterable[Group]] | None = None
    irrelevant: Settings = field(default_factory=dict)
    given: OnGiven | None = None
    tells_all: bool = False

    @property
    def columns(self) -> str:
        """How many columns the program takes, in words."""
        if self.at_least == self.at_most:
            return f"exactly {self.at_least}"
        return f"at least {self.at_least}" + (f", at most {self.at_most}" if self.at_most < MAX_NAMES else "")

    def parse(self, given: Iterable[str]) -> dict[str, Parameter]:
        """Parse parameters written as NAME=VALUE.  Raises ConfigError for one that is unknown, written twice or has a wrong value."""
        found: dict[str, Parameter] = {}
        for text in given:
            name, equals, value = text.partition("=")
            name = name.strip()
            if not equals:
                msg = f"{self.name}: parameter {text!r} must be written NAME=VALUE"
                raise ConfigError(msg)
            if name in found:
                msg = f"{self.name}: parameter {name!r} is given twice; give it once"
                raise ConfigError(msg)
            found[name] = self.value(name, value, written=True)
        return found

    def value(self, name: str, value: Any, *, written: bool = False) -> Parameter:
        """Return the value of the parameter `name`, from `value` or from a text if it is `written`.
        Raises ConfigError if there is no such parameter or it cannot have this value.
        """
        known = {setting.name: setting for setting in self.parameters}
        try:
            if name not in known:
                hint = did_you_mean(name, known) if known else "it has none"
                msg = f"no parameter {name!r}; {hint}"
                raise ConfigError(msg)
            return known[name].parse(value) if written else known[name].checked(value)
        except ConfigError as fault:
            msg = f"{self.name}: {fault}"
            raise ConfigError(msg) from None

    def settings(self, task: Task) -> Settings:
        """Return all parameters of a job, defaults included.  Raises ConfigError for a parameter that does not exist or does not fit."""
        given = {name: self.value(name, value) for name, value in task.parameters.items()}
        settings: dict[str, Any] = {}
        for setting in self.parameters:
            value = given.get(setting.name, setting.default)
            if value is None:
                msg = (
                    f"{self.name}: parameter {setting.name!r} is missing: {setting.wants}, {setting.help}; give it "
                    f"with --set {setting.name}=VALUE"
                )
                raise ConfigError(msg)
            known = {COLUMN: task.columns, PARTY: task.parties}.get(setting.names)
            if known is not None and value not in known:
                msg = (
                    f"{self.name}: parameter {setting.name}={value!r} names no {setting.names} of the job; "
                    f"{did_you_mean(str(value), known)}"
                )
                raise ConfigError(msg)
            settings[setting.name] = value
        return settings

    def contributing(self, table: Table, task: Task) -> Table:
        """Return those of one party's rows that the result is made of."""
        return table if self.counting is None else self.counting(table, self.settings(task))

    def told_apart(self, contributing: Table, task: Task) -> Iterable[Group]:
        """Return the groups of these rows that the result tells apart."""
        return () if self.groups is None else self.groups(contributing, self.settings(task))

    def check(self, task: Task, n: int) -> None:
        """Raise ConfigError, which says what to correct, unless `task` is a job of this program for n parties."""
        for what, names in (("columns", task.columns), ("parties", task.parties), ("receivers", task.to)):
            twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
            if twice is not None:
                msg = f"{self.name}: {twice!r} is named twice among the {what}"
                raise ConfigError(msg)
        if len(task.parties) != n or n < 2:
            msg = (
                f"{self.name}: a job needs two parties or more, and names all: {n} take part, "
                f"{len(task.parties)} are named; correct --parties"
            )
            raise ConfigError(msg)
        if not self.at_least <= len(task.columns) <= self.at_most:
            listed = ", ".join(task.columns) or "none"
            msg = f"{self.name}: takes {self.columns} column(s), not {len(task.columns)} ({listed})"
            raise ConfigError(msg)
        for name in task.to:
            if name not in task.signers:
                msg = f"{self.name}: receiver {name!r} is no party of the job; {did_you_mean(name, task.signers)}"
                raise ConfigError(msg)
        settings = self.settings(task)
        self._check_client(task)
        if self.rule is not None:
            try:
                self.rule(task, settings)
            except ConfigError as fault:
                msg = f"{self.name}: {fault}"
                raise ConfigError(msg) from None

    def _check_client(self, task: Task) -> None:
        if task.client is not None and not task.given and not task.told:
            msg = f"{self.name}: a client gives rows, gets the result, or both; this one does neither"
            raise ConfigError(msg)
        if not task.given:
            return
        if self.given is None:
            msg = f"{self.name}: takes no rows of a client; sum, mean, variance, standard_deviation and linear_regression do"
            raise ConfigError(msg)
        other = next((name for name in task.parameters if name not in self.given.parameters), None)
        if other is not None:
            msg = (
                f"{self.name}: parameter {other!r} is not for rows of a client, which are shared in units of "
                "their columns' ranges; leave it out"
            )
            raise ConfigError(msg)
        if task.dataset and not self.given.pools:
            msg = f"{self.name}: is computed on the rows of a client alone; name no dataset of the parties"
            raise ConfigError(msg)

    async def compute(self, s: Session, table: Table, task: Task, words: Words | None = None) -> Result | None:
        """Run a job with everything it needs requested ahead.

        Every party calls this once its pool is large enough, and so does whoever follows or plans the job.  `words` are this party's share
        of the client's rows.
        """
        given = s.given(words, (task.given, len(task.columns)), frac=GIVEN_FRAC, bound=1.0) if task.given else None
        return await s.run(self.run, table, task, given)

    async def run(self, s: Session, table: Table, task: Task, given: AShare | None = None) -> Result | None:
        """Compute; return the result at the receivers, None elsewhere.  `given` are the shared rows of a client if the job has any.

        `table` has the task's columns in the task's order; where columns are split, it has those that this party has.  Only local maths
        comes before the first reveal, so this may run dry first (`Session.run`).
        """
        self.check(task, s.n)
        settings = self.settings(task)
        expected = [name for name in task.columns if name in table.columns] if settings.get("split") == "columns" else list(task.columns)
        if table.columns != expected or table.rows.shape[1:] != (len(expected),):
            has, wants = ", ".join(table.columns), ", ".join(task.columns)
            msg = f"{self.name}: the data has columns {has}, the job {wants}; pass those of the job, in its order"
            raise ConfigError(msg)
        for number, name in enumerate(table.columns):
            bad = np.flatnonzero(~np.isfinite(table.rows[:, number]))
            if len(bad):
                msg = f"column {name!r}, row {bad[0]} is not a finite number ({len(bad)} such value(s)); mend or drop these rows"
                raise PrecisionError(msg)
        if given is not None and self.given is not None:
            return await self.given.body(s, table, given, task, settings)
        return await self.body(s, table, task, settings)

    def estimate(self, task: Task, n: int, rows: int | Sequence[int], holdings: Sequence[Sequence[str]] | None = None) -> Plan:
        """Return the cost of a job: of its `plans`, the one of the party that sends most."""
        return max(self.plans(task, n, rows, holdings), key=lambda plan: (plan.payload, plan.rounds))

    def plans(
        self,
        task: Task,
        n: int,
        rows: int | Sequence[int],
        holdings: Sequence[Sequence[str]] | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> list[Plan]:
        """Return what a job will do at every party, without data, network or keys.  Raises UnwantedError soon after `wanted` returns False.

        `rows` is how many rows each party has, or a list with one number for each.  Where columns are split, `holdings` lists each party's
        columns; by default the columns are dealt out in their order, as equally as possible.
        """
        self.check(task, n)
        fixed = {name: value for name, value in self.irrelevant.items() if name in task.parameters}
        job = replace(task, parameters={**task.parameters, **fixed})
        settings = self.settings(job)
        counts = [rows] * n if isinstance(rows, int) else list(rows)
        parts = _dealt_out(task, n, settings) if holdings is None else holdings
        if len(counts) != n or len(parts) != n:
            msg = f"{self.name}: an estimate for {n} parties takes rows and columns of each, not of {len(counts)} and {len(parts)}"
            raise ConfigError(msg)
        tables = [
            Table(list(part), np.zeros((1, len(part)))) if self.sample is None else self.sample(part, count, settings)
            for part, count in zip(parts, counts, strict=True)
        ]

        async def as_a_node(s: Session) -> None:
            await large_enough(s, job, counts[s.index])
            await self.compute(s, tables[s.index], job)

        return dry(as_a_node, task.parties, task.told, wanted)


def _dealt_out(task: Task, n: int, settings: Settings) -> list[list[str]]:
    """Return each party's columns where nobody says which it has."""
    if settings.get("split") != "columns":
        return [list(task.columns)] * n
    stops = [len(task.columns) * number // n for number in range(n + 1)]
    return [list(task.columns[start:stop]) for start, stop in itertools.pairwise(stops)]


def by_column(columns: Sequence[str], values: Any) -> dict[str, float]:
    """Return one number for every column."""
    return {name: float(value) for name, value in zip(columns, np.atleast_1d(values), strict=True)}


def units(task: Task) -> Floats:
    """Return the unit of each column of the rows that a client gives."""
    powers = task.client.powers if task.client is not None else ()
    return np.ldexp(1.0, np.array(powers, dtype=np.int64))
