"""The output of the demo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table as Grid

from parties.demo.study import TARGET

if TYPE_CHECKING:
    from mpc.membership.members import Transport
    from parties.demo.study import Holding


def report(holdings: dict[str, Holding], result: dict[str, Any], expected: dict[str, Any], transport: Transport) -> None:
    """Print the secure results beside the pooled plaintext, with error, rounds, bytes and seconds."""
    console = Console(width=100)
    names = list(holdings)
    columns = holdings[names[0]].rows.columns
    listed = ", ".join(f"{name} {len(holding.rows.rows)} rows" for name, holding in holdings.items())
    who = "a dealer, four processes" if transport == "tcp" else "a dealer, and a broker (MQTT) at which they meet, five processes"
    console.print(f"Three hospitals and {who}: {listed}.")
    console.print("No hospital saw another's rows. Privacy holds against semi-honest parties; the dealer colludes with nobody.\n")
    coefficients = [*(name for name in columns if name != TARGET), "intercept"]
    split = "; ".join(f"{name}: {', '.join(holding.columns.columns)}" for name, holding in holdings.items())
    tables = {
        "sum": ("secure sum over all rows", columns),
        "mean": ("secure mean over all rows", columns),
        "product": ("secure product of two private values", ["hospital_a's mean bmi x hospital_b's mean bmi"]),
        "by rows": (f"regression of {TARGET}, every hospital with its own patients", coefficients),
        "by columns": (f"regression of {TARGET}, every hospital with some columns of all patients ({split})", coefficients),
    }
    for name, (title, labels) in tables.items():
        console.print(_grid(title, labels, result[name]["value"], expected[name]))
        console.print(_cost(result[name]))
        if name == "product":
            _winner(console, names, result["highest"], expected["highest"])


def _winner(console: Console, names: list[str], measured: dict[str, Any], expected: Any) -> None:
    found, wanted = names[int(measured["value"][0])], names[int(expected[0])]
    console.print(f"hospital with the highest mean {TARGET}, and nothing else of it: {found} (pooled plaintext: {wanted})")
    console.print(_cost(measured))


def _grid(title: str, labels: list[str], values: list[float], expected: Any) -> Grid:
    grid = Grid(title=title, title_justify="left")
    for heading in ("", "secure", "pooled plaintext", "error"):
        grid.add_column(heading, justify="left" if not heading else "right")
    for label, value, plain in zip(labels, values, expected, strict=True):
        grid.add_row(label, f"{value:.6f}", f"{plain:.6f}", f"{abs(value - plain):.1e}")
    return grid


def _cost(measured: dict[str, Any]) -> str:
    return f"rounds {measured['rounds']} · {measured['bytes']} bytes to each peer · {measured['seconds']:.4f} s\n"
