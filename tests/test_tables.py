"""Tables for people are as wide as their lines, whole where there is less room, and have as many rows as the data."""

from __future__ import annotations

import time

import pytest
import typer.testing
from rich.cells import cell_len

from parties.cli import app
from parties.tables import listing
from tests.audit_logs import filled

JOB = f"{7:032x}"
ROWS = [(JOB, "mean", "for 患者の平均年齢 of [bold]ward[/bold] 3"), (f"{JOB}\n{JOB}", "sum\nvariance", "")]


@pytest.mark.parametrize("width", [50, 60, 200])
def test_a_listing_is_whole_at_any_width(capsys, monkeypatch, width):
    for name, value in {"COLUMNS": str(width), "FORCE_COLOR": "1", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    listing(("job", "protocol", "purpose"), ROWS, ids="job")
    lines = capsys.readouterr().out.splitlines()
    assert len({cell_len(line) for line in lines}) == 1
    assert cell_len(lines[0]) <= width
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    ids, protocols, purposes = zip(*cells, strict=True)
    assert [text for text in ids if text] == [JOB] * 3
    assert "".join(protocols) == "meansumvariance"
    assert "".join(purposes).replace(" ", "") == ROWS[0][2].replace(" ", "")


def test_a_listing_without_rows_has_its_headings(capsys):
    listing(("job", "protocol"), [], ids="job")
    assert "┃ job ┃ protocol ┃" in capsys.readouterr().out


def test_a_listing_writes_no_control_characters(capsys):
    listing(("job", "protocol"), [(JOB, "mean\r\x1b[2Jsum")], ids="job")
    assert r"mean\r\x1b[2Jsum" in capsys.readouterr().out


def seconds(home, *options):
    before = time.process_time()
    assert typer.testing.CliRunner().invoke(app, ["audit", "show", "-c", str(home / "a.toml"), *options]).exit_code == 0
    return time.process_time() - before


def test_to_show_a_log_takes_about_as_long_as_to_read_it(home):
    """A hundred thousand entries, as after a year, are some seconds and not minutes."""
    filled(home, 1500)
    seconds(home)
    assert seconds(home) < 5 * seconds(home, "--json")
