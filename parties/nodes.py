"""The two kinds of node that stay up: a party and the dealer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import mpc
from parties import control
from parties.audit import log_of
from parties.check import answering
from parties.config import check_policy, load_node_config
from parties.door import handler
from parties.programs import PROGRAMS
from parties.run import outlive_hangups
from parties.service import Service
from parties.status import shown

if TYPE_CHECKING:
    import socket
    from pathlib import Path


async def party(config: Path, listener: socket.socket | None = None) -> None:
    """Serve jobs until cancelled."""
    settings = load_node_config(config)
    node = mpc.open_node(config, listener=listener)
    check_role(node, config, "party")
    check_policy(settings, PROGRAMS, node.mesh.roster)
    audit = log_of(settings, node.mesh.roster)
    outlive_hangups(node.mesh.log)
    async with node, audit:
        node.mesh.log.info("phase=start the audit log %s has %s", audit.path, audit.head)
        service = Service(settings, node, audit)
        try:
            async with (
                shown(settings, node, service, audit),
                control.serve(control.socket_path(settings), answering(node, handler(service))),
            ):
                allowed = ", ".join((*settings.rules.allow, *settings.rules.ask)) or "none are allowed"
                print(f"{settings.name} takes jobs ({allowed}); stop it with Ctrl-C", flush=True)
                await asyncio.Event().wait()
        finally:
            await service.close()


async def dealer(config: Path, listener: socket.socket | None = None) -> None:
    """Serve correlations until cancelled."""
    node = mpc.open_node(config, listener=listener)
    check_role(node, config, "dealer")
    settings = load_node_config(config)
    outlive_hangups(node.mesh.log)
    async with node:
        me = node.mesh.identity.name
        async with shown(settings, node), control.serve(control.socket_path(settings), answering(node)):
            print(f"{me} serves {len(node.mesh.roster.parties)} parties; stop it with Ctrl-C", flush=True)
            await asyncio.Event().wait()


def check_role(node: mpc.Node, config: str | Path, wanted: str) -> None:
    """ConfigError unless the roster gives the member of `node` this role."""
    me = node.mesh.identity.name
    if node.mesh.roster[me].role != wanted:
        msg = f'{config}: {me} is no {wanted}; its role in the roster must be "{wanted}"'
        raise mpc.ConfigError(msg)
