"""A node that starts accepts others once it can answer them, and not before."""

from __future__ import annotations

import asyncio
import contextlib
import threading

from parties import nodes as party_nodes
from parties.auditing.audit import AuditLog
from tests.nodes import PATIENCE, Nodes


async def test_a_job_that_is_proposed_while_a_party_reads_its_audit_log_waits_for_it(tmp_path, monkeypatch):
    read, plain = threading.Event(), AuditLog.open

    def slowly(log):
        assert read.wait(PATIENCE)
        plain(log)

    monkeypatch.setattr(AuditLog, "open", slowly)
    nodes = Nodes(tmp_path)
    await nodes.start("b", "c", "dealer")
    starts = asyncio.create_task(party_nodes.party(tmp_path / "a.toml"))
    try:
        job = await nodes.spawn("run", "sum", "--columns", "age", "--dataset", "patients", "--wait", "10", "-c", "b.toml")
        async with asyncio.timeout(PATIENCE):
            said = b""
            while b"waiting for a" not in said and b"proposed" not in said:
                said += (line := await job.stderr.readline())
                assert line, said
            read.set()
            _, complaints = await job.communicate()
        assert job.returncode == 0, complaints
    finally:
        read.set()
        starts.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starts
        await nodes.__aexit__()
