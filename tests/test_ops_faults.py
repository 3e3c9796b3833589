"""Shapes, names or corrections that do not belong together end the session before a value is used (invariants 10, 12)."""

from __future__ import annotations

import numpy as np
import pytest

import mpc
from mpc import OPS, Disagreement, PeerLost, PeerMisbehaved
from mpc.canonical import pack_sequence as pack
from mpc.naming.correlations import Relation, receiver
from mpc.naming.expressions import Expression, Range, mask, scale
from mpc.naming.streams import Seed
from mpc.network.mesh import Clocks
from mpc.preprocessing import dealing
from mpc.preprocessing.bindings import Bindings
from mpc.preprocessing.dealing import DealerSession
from mpc.testing import simulate
from tests.references import CASES, form_of, masked, shared, shared_bits, values_for

REMOTE = (Disagreement, PeerMisbehaved, PeerLost)
CLOCKS = Clocks(join=10.0, lost=10.0, stall=10.0)


async def operands_of(s, name, shapes, forms):
    case = CASES[name]
    words = [values_for(case, at, shape, 1) for at, shape in enumerate(shapes)]
    return [await form(s, value, 1 + 2 * at) for at, (form, value) in enumerate(zip(forms, words, strict=True))]


def other_shapes(name):
    """Two lists of operand shapes of as many words each."""
    if name.startswith("matmul"):
        return ((2, 3), (3, 4)), ((4, 3), (3, 2))
    if name == "dot":
        return ((6,), (6,)), ((12,), (12,))
    return tuple(tuple(shape for _ in CASES[name].kinds) for shape in ((2, 6), (6, 2)))


@pytest.mark.parametrize("form", [0, 1])
@pytest.mark.parametrize("name", OPS)
def test_another_shape_at_one_party(name, form):
    """Products of masked values need no opening, so the reveal finds what the op could not."""
    revealed, faults = [], []

    async def program(s):
        shapes = other_shapes(name)[s.index == 1]
        try:
            operands = await operands_of(s, name, shapes, [form_of(kind, form) for kind in CASES[name].kinds])
            revealed.append(await s.reveal(await OPS[name].call(s, *operands, *CASES[name].parameters)))
        except REMOTE as fault:
            faults.append(fault)
            raise

    with pytest.raises(REMOTE):
        simulate(3, program, clocks=CLOCKS)
    assert revealed == []
    assert len(faults) == 3
    assert any(isinstance(fault, Disagreement | PeerMisbehaved) or "different program" in str(fault) for fault in faults)


OTHER_PARAMETERS = {"trunc": (19,), "mul_trunc": (8,), "matmul_trunc": (16,), "scale": (1.25, 4)}


@pytest.mark.parametrize("name", OTHER_PARAMETERS)
def test_another_parameter_at_one_party(name):
    revealed = []

    async def program(s):
        operands = await operands_of(s, name, CASES[name].shapes[2], [masked] * len(CASES[name].kinds))
        parameters = OTHER_PARAMETERS[name] if s.index == 1 else CASES[name].parameters
        revealed.append(await s.reveal(await OPS[name].call(s, *operands, *parameters)))

    with pytest.raises(REMOTE):
        simulate(3, program, clocks=CLOCKS)
    assert revealed == []


OTHER_OPERANDS = {
    "another row": lambda x: x[1:3],
    "backwards": lambda x: x[::-1][:2],
    "doubled": lambda x: (x + x)[:2],
    "negative": lambda x: -x[:2],
    "shifted by a constant": lambda x: x[:2] + 1,
}


@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("what", OTHER_OPERANDS)
def test_another_operand_of_the_same_shape_at_one_party(what, is_masked):
    revealed = []

    async def program(s):
        x = shared(s, np.arange(5, dtype=np.uint64), 1)
        x = await s.mask(x) if is_masked else x
        y = OTHER_OPERANDS[what](x) if s.index == 1 else x[:2]
        revealed.append(await s.reveal(await mpc.square(s, y)))

    with pytest.raises(REMOTE):
        simulate(3, program, clocks=CLOCKS)
    assert revealed == []


