"""What a node shows to its operator: metrics for Prometheus and a page for a browser, on loopback.  Never a value, a column or a result."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mpc.node import Node
    from parties.auditing.audit import AuditLog
    from parties.config import NodeConfig
    from parties.jobs.service import Service


@asynccontextmanager
async def shown(config: NodeConfig, node: Node, service: Service | None = None, audit: AuditLog | None = None) -> AsyncIterator[None]:
    """Serve page and metrics while the body runs, if `config` has the table [status].  A dealer has neither service nor audit log.

    Raises ConfigError if the address cannot be used.
    """
    if config.status is None:
        yield
        return
    # Imported only by nodes that have the table.
    from parties.status.metrics import Metrics  # noqa: PLC0415
    from parties.status.page import pages  # noqa: PLC0415
    from parties.status.server import serve  # noqa: PLC0415
    from parties.status.watch import Watch  # noqa: PLC0415

    async with Watch(config, node, service, audit) as watch, serve(config.status.endpoint, pages(watch, Metrics(watch)), node.mesh.log):
        yield


__all__ = ["shown"]
