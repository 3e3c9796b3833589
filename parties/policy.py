"""What this organisation allows: everything that is not on its list is denied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpc.errors import ConfigError, PolicyDenied
from parties.datasets import load
from parties.programs import PROGRAMS

if TYPE_CHECKING:
    from mpc.roster import Roster
    from parties.config import NodeConfig
    from parties.data import Table
    from parties.job import Task


def admit(config: NodeConfig, roster: Roster, task: Task) -> Table:
    """The data for a job that is allowed here.

    PolicyDenied names the rule; ConfigError says what the job or the data lack.  Nothing of either text leaves this organisation.
    """
    if task.protocol not in config.allow:
        allowed = ", ".join(config.allow) or "nothing"
        msg = f"rule `allow`: {task.protocol!r} is not on the list of {config.name} ({allowed})"
        raise PolicyDenied(msg)
    for name in (*task.parties, *task.to):
        if name not in roster or roster[name].role != "party":
            msg = f"job of {task.protocol!r}: {name!r} is no party of the roster"
            raise ConfigError(msg)
    if config.name not in task.parties or not set(task.to) <= set(task.parties):
        msg = f"job of {task.protocol!r}: {config.name} and all receivers must be among its parties {', '.join(task.parties)}"
        raise ConfigError(msg)
    if task.protocol not in PROGRAMS:
        msg = f"{task.protocol!r} is no protocol of this version; `beaver protocols` lists them"
        raise ConfigError(msg)
    PROGRAMS[task.protocol].check(task, len(task.parties))
    columns = own_columns(config, task)
    if not columns:
        msg = f"job of {task.protocol!r}: dataset {task.dataset!r} of {config.name} has none of the columns {', '.join(task.columns)}"
        raise ConfigError(msg)
    table = load(config, task.dataset, columns)
    if len(table.rows) < config.min_rows:
        msg = f"rule `min_rows`: dataset {task.dataset!r} of {config.name} has fewer than {config.min_rows} rows"
        raise PolicyDenied(msg)
    return table


def own_columns(config: NodeConfig, task: Task) -> list[str]:
    """The job's columns that this party contributes: all, or where columns are split those that its dataset has."""
    if task.parameters.get("split") != "columns" or task.dataset not in config.datasets:
        return list(task.columns)
    return [column for column in task.columns if column in config.datasets[task.dataset].columns]
