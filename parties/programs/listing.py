"""The output of `beaver protocols`."""

from __future__ import annotations

import json
import shutil
import textwrap
from typing import TYPE_CHECKING, Any

from parties.jobs.job import Parameter, Task
from parties.programs.program import COLUMN, PARTY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from parties.programs.program import Program

PARTIES, ROWS, COLUMNS = 3, 1000, 10
WIDTH = 110
Row = dict[str, Any]


def example(program: Program, n: int = PARTIES, columns: int = COLUMNS) -> Task:
    """Return a job of this program with its defaults, on the number of columns nearest to `columns` that it takes."""
    names = tuple(f"c{number}" for number in range(max(program.at_least, min(columns, program.at_most))))
    parties = tuple(f"p{number}" for number in range(n))
    left = {COLUMN: list(names), PARTY: list(reversed(parties))}
    given: dict[str, Parameter] = {each.name: left[each.names].pop() for each in program.parameters if each.default is None}
    return Task(program.name, "example", names, parties, (), given)


def row(program: Program) -> Row:
    """Return everything about one program, as JSON."""
    task = example(program)
    plan = program.estimate(task, PARTIES, ROWS)
    return {
        "name": program.name,
        "version": program.version,
        "summary": program.summary,
        "reveals": program.reveals,
        "columns": program.columns,
        "parameters": [{"name": each.name, "default": each.default, "wants": each.wants, "help": each.help} for each in program.parameters],
        "example": {
            "parties": PARTIES,
            "rows": ROWS,
            "columns": len(task.columns),
            "rounds": plan.rounds,
            "bytes_to_each_peer": plan.payload,
            "bytes_from_the_dealer": plan.dealer,
            "bytes_of_arrays": plan.peak,
        },
    }


def show(rows: Iterable[Row]) -> None:
    """Print all programs as text."""
    width = min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH)
    print("\n\n".join("\n".join(_lines(each, width)) for each in rows))


def _lines(each: Row, width: int) -> list[str]:
    cost = each["example"]
    figures = (
        f"{cost['rounds']} round(s), {cost['bytes_to_each_peer']:,} bytes to each peer and {cost['bytes_from_the_dealer']:,} from the "
        f"dealer, for {cost['parties']} parties, {cost['columns']} column(s) and {cost['rows']:,} rows each"
    )
    entries = [("computes", each["summary"]), ("reveals", each["reveals"]), ("columns", each["columns"])]
    entries += [("parameter" if not number else "", _parameter(entry)) for number, entry in enumerate(each["parameters"])]
    lines = [f"{each['name']}@{each['version']}"]
    for label, text in [*entries, ("costs", figures)]:
        start = f"  {label:<11}"
        lines += textwrap.wrap(text, width, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False)
    return lines


def _parameter(entry: Row) -> str:
    default = "" if entry["default"] is None else f" [{json.dumps(entry['default'])}]"
    return f"{entry['name']}={default}  {entry['wants']}: {entry['help']}"
