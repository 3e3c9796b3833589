"""The dealer on the wire: bytes per party, nothing of the inputs, one name for each range (invariants 7, 11, 12)."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections import Counter
from contextlib import AsyncExitStack

import numpy as np
import pytest

import mpc
import protocols
from mpc import Node, protocol
from mpc.channels.flow import Flow
from mpc.framing import wire
from mpc.ledger import Ledger
from mpc.messaging.agreed import Agreed
from mpc.messaging.job import describe
from mpc.messaging.sinks import Store
from mpc.naming.correlations import Relation, receiver
from mpc.naming.expressions import Range, combine, mask, stack
from mpc.naming.scope import current
from mpc.network.mesh import Clocks
from mpc.preprocessing.dealing import DealerSession
from mpc.preprocessing.memory_budget import MemoryBudget
from mpc.ring import count
from mpc.testing.simulate import MemoryNetwork, simulated_roster

CLOCKS = Clocks(join=10.0, lost=10.0, stall=10.0)


async def with_nodes(n, program, watch=None):
    """Run the program at n real nodes; `watch` hears what the dealer's node hears."""
    identities, roster = simulated_roster(n)
    network = MemoryNetwork()
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(Node(identity, roster, network.of(identity.name), clocks=CLOCKS)) for identity in identities
        ]
        dealer = nodes[-1].mesh
        if watch is not None:
            dealer.subscribe(watch)

        async def party(node):
            async with node.session("j") as s:
                return await program(s, dealer)

        return await asyncio.gather(*(party(node) for node in nodes[:n]), return_exceptions=True)


@pytest.fixture
def dealt(monkeypatch):
    """Payload bytes that the dealer's session hands to its channels, per party, as they are sent."""
    sent = {}
    flows = {}
    serve, send = DealerSession.serve, Flow.send

    async def noted_serve(self):
        flows.update({flow: name for name, flow in self._agreed.flows.items()})
        await serve(self)

    def noted_send(self, tag, digest, data):
        if self in flows:
            sent.setdefault(flows[self], []).append(len(data))
        send(self, tag, digest, data)

    monkeypatch.setattr(DealerSession, "serve", noted_serve)
    monkeypatch.setattr(Flow, "send", noted_send)
    return sent


@pytest.mark.parametrize("n", [2, 3, 4, 5])
async def test_every_product_costs_8_bytes_per_element_at_one_party_and_none_at_the_others(n, dealt):
    rounds = 12

    async def program(s, dealer):
        each = []
        for _ in range(rounds):
            before = {name: sum(dealt.get(name, [])) for name in s.names}
            x = s.input(np.ones((3, 1)) if s.index == 0 else None, 0, (3, 1), bound=4.0)
            y = s.input(np.ones(7) if s.index == 1 else None, 1, (7,), bound=4.0)
            await s.reveal(await mpc.mul(s, x, y))
            each.append([sum(dealt.get(name, [])) - before[name] for name in s.names])
            # Nobody begins the next product while another still counts this one.
            await protocols.secure_sum(s, [1.0])
        return each

    results = await with_nodes(n, program)
    for products in results:
        assert [sorted(product) for product in products] == [[0] * (n - 1) + [8 * 21]] * rounds
    assert sum(map(sum, dealt.values())) == rounds * 8 * 21


