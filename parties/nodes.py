"""The two kinds of node that stay up: a party and the dealer."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import mpc
from mpc.membership.roster import NO_DEALER
from mpc.node import node_of
from parties import control
from parties.auditing.audit import log_of
from parties.config import load_node_config
from parties.door import handler
from parties.jobs.service import Service
from parties.logs import announce
from parties.policy import absent, check_policy
from parties.renewal import Renewal
from parties.run import collect_after_faults, hangups
from parties.status import shown

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from mpc.membership.roster import Roster
    from mpc.node import Node
    from parties.config import NodeConfig
    from parties.rules import Policy


def lasting(settings: NodeConfig, listener: socket.socket | None = None) -> Node:
    """Return a node that stays up, whatever becomes of its jobs.  Call it within a loop."""
    node = node_of(settings, listener)
    collect_after_faults(node.books)
    return node


async def party(config: Path, listener: socket.socket | None = None) -> None:
    """Serve jobs until cancelled."""
    settings, check = load_node_config(config), partial(_check_party, config)
    check(settings)
    node = lasting(settings, listener)
    audit = log_of(settings, node.mesh.roster)
    asked = hangups()
    with node.claimed():
        async with audit, AsyncExitStack() as stack:
            node.mesh.log.info("phase=start the audit log %s has %s", audit.path, audit.head)
            if warning := audit.history.warning:
                node.mesh.log.warning("phase=start %s", warning)
            # Made before anyone connects: a proposal that comes then is answered.
            service = Service(settings, node, audit)
            await stack.enter_async_context(node)
            stack.push_async_callback(service.close)
            await stack.enter_async_context(shown(settings, node, service, audit))
            await stack.enter_async_context(control.serve(control.socket_path(settings), handler(node, service), node.mesh.log))
            announce(settings.name, f"takes jobs ({_allowed(settings.rules)}); stop it with Ctrl-C")
            await Renewal(config, settings, node, check, service.renew).serve(asked)


async def dealer(config: Path, listener: socket.socket | None = None) -> None:
    """Serve correlations until cancelled."""
    settings, check = load_node_config(config), partial(_check_dealer, config)
    check(settings)
    node = lasting(settings, listener)
    asked = hangups()

    async def take(renewed: NodeConfig) -> None:
        node.mesh.follow(renewed.load_roster())

    async with node:
        me = node.mesh.identity.name
        async with shown(settings, node), control.serve(control.socket_path(settings), handler(node), node.mesh.log):
            announce(me, f"serves {len(node.mesh.roster.parties)} parties; stop it with Ctrl-C")
            await Renewal(config, settings, node, check, take).serve(asked)


def _allowed(rules: Policy) -> str:
    kinds = (", ".join(rules.allow), f"once approved here: {', '.join(rules.ask)}" if rules.ask else "")
    return "; ".join(filter(None, kinds)) or "none are allowed"


def _check_party(config: Path, settings: NodeConfig) -> None:
    roster, log = settings.load_roster(), logging.getLogger(f"beaver.{settings.name}")
    check_role(roster, settings.name, config, "party")
    if roster.dealer is None:
        log.warning(NO_DEALER)
    check_policy(settings)
    for fault in absent(settings):
        log.warning("phase=policy %s", fault)


def _check_dealer(config: Path, settings: NodeConfig) -> None:
    check_role(settings.load_roster(), settings.name, config, "dealer")


def check_role(roster: Roster, name: str, config: str | Path, wanted: str) -> None:
    """Raise ConfigError unless `roster` gives the member `name` of the file `config` this role."""
    if roster[name].role != wanted:
        msg = f'{config}: {name} is no {wanted}; its role in the roster must be "{wanted}"'
        raise mpc.ConfigError(msg)