def test_operands_in_another_order_at_one_party():
    revealed = []

    async def program(s):
        x, y = shared(s, np.arange(3, dtype=np.uint64), 1), shared(s, np.arange(3, dtype=np.uint64), 3)
        left, right = (y, x) if s.index == 0 else (x, y)
        revealed.append(await s.reveal(await mpc.mul(s, left, right)))

    with pytest.raises(REMOTE):
        simulate(2, program, clocks=CLOCKS)
    assert revealed == []


# Corrections


async def two_products(s, used):
    """Two products one after the other; what came of the first is noted when it can be used."""
    x = await s.mask(shared(s, np.arange(8, dtype=np.uint64), 1))
    for _ in range(2):
        used.append((s.index, await mpc.square(s, x)))
    return await s.reveal(used[-1][1])


def shorter(monkeypatch):
    plain = dealing.correction
    monkeypatch.setattr(dealing, "correction", lambda *arguments: plain(*arguments)[:-8])


def longer(monkeypatch):
    plain = dealing.correction
    monkeypatch.setattr(dealing, "correction", lambda *arguments: np.concatenate([plain(*arguments), np.zeros(8, np.uint8)]))


def of_another_relation(monkeypatch):
    """A correction under the right tag that names another relation."""
    plain = dealing.correction_digest
    monkeypatch.setattr(dealing, "correction_digest", lambda tag, key: plain(tag, key + b"another"))


def of_another_tag(monkeypatch):
    plain = dealing.correction_digest
    monkeypatch.setattr(dealing, "correction_digest", lambda tag, key: plain(tag[:-1] + bytes([tag[-1] ^ 1]), key))