async def test_the_wire_of_the_dealer_carries_the_corrections_and_little_else():
    size = 1 << 16

    async def program(s, dealer):
        x, y = (await s.inputs(np.ones(size), bound=4.0))[:2]
        before = [dealer.channel(name).wire_bytes for name in s.names]
        await s.reveal(await mpc.mul(s, x, y))
        return [dealer.channel(name).wire_bytes - old for name, old in zip(s.names, before, strict=True)]

    for spent in await with_nodes(3, program):
        low, middle, high = sorted(spent)
        assert 8 * size <= high <= 8 * size + 64 * (8 * size // (1 << 18) + 1) + 200
        assert low <= middle < 500


class Ears:
    """Everything that reaches the dealer's node: the fields of each control message but for what is random by design."""

    def __init__(self):
        self.heard = Counter()

    def peer_up(self, name):
        pass

    def peer_down(self, name, fault):
        pass

    def control(self, name, body):
        plain = {key: value for key, value in body.items() if key not in {"nonce", "session", "proof", "description"}}
        sizes = {key: len(value) for key, value in body.items() if isinstance(value, bytes)}
        # Which party asks depends on the correction's tag, hence on the session's nonces: who asks is left out, that someone does is not.
        self.heard[str(sorted(plain.items())), str(sizes), "" if body["kind"] == "ask" else name] += 1


async def test_what_the_dealer_hears_is_the_same_for_any_inputs(monkeypatch):
    took = []

    def noted(flow, frame, plain=Flow.on_frame):
        if isinstance(frame, wire.First | wire.More):
            took.append(flow)
        plain(flow, frame)

    monkeypatch.setattr(Flow, "on_frame", noted)

    async def heard(value):
        ears = Ears()
        took.clear()

        async def program(s, dealer):
            xs = await s.inputs(np.full((2, s.index + 1), value), bound=2.0**9)
            for x in xs[1:]:
                masked = await s.mask(x)
                await s.reveal(await mpc.mul(s, masked, masked), to=0)
            await protocols.mean(s, np.full((4, 2), value))
            return list(s._engine.exchange._agreed.flows.values())

        of_parties = [flow for flows in await with_nodes(3, program, ears) for flow in flows]
        assert len(took) > 20
        # The dealer's own flows belong to no party: not one byte of data ever came to them.
        assert all(any(flow is own for own in of_parties) for flow in took)
        return ears.heard

    first = await heard(0.0)
    assert sum(count for (body, *_), count in first.items() if "'ask'" in body) == 2
    assert first == await heard(511.9) == await heard(-1e-6)


@protocol
async def fetched(s, relation):
    exchange, key = s._engine.exchange, relation.key
    target = np.empty(relation.nbytes, np.uint8)
    arrivals = exchange.expect_correction(current(s._ops), exchange.correction_tag(key), key, target.nbytes, Store(target))
    exchange.ask([relation])
    await exchange.arrived(current(s._ops), arrivals, target.nbytes)
    return target.tobytes()


def product(left, right, out):
    """The relation of a product of the masks at (block, shape), shared at block `out`, in any scope."""

    def of(scope):
        factors = [mask(Range(scope, block, shape), *owner) for block, shape, *owner in (left, right)]
        return Relation("value", (), (combine("mul", *factors),), (), Range(scope, out, (count(left[1]),)))

    return of


def received(s, *of):
    """These relations, in a scope where party 0 receives the corrections of them all."""
    exchange = s._engine.exchange
    scopes = ([make(f"7.{number}") for make in of] for number in range(1000))
    return next(relations for relations in scopes if all(receiver(exchange.correction_tag(each.key), s.n) == 0 for each in relations))


LEFT, RIGHT = (0, (4,)), (2, (4,))
FIRST_NAME = product(LEFT, RIGHT, 0)


async def test_the_same_name_gives_the_same_bytes_again():
    async def program(s, dealer):
        if s.index == 0:
            (relation,) = received(s, FIRST_NAME)
            return [await fetched(s, relation) for _ in range(3)]
        return None

    answers = (await with_nodes(3, program))[0]
    assert len(answers) == 3
    assert len(answers[0]) == 32
    assert len(set(answers)) == 1


async def test_masks_in_other_shapes_and_in_several_relations_are_one_mask():
    async def program(s, dealer):
        if s.index == 0:
            return [await fetched(s, relation) for relation in received(s, FIRST_NAME, *FURTHER_NAMES)]
        return None

    assert [len(answer) for answer in (await with_nodes(3, program))[0]] == [32, 32, 32]


FURTHER_NAMES = [product(RIGHT, LEFT, 2), product((0, (2, 2)), (2, (2, 2)), 4)]
SECOND_NAMES = {
    "other factors": product(RIGHT, LEFT, 0),
    "squared": product(LEFT, LEFT, 0),
    "overlap": product(LEFT, RIGHT, 1),
    "a mask of another shape": product((0, (2,)), (2, (2,)), 50),
    "a mask of one word less": product((0, (3,)), (2, (3,)), 50),
    "a mask of another owner": product((*LEFT, 1), RIGHT, 50),
    "part": product((60, (3,)), (62, (3,)), 0),
}


@pytest.mark.parametrize("what", SECOND_NAMES)
async def test_a_second_name_ends_the_session_at_everyone_and_is_never_answered(what):
    got = []

    async def program(s, dealer):
        if s.index == 0:
            first, second = received(s, FIRST_NAME, SECOND_NAMES[what])
            got.append(await fetched(s, first))
            got.append(await fetched(s, second))
        while True:
            await protocols.secure_sum(s, [1.0])

    results = await with_nodes(3, program)
    assert len(got) == 1
    assert [type(result) for result in results] == [mpc.PeerLost] * 3
    for result in results[1:]:
        assert str(result).startswith("p0: sent the-dealer what the wire format does not allow")


async def test_what_a_party_asks_for_ahead_is_held_by_its_name_alone():
    """The relation that a name is parsed into takes up to thirty times as much memory."""
    identities, roster = simulated_roster(2)
    node = Node(identities[-1], roster, MemoryNetwork().of("the-dealer"), clocks=CLOCKS)
    session = DealerSession(Agreed(describe("j", node.mesh, None, ""), bytes(32), {}, {}, {}), node.mesh, Ledger(), MemoryBudget(0))
    masks = [mask(Range("", block, (1,))) for block in range(2000)]
    names = [Relation("value", (), (stack(masks),), (), Range("", block, (2000,))).key for block in range(30)]
    tracemalloc.start()
    try:
        session.control("p0", {"kind": "ask", "session": bytes(32), "relations": names})
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < len(names[0])
    assert not session._over.done()
    session.control("p0", {"kind": "ask", "session": bytes(32), "relations": [["no name"]]})
    with pytest.raises(mpc.PeerMisbehaved, match="p0: asked for a relation that is not defined"):
        await session._over
