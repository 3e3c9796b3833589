"""Strangers, and members that misuse names, can neither fill the log of a node nor take the ids of others."""

from __future__ import annotations

import asyncio
import logging

from mpc import BeaverError, PeerLost
from mpc.membership.identity import Identity
from mpc.network import refusals
from mpc.network.mesh import Mesh
from mpc.testing.simulate import MemoryNetwork
from parties.jobs.job import Task
from parties.jobs.records import Records
from tests.channels import CLOCKS, connected, people
from tests.error_rows import row_of
from tests.test_node_jobs import Tcp, total
from tests.waiting import until

SCANNED = ("as a scan of ports",)
"""Rows of docs/errors.md that this file provokes."""


async def knock(address, number=0):
    """Send rubbish to a port until the other side closes; the rubbish differs for each number."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(bytes([number]) + b"ET / HTTP/1.1\r\n\r\n")
    while await reader.read(1 << 16):
        pass
    writer.close()


def refused_at(caplog, name):
    """The lines of refused links in the log of this member."""
    return [line for record in caplog.records if record.name == f"beaver.{name}" and "refused" in (line := record.getMessage())]


async def test_a_log_has_few_lines_of_many_strangers(caplog):
    members, many = Tcp(2), 3 * refusals.LINES

    with caplog.at_level(logging.INFO):
        async with members.nodes() as (*parties, _):
            for number in range(many):
                await knock(members.addresses["p0"], number)
            await until(lambda: len(refused_at(caplog, "p0")) >= refusals.LINES)
            assert [value for value, _ in await asyncio.gather(*(total(node, "j") for node in parties))] == [2.0, 2.0]
            assert len(refused_at(caplog, "p0")) == refusals.LINES
            assert all("link refused: " in line for line in refused_at(caplog, "p0"))
        # Closing, at the latest, says how many there were.
        assert refused_at(caplog, "p0")[refusals.LINES :] == [
            (
                f"phase=handshake {many - refusals.LINES} more links were refused within a minute, "
                f"beside the {refusals.LINES} that are told one by one"
            )
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
    for number in range(refusals.LINES + 5):
        told.tell(BeaverError(f"who {number}"))
    assert len(lines) == refusals.LINES
    await until(lambda: len(lines) > refusals.LINES)
    assert lines[-1].startswith("5 more links were refused")
    told.tell(BeaverError("who"))
    assert lines[-1] == "link refused: who"
    told.close()
    assert len(lines) == refusals.LINES + 2


async def hang_up(address):
    """Connect and hang up, as a health check does."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write_eof()
    while await reader.read(1 << 16):
        pass
    writer.close()


async def test_a_check_of_health_takes_one_line_however_often_it_comes(caplog):
    members, many = Tcp(2), 3 * refusals.LINES

    async with members.nodes() as (*parties, _):
        for _ in range(many):
            await hang_up(members.addresses["p0"])
        # What comes from the same address for another reason is told, and later than all of these.
        await knock(members.addresses["p0"])
        await until(lambda: "announced a frame" in caplog.text)
        assert [("without a word" in line, "announced a frame" in line) for line in refused_at(caplog, "p0")] == [
            (True, False),
            (False, True),
        ]
        assert [value for value, _ in await asyncio.gather(*(total(node, "j") for node in parties))] == [2.0, 2.0]
    assert refused_at(caplog, "p0")[2:] == [
        f"phase=handshake {many - 1} more links were refused for what was told of their addresses before"
    ]


async def test_the_same_of_one_address_is_told_again_after_a_long_time_with_a_count(monkeypatch):
    lines = []
    told = refusals.Refusals(lines.append)

    def knocks(*ports, host="10.0.0.1"):
        for port in ports:
            told.tell(PeerLost(f"tcp {host}:{port}", "hung up"))

    knocks(1, 2, 3)
    # Others are told meanwhile, and so is another reason.
    knocks(4, host="10.0.0.2")
    told.tell(PeerLost("tcp 10.0.0.1:5", "said nothing"))
    monkeypatch.setattr(refusals, "QUIET", 0.0)
    knocks(6)
    assert lines == [
        "link refused: tcp 10.0.0.1:1: hung up",
        "link refused: tcp 10.0.0.2:4: hung up",
        "link refused: tcp 10.0.0.1:5: said nothing",
        "link refused: tcp 10.0.0.1:6: hung up (2 times more since this was told last)",
    ]
    told.close()
    assert len(lines) == 4


async def test_what_a_member_is_refused_for_is_told_again_once_it_was_let_in():
    lines = []
    told = refusals.Refusals(lines.append)
    for name in ("a", "b", "a"):
        told.tell(PeerLost(name, "has another roster"))
    told.let_in("a")
    for name in ("a", "b", "a"):
        told.tell(PeerLost(name, "has another roster"))
    assert lines == [f"link refused: {name}: has another roster" for name in "aba"]
    told.close()


async def test_an_impostor_is_told_again_once_the_member_itself_was_there(caplog):
    (a, b), roster = people("a", "b")
    network, impostor = MemoryNetwork(), Identity.generate("a")

    def told():
        return [each for each in caplog.records if each.name == "beaver.b" and "link refused: a: uses another key" in each.getMessage()]

    async with Mesh(b, roster, network.of("b"), CLOCKS) as mesh:
        for number in (1, 2):
            async with Mesh(impostor, roster, network.of("a"), CLOCKS):
                await until(lambda number=number: len(told()) == number)
            async with Mesh(a, roster, network.of("a"), CLOCKS):
                await connected(mesh, "a")


async def test_what_is_kept_of_refusals_is_limited(monkeypatch):
    monkeypatch.setattr(refusals, "LINES", 1000)
    monkeypatch.setattr(refusals, "MOST", 10)
    lines = []
    told = refusals.Refusals(lines.append)
    for number in range(100):
        told.tell(PeerLost("tcp 10.0.0.1:1", f"said {number}"))
    assert (len(lines), len(told._known)) == (100, 10)
    told.close()


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