@pytest.mark.parametrize("spoil", [shorter, longer, of_another_relation, of_another_tag], ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("planned", [True, False])
def test_a_wrong_correction_is_never_used(spoil, planned, monkeypatch):
    spoil(monkeypatch)
    used = []

    async def program(s):
        await (s.run(two_products, used) if planned else two_products(s, used))

    with pytest.raises(Disagreement, match="the-dealer"):
        simulate(2, program, clocks=CLOCKS)
    # The receiver of the first correction never had a product.
    real = [(index, share) for index, share in used if share.home.session != b"dry run"]
    assert {index for index, _ in real} != {0, 1}


def test_swapped_tags_are_a_disagreement(monkeypatch):
    """Two corrections of one size to one party, each under the tag of the other."""
    tags, plain, used = [], DealerSession._tag, []

    def swapped(self, relation, index, name):
        tags.append(plain(self, relation, index, name))
        return tags[-1]

    async def answer(self, index, name):
        flow, pair = self._agreed.flows[name], []
        seeds = [Seed(self._agreed.seeds[party]) for party in self._agreed.job.parties]
        while len(pair) < 2:
            relation = dealing.unpack_relation(await self._asks[name].get(), name)
            pair.append((self._tag(relation, index, name), relation))
        (first, one), (second, other) = pair
        for tag, relation in ((first, other), (second, one)):
            flow.send(tag, dealing.correction_digest(tag, relation.key), dealing.raw(dealing.correction(relation, seeds, index)))
        await flow.drained()

    monkeypatch.setattr(DealerSession, "_tag", swapped)
    monkeypatch.setattr(DealerSession, "_answer", answer)

    async def squares(s):
        x = await s.mask(shared(s, np.arange(8, dtype=np.uint64), 1))
        # As many as make two for one party certain.
        for _ in range(3):
            used.append((s.index, await mpc.square(s, x)))

    async def program(s):
        await s.run(squares)

    with pytest.raises(Disagreement, match="the-dealer"):
        simulate(2, program, clocks=CLOCKS)
    assert tags


def test_a_correction_under_a_tag_that_nobody_knows_never_arrives(monkeypatch):
    plain = DealerSession._tag
    monkeypatch.setattr(DealerSession, "_tag", lambda *arguments: (tag := plain(*arguments))[:-1] + bytes([tag[-1] ^ 1]))
    used = []

    async def program(s):
        await two_products(s, used)

    # Whoever waits for the dealer finds it late, or who waits for that one does.
    with pytest.raises(PeerLost, match=r"the-dealer: (is alive, but .* did not come within|has not sent what p\d waits for .* for) 0.2 s"):
        simulate(2, program, clocks=Clocks(join=10.0, lost=10.0, stall=0.2))
    assert {index for index, _ in used} != {0, 1}


# What a party may ask


A, B = mask(Range("7", 0, (4,))), mask(Range("7", 2, (6,)))
OUT = Range("7", 0, (4,))
BITS = Range("7", 0, (1,))


def named(kind, parameters, expressions, bits, words):
    """The name of a relation that parties would not write."""
    return pack([kind, parameters, [expression.tree for expression in expressions], bits, ("7", 0, (words,))])


ASKS = {
    "out of another size": named("value", (), (A,), (), 5),
    "a mask of a party that is not there": named("value", (), (mask(Range("7", 0, (4,)), 9),), (), 4),
    "no such kind": named("cube", (), (A,), (), 4),
    "too many expressions": named("value", (), (A, A), (), 4),
    "too few expressions": named("value", (), (), (), 4),
    "bits where none belong": named("value", (), (A,), (BITS,), 4),
    "nothing to drop": named("truncation", (0,), (A,), (), 6),
    "too much to drop": named("truncation", (33,), (A,), (), 6),
    "a quotient of other shapes": named("quotient 1", (20, 20), (A, mask(Range("7", 0, (2, 2))), A), (), 12),
    "a quotient that drops nothing": named("quotient 1", (20, 0), (A, A, A), (), 12),
    "a quotient that dropped too much": named("quotient 1", (33, 20), (A, A, A), (), 12),
    "a quotient of too few": named("quotient 2", (16, 16), (A, A, A), (), 28),
    "products of other shapes": named("products 3", (), (A, A, mask(Range("7", 0, (2, 2)))), (), 12),
    "products of too few": named("products 3", (), (A, A), (), 12),
    "products of too many": named("products 5", (), (A,) * 5, (), 60),
    "some of the products": named("products 3", (), (A, A, A), (), 8),
    "an index from behind": named("value", (), (Expression("index", (-1,), (A,), ()),), (), 1),
    "an index beyond the mask": named("value", (), (Expression("index", (4,), (A,), ()),), (), 1),
    "more rows than there are": named("value", (), (Expression("index", ((0, 5, 1),), (A,), (5,)),), (), 5),
    "rows before the first": named("value", (), (Expression("index", ((2, 4, -1),), (A,), (4,)),), (), 4),
    "an index that takes everything": named("value", (), (Expression("index", ((0, 4, 1),), (A,), (4,)),), (), 4),
    "a shape to be guessed": named("value", (), (Expression("reshape", (2, -1), (A,), (2, 2)),), (), 4),
    "a reshape to the same shape": named("value", (), (Expression("reshape", (4,), (A,), (4,)),), (), 4),
    "axes from behind": named("value", (), (Expression("transpose", (-1,), (A,), (4,)),), (), 4),
    "an axis that is true": named("value", (), (Expression("sum", (False,), (A,), ()),), (), 1),
    "another number of bits": named("choice", (5,), (A,), (BITS,), 10),
    "the AND of too many": named("and 5", (64,), (), (BITS,) * 5, 26),
    "bits of another size": named("and 2", (64,), (), (BITS, Range("7", 1, (2,))), 1),
    "a comparison of nothing": named("sign tree", (0,), (), (Range("7", 0, (0,)),), 0),
    "no chunk": named("sign tree", (16385,), (), (Range("7", 0, (33 * 257,)),), 96 * 257),
}


@pytest.mark.parametrize("what", ASKS)
def test_a_relation_that_is_not_defined_ends_the_session_of_who_asked(what):
    async def program(s):
        if s.index == 0:
            s._engine.exchange._ask([ASKS[what]])
        while True:
            await s.reveal(s.zero(1))

    with pytest.raises(PeerLost):
        simulate(2, program, clocks=CLOCKS)


@pytest.mark.parametrize("most", ["MAX_ASKS", "MAX_ASKED_BYTES"])
def test_who_asks_for_more_than_a_dealer_queues_ends_its_session(most, monkeypatch, caplog):
    monkeypatch.setattr(dealing, most, 60)

    async def program(s):
        if s.index == 0:
            keys = [
                Relation("value", (), (mask(where),), (), where).key for where in (Range(f"7.{number}", 0, (4,)) for number in range(300))
            ]
            mine = [key for key in keys if receiver(s._engine.exchange.correction_tag(key), s.n) == 0]
            # In one message, so that nothing is answered between.
            s._engine.exchange._ask(mine[:61])
        while True:
            await s.reveal(s.zero(1))

    with pytest.raises(PeerLost):
        simulate(2, program, clocks=CLOCKS)
    said = {"MAX_ASKS": "asked for more than 60 correlations, or ", "MAX_ASKED_BYTES": ", or 60 bytes of their names, ahead"}
    assert said[most] in caplog.text


SECOND_NAMES = {
    "another expression": ("value", (), (scale(A, 2),), ()),
    "another kind": ("bit", (4,), (), (BITS,)),
    "an overlapping mask": ("value", (), (mask(Range("7", 1, (4,))),), ()),
    "the same words as the mask of an owner": ("value", (), (mask(Range("7", 0, (4,)), 0),), ()),
    "part of the mask": ("value", (), (scale(mask(Range("7", 0, (2,))), 3),), ()),
}


async def ask_by_receiver(s, relation):
    """Whoever receives the correction asks for it."""
    exchange = s._engine.exchange
    if receiver(exchange.correction_tag(relation.key), s.n) == s.index:
        exchange.ask([relation])
    await s.reveal(s.zero(1))


@pytest.mark.parametrize("what", SECOND_NAMES)
def test_the_dealer_keeps_a_range_to_its_first_name(what):
    kind, parameters, expressions, masks = SECOND_NAMES[what]
    size = 2 if what == "part of the mask" else 4
    apart = Range("7", 50, (size,)) if what not in {"another expression", "another kind"} else OUT

    async def program(s):
        await ask_by_receiver(s, Relation("value", (), (A,), (), OUT))
        await ask_by_receiver(s, Relation(kind, parameters, expressions, masks, apart))
        while True:
            await s.reveal(s.zero(1))

    # Whether one party receives both corrections is drawn anew in each session.
    one, two = (
        "what the wire format does not allow|found p[01] misbehaved",
        "disagrees with p[01] at scope 7: .*, says the-dealer",
    )
    with pytest.raises((PeerLost, Disagreement), match=f"{one}|{two}"):
        simulate(2, program, clocks=CLOCKS)


def test_a_range_without_words_is_in_nobodys_way():
    """The empty range lies where the next one begins, and may be named after that one, too."""
    bindings = Bindings()
    for block, size in ((0, 0), (0, 5), (0, 0), (3, 0), (3, 4), (3, 0), (1, 0)):
        assert bindings.bind("mask", Range("7", block, (size,)), bytes([size]), "p") is None
    assert bindings.bind("mask", Range("7", 4, (1,)), b"", "p") == "p"


# Too much for a name


GROWTH = {
    "too deep": (lambda x, number: x.reshape(2, 2) if x.ndim == 1 else x.reshape(4), 30),
    "too many": (lambda x, _: x + x, 12),
}


@pytest.mark.parametrize("what", GROWTH)
def test_a_name_that_grows_too_large_is_an_error_of_the_program(what):
    grow, times = GROWTH[what]

    async def program(s):
        x = await s.mask(shared(s, np.arange(4, dtype=np.uint64), 1))
        with pytest.raises(mpc.ProgramError, match=r"x\.share\(\)"):
            for number in range(times):
                x = grow(x, number)
                largest = x
        # The largest that has a name can still be used, also in the op that adds most to it.
        again = await s.mask(largest.share())
        products = [await mpc.mul(s, one, one) for one in (largest, again)]
        await mpc.mul_trunc(s, largest, largest, 3)
        return [(await s.reveal(product)).reshape(-1).tolist() for product in products]

    for product, expected in simulate(2, program):
        assert product == expected


def test_bits_are_of_one_session_too():
    async def program(s):
        x = shared_bits(s, np.ones(3, np.uint8), 1)
        y = mpc.BShare(x.words, x.shape, home=mpc.values.shares.Home(s.index, s.n, b"another"), lineage=1)
        with pytest.raises(mpc.ProgramError, match="different sessions"):
            await mpc.and_(s, x, y)

    simulate(2, program)
