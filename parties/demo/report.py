"""What the demo shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table as Grid

if TYPE_CHECKING:
    from parties.data import Table


def report(tables: dict[str, Table], result: dict[str, Any], expected: dict[str, Any]) -> None:
    """The secure results beside the pooled plaintext, with error, rounds, bytes and seconds."""
    console = Console(width=100)
    holdings = ", ".join(f"{name} {len(table.rows)} rows" for name, table in tables.items())
    console.print(f"Three hospitals and a dealer, four processes: {holdings}.")
    console.print("No hospital saw another's rows. Privacy holds against semi-honest parties; the dealer colludes with nobody.\n")
    columns = next(iter(tables.values())).columns
    for name in ("sum", "mean"):
        console.print(_grid(f"secure {name} over all rows", columns, result[name]["value"], expected[name]))
        console.print(_cost(result[name]))
    label = "hospital_a's mean bmi x hospital_b's mean bmi"
    console.print(_grid("secure product of two private values", [label], result["product"]["value"], expected["product"]))
    console.print(_cost(result["product"]))


def _grid(title: str, labels: list[str], values: list[float], expected: Any) -> Grid:
    grid = Grid(title=title, title_justify="left")
    for heading in ("", "secure", "pooled plaintext", "error"):
        grid.add_column(heading, justify="left" if not heading else "right")
    for label, value, plain in zip(labels, values, expected, strict=True):
        grid.add_row(label, f"{value:.6f}", f"{plain:.6f}", f"{abs(value - plain):.1e}")
    return grid


def _cost(measured: dict[str, Any]) -> str:
    return f"rounds {measured['rounds']} · {measured['bytes']} bytes to each peer · {measured['seconds']:.4f} s\n"
