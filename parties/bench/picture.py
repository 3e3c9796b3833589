"""A picture of the times of all workloads."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mpc import ConfigError
from parties.bench.report import seconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from parties.bench.figures import Figures

KINDS = (".svg", ".png")
_ROW = 0.32
_STYLE = {"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 9}


def check(path: Path) -> None:
    """Raise ConfigError unless a picture can be drawn to `path`.  Called before the measurement."""
    if path.suffix.lower() not in KINDS:
        msg = f"{path}: a picture is an .svg or a .png file; give it such a name"
        raise ConfigError(msg)
    if not path.parent.is_dir():
        msg = f"{path}: there is no folder {path.parent} for the picture; make it, or choose another"
        raise ConfigError(msg)
    if find_spec("matplotlib") is None:
        msg = "drawing needs matplotlib: pip install 'beaver-mpc[bench]'"
        raise ConfigError(msg)


def pyplot() -> Any:
    """Return Matplotlib's pyplot, without a screen, and set so that equal figures give equal pictures."""
    matplotlib = import_module("matplotlib")
    matplotlib.use("agg")
    matplotlib.rcParams.update(_STYLE)
    return import_module("matplotlib.pyplot")


def draw(path: Path, measured: Sequence[Figures], title: str) -> None:
    """Draw a bar for every workload, with its spread, and a mark for the best rival or the distance alone."""
    plt = pyplot()
    labels = [f"{each.key}, {each.dimensions}, n = {each.parties}" for each in measured]
    times = [each.reached if each.rtt else each.median for each in measured]
    every = [each.alone if each.rtt else each.seconds for each in measured]
    figure, axes = plt.subplots(figsize=(9, 1.4 + _ROW * len(measured)), layout="constrained")
    spread = [
        [time - min(each) for time, each in zip(times, every, strict=True)],
        [max(each) - time for time, each in zip(times, every, strict=True)],
    ]
    axes.barh(labels, times, xerr=spread, height=0.6, color="0.78", error_kw={"elinewidth": 0.8}, label="beaver, sealed")
    for name, marks in _marks(measured).items():
        axes.plot([mark for _, mark in marks], [labels[row] for row, _ in marks], "|", markersize=11, markeredgewidth=2, label=name)
    for row, time in enumerate(times):
        axes.annotate(seconds(time), (max(every[row]), row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.set_xlabel("seconds, median and spread")
    axes.grid(axis="x", visible=True, linewidth=0.3)
    axes.set_title(title, fontsize=8, loc="left")
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
    plt.close(figure)


def _marks(measured: Sequence[Figures]) -> dict[str, list[tuple[int, float]]]:
    marks: dict[str, list[tuple[int, float]]] = {}
    for row, each in enumerate(measured):
        if each.rtt:
            marks.setdefault("rounds alone", []).append((row, each.travel))
        elif each.rival is not None:
            marks.setdefault(f"{each.rival.name}, recorded{'' if each.rival.sealed else ', plaintext'}", []).append(
                (row, each.rival.seconds)
            )
    return marks
