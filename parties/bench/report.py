"""The output of the benchmark."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.table import Table as Grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from parties.bench.figures import Figures

WORTH_COMPARING = 1 << 23
"""Bytes of inputs and outputs below which a process's memory says nothing about them."""


def show(console: Console, measured: Sequence[Figures], machine: dict[str, Any]) -> None:
    """Print times beside the best rival's, and what each workload cost."""
    console.print(line(machine))
    console.print(_distant(measured) if measured[0].rtt else _times(measured))
    console.print(_costs(measured))


def line(machine: dict[str, Any]) -> str:
    """Return the machine in one line."""
    memory = f"{machine['memory'] / 2**30:.0f} GiB, " if machine["memory"] else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {memory}{machine['system']}, Python {machine['python']}, "
        f"numpy {machine['numpy']}, beaver {machine['beaver']}"
    )


def _grid(title: str, caption: str, headings: Sequence[str]) -> Grid:
    grid = Grid(title=title, caption=caption, title_justify="left", caption_justify="left")
    for heading in headings:
        grid.add_column(
            heading, justify="left" if heading in {"workload", "result", "best rival"} else "right", no_wrap=heading != "best rival"
        )
    return grid


def _times(measured: Sequence[Figures]) -> Grid:
    title = "real processes on loopback, sealed, with a dealer process whose work is inside the times"
    caption = (
        "Rivals have a dealer too. CrypTen and SPU are not sealed. All were recorded on a two-core Xeon machine on 2026-11-23, "
        "not in this run: compare on a like machine."
    )
    grid = _grid(title, caption, ("workload", "size", "n", "median", "min .. max", "result", "best rival", "faster"))
    for each in measured:
        rival = each.rival
        known = f"{rival.name} {seconds(rival.seconds)}{' (recorded)' if rival.sealed else ' (recorded, plaintext)'}" if rival else "-"
        grid.add_row(
            *_head(each),
            seconds(each.median),
            _spread(each.seconds),
            result(each),
            known,
            f"{rival.seconds / each.median:.2f}x" if rival else "-",
        )
    return grid


def _distant(measured: Sequence[Figures]) -> Grid:
    title = f"real processes on loopback, sealed, with a dealer process; every round trip takes {measured[0].rtt:g} ms longer"
    caption = "Times end when every party has its result. Rounds alone: what the distance takes, half a round trip each."
    grid = _grid(title, caption, ("workload", "size", "n", "median", "min .. max", "result", "rounds", "rounds alone", "over"))
    for each in measured:
        over = f"{each.reached / each.travel:.2f}x" if each.travel else "-"
        grid.add_row(*_head(each), seconds(each.reached), _spread(each.alone), result(each), f"{each.rounds:,}", seconds(each.travel), over)
    return grid


def _head(figures: Figures) -> tuple[str, str, str]:
    return figures.key, figures.dimensions, str(figures.parties)


def _spread(times: Sequence[float]) -> str:
    return f"{seconds(min(times))} .. {seconds(max(times))}"


def _costs(measured: Sequence[Figures]) -> Grid:
    headings = (
        "workload",
        "size",
        "n",
        "rounds",
        "payload",
        "wire",
        "dealer sends",
        "CPU party",
        "CPU dealer",
        "peak party",
        "peak dealer",
    )
    caption = (
        "Payload and wire: bytes that a party sends in all. CPU: of one run. Peak memory: of the whole process; in brackets what it is "
        "above that before it had any data, as a multiple of inputs and outputs."
    )
    grid = _grid("cost", caption, headings)
    for each in measured:
        grid.add_row(
            each.key,
            f"{each.size:,}",
            str(each.parties),
            f"{each.rounds:,}",
            size(each.payload),
            size(each.wire),
            size(each.dealt),
            seconds(each.party_cpu),
            seconds(each.dealer_cpu),
            f"{size(each.party_memory['peak'])}{f' ({multiple(each):.1f}x)' if each.moved >= WORTH_COMPARING else ''}",
            size(each.dealer_memory["peak"]),
        )
    return grid


def multiple(figures: Figures) -> float:
    """Return a party's peak memory above its memory at the start, as a multiple of its inputs and outputs."""
    return (figures.party_memory["peak"] - figures.party_memory["start"]) / figures.moved


def result(figures: Figures) -> str:
    """Return whether the result is right, and how far off it is."""
    if not figures.right:
        return f"WRONG by {figures.error:.3g}"
    if not figures.allowed:
        return "exact"
    return f"within {figures.error:.2g}" if figures.error < 1 else f"within {figures.error:.0f} ulp"


def seconds(value: float) -> str:
    """Return a time in the unit that suits it."""
    return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def size(count: float) -> str:
    """Return bytes in the unit that suits them."""
    step = min(int(math.log10(max(count, 1))) // 3, 3)
    return f"{count / 1000**step:.3g} {('B', 'kB', 'MB', 'GB')[step]}"
