"""Strangers and members that misuse names take neither the log of a node nor the ids of others."""

from __future__ import annotations

import asyncio
import logging

from mpc.network import refusals
from parties.jobs.job import Task
from parties.jobs.records import Records
from tests.error_rows import row_of
from tests.test_node_jobs import Tcp, total
from tests.waiting import until

SCANNED = ("as a scan of ports",)
"""Rows of docs/errors.md that this file provokes."""


async def knock(address):
    """Rubbish at a port, until it is closed there."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    while await reader.read(1 << 16):
        pass
    writer.close()


async def test_a_log_has_few_lines_of_many_strangers(caplog):
    members, many = Tcp(2), 3 * refusals.LINES

    def told():
        return [record.getMessage() for record in caplog.records if record.name == "beaver.p0" and "refused" in record.getMessage()]

    with caplog.at_level(logging.INFO):
        async with members.nodes() as (*parties, _):
            for _ in range(many):
                await knock(members.addresses["p0"])
            await until(lambda: len(told()) >= refusals.LINES)
            assert [value for value, _ in await asyncio.gather(*(total(node, "j") for node in parties))] == [2.0, 2.0]
            assert len(told()) == refusals.LINES
            assert all("link refused: " in line for line in told())
        # Closing, at the latest, says how many there were.
        assert told()[refusals.LINES :] == [
            f"phase=handshake {many - refusals.LINES} more links were refused within a minute, beside the {refusals.LINES} that are told one by one"
        ]


async def test_a_scan_of_ports_is_not_told_as_a_wrong_key(caplog):
    members = Tcp(2)
    async with members.nodes() as (*parties, _):
        _, writer = await asyncio.open_connection(*members.addresses["p0"])
        writer.close()
        await until(lambda: "without a word" in caplog.text)
        await asyncio.gather(*(total(node, "j") for node in parties))
    (told,) = (record.getMessage() for record in caplog.records if "without a word" in record.getMessage())
    assert row_of(SCANNED[0]).shows(told.removeprefix("phase=handshake link refused: ")), told
    assert "key" not in told


async def test_the_next_minute_has_lines_again(monkeypatch):
    monkeypatch.setattr(refusals, "MINUTE", 0.05)
    lines = []
    told = refusals.Refusals(lines.append)
    for _ in range(refusals.LINES + 5):
        told.tell(ValueError("who"))
    assert len(lines) == refusals.LINES
    await until(lambda: len(lines) > refusals.LINES)
    assert lines[-1].startswith("5 more links were refused")
    told.tell(ValueError("who"))
    assert lines[-1] == "link refused: who"
    told.close()
    assert len(lines) == refusals.LINES + 2


def test_nobody_spends_the_ids_of_others():
    records, task = Records(), Task("mean", "patients", ("age",), ("a", "b", "c"))
    records.spend("j", "c")
    assert records.spent("j", "c")
    assert not records.spent("j", "b")
    record = records.add("j", task, "b")
    assert all(records.spent("j", name) for name in "abc")
    records.forget(record)
    assert records.spent("j", "c")
    assert not records.spent("j", "b")
