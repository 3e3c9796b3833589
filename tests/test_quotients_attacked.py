"""Faults that an attack on products mod 2^128 once found: in views of one element, long loops, planned tasks and requests to the dealer."""

from __future__ import annotations

import asyncio
import gc

import numpy as np
import pytest

import mpc
from mpc.errors import PeerMisbehaved
from mpc.kernels import wide
from mpc.kernels.bits import word_count
from mpc.messaging.tags import correction_tag
from mpc.naming import expressions
from mpc.naming.asked import unpack_relation
from mpc.naming.correlations import MAX_LIFTED, Relation, elements_of, layout_of, receiver
from mpc.naming.expressions import Range
from mpc.ops.chains.lift import Lifting
from mpc.preprocessing.bindings import Bindings
from mpc.preprocessing.dealing import DealerSession
from mpc.preprocessing.plan import Plan
from mpc.testing import simulate
from tests.quotients import CLOCKS, above, exactly, own, times, words_of
from tests.references import opened
from tests.waiting import until

RNG = np.random.default_rng(3)
FACTORS = RNG.uniform(-1.0, 1.0, 6)
VIEWS = {
    "an element in another shape": lambda y: y[2].reshape(1),
    "an element with a new axis": lambda y: y[2][None],
    "an element, transposed": lambda y: y[2].T.reshape(1),
    "an element, whole": lambda y: y[2][...].reshape(1),
    "an element of another shape": lambda y: y.reshape(2, 3)[0, 2].ldexp(1).ldexp(-1)[None],
    "read anew again and again": lambda y: again_and_again(y[2:3]),
}


def again_and_again(y):
    for _ in range(2000):
        y = y.assume_bound(1.0, "the same as before")[:].ldexp(1).ldexp(-1)
    return y


async def begun(s, factors=FACTORS, start=(5.0,)):
    masked = await opened(s, own(s, factors, 1.0, 16))
    value = await mpc.mul_trunc(s, own(s, np.array(start), 101.0, 16), own(s, np.ones(len(start)), 1.0, 16), 16)
    return value.assume_bound(101.0, "the factor is 1"), masked


async def four(s, value, masked, view):
    for _ in range(4):
        value = await times(s, value, view(masked))
    await s.made(value)
    return value


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("planned", [False, True])
def test_views_of_one_element_and_of_many_steps_are_lifted(view, planned):
    async def program(s):
        value, masked = await begun(s)
        product = await (s.run(four, value, masked, VIEWS[view]) if planned else four(s, value, masked, VIEWS[view]))
        return [value.words, masked.share().words, product.words]

    value, masked, product = words_of(simulate(2, program, clocks=CLOCKS))
    assert above(product, exactly((value, *[masked[2:3]] * 4), 64)) <= {0, 1}


def test_a_lifting_that_another_task_has_begun_is_asked_for_once():
    """A task plans to lift what another task lifts before the plan is asked for; a second answer would stay in memory to the end."""

    async def by_number(s, value, masked):
        for number in range(4):
            value = await times(s, value, masked[number : number + 1])
        return value

    @mpc.protocol
    async def part(s, value, masked, planned, late):
        for _ in range(late):
            await asyncio.sleep(0)
        return await s.reveal(await (s.run(by_number, value, masked) if planned else by_number(s, value, masked)))

    async def program(s, late):
        results = []
        for _ in range(4):
            value, masked = await begun(s)
            tasks = (part(s, value, masked, planned, late * delayed) for planned, delayed in ((True, 0), (False, 1), (True, 1)))
            results.append([float(found[0]) for found in await asyncio.gather(*tasks)])
        source, exchange = s._ops.source, s._engine.exchange
        early = exchange._agreed.flows[exchange.dealer]._early
        await until(lambda: not (source._ahead.asks or source._asked or early))
        return results

    for late in range(5):
        for results in simulate(2, lambda s, late=late: program(s, late), seed=late, clocks=CLOCKS):
            assert np.allclose(results, 5.0 * FACTORS[:4].prod(), atol=1e-3)


# The dealer


def numbers(shape, scope):
    return expressions.wide(Range(scope, 0, (*shape, 2)))


def words(shape, scope):
    return expressions.mask(Range(scope, 0, shape))


def asked(kind, parameters, *masks, scope="9"):
    out = Range(scope, 0, (layout_of(kind, elements_of(parameters, masks)).words,))
    return unpack_relation(Relation(kind, parameters, masks, (), out).key, "peer")


class Agreed:
    session = bytes(32)


def of_base(base, scope):
    return asked("quotient 1", (16, 16), base, words(base.shape, f"{scope}.1"), words(base.shape, f"{scope}.2"), scope=scope)


BASES = [numbers((4,), "0"), words((4, 2), "0")]


def test_no_more_is_lifted_than_parties_lift():
    """Integers of Python take the dealer far more memory and time than words."""
    one = (words((1,), "1"), words((1,), "2"))
    assert asked("lift", (), words((MAX_LIFTED,), "0")).nbytes == 24 * MAX_LIFTED
    asked("quotient 1", (16, 16), expressions.index(numbers((MAX_LIFTED,), "0"), ((0, 1, 1),)), *one)
    with pytest.raises(PeerMisbehaved):
        asked("lift", (), words((MAX_LIFTED + 1,), "0"))
    for many in (MAX_LIFTED + 1, 1 << 29):
        with pytest.raises(PeerMisbehaved):
            asked("quotient 1", (16, 16), expressions.index(numbers((many,), "0"), ((0, 1, 1),)), *one)


@pytest.mark.parametrize("order", [1, -1])
def test_one_range_is_never_of_words_and_of_numbers(order):
    """Both are eight words, so that the size alone would not tell them apart."""
    first, second = (of_base(base, str(number)) for number, base in enumerate(BASES[::order], 1))
    session = DealerSession.__new__(DealerSession)
    session._agreed, session._bindings, session._n = Agreed, Bindings(), 1
    session._tag(first, 0, "peer")
    session._tag(first, 0, "peer")
    with pytest.raises(PeerMisbehaved, match="under a second name"):
        session._tag(second, 0, "peer")


@pytest.mark.parametrize("beyond", [(3, 2, 1), (4, 1, 1), (1, 3, -1), (4, 2, -1)])
def test_no_part_of_a_mask_reaches_beyond_it(beyond):
    """Words beyond a mask were once bound to nothing, and may be another mask's."""
    whole = words((4,), "0")
    for within in ((2, 2, 1), (3, 1, 1), (1, 2, -1), (3, 2, -1), 3, 0):
        asked("value", (), expressions.index(whole, (within,)))
    with pytest.raises(PeerMisbehaved):
        asked("value", (), expressions.index(whole, (beyond,)))


@pytest.mark.parametrize("n", [2, 3])
def test_a_mask_is_of_one_of_the_parties(n):
    session = DealerSession.__new__(DealerSession)
    session._agreed, session._bindings, session._n = Agreed, Bindings(), n
    for owner in (n - 1, n):
        own_one = expressions.mask(Range("1", 0, (4,)), owner)
        relation = asked("value", (), own_one, scope=f"9.{owner}")
        index = receiver(correction_tag(Agreed.session, relation.key), n)
        if owner < n:
            session._tag(relation, index, "peer")
        else:
            with pytest.raises(PeerMisbehaved, match="of a party that is not there"):
                session._tag(relation, index, "peer")


def test_bits_that_are_masks_of_one_relation_are_no_part_of_another():
    session = DealerSession.__new__(DealerSession)
    session._agreed, session._bindings, session._n = Agreed, Bindings(), 1

    def bits(number, size):
        rho = Range("1", 0, (word_count(size),))
        return Relation("bit", (size,), (), (rho,), Range(f"9.{number}", 0, (size,)))

    session._tag(bits(1, 640), 0, "peer")
    with pytest.raises(PeerMisbehaved, match="under a second name"):
        session._tag(bits(2, 641), 0, "peer")


def test_integers_are_made_of_what_a_view_shows_alone(monkeypatch):
    """Otherwise a column of a large masked value would take the dealer as long as the whole value, for every product."""
    made, before = [], wide.integers

    def counted(words):
        made.append(words.size // 2)
        return before(words)

    async def program(s):
        value, masked = await begun(s, RNG.uniform(-1.0, 1.0, (4, 1000)), start=(1.0, 2.0, 3.0, 4.0))
        for step in range(2):
            for number in range(4):
                value = await times(s, value, masked[:, 5 * number])
            await s.made(value)
            if not step:
                made.clear()

    monkeypatch.setattr(wide, "integers", counted)
    simulate(2, program, clocks=CLOCKS)
    assert made
    assert max(made) < 1000


@pytest.mark.parametrize("given", ["views", "captured"])
def test_a_plan_lifts_once_for_all_views_that_it_is_given(given, monkeypatch):
    begun_by, before = [], Lifting.__init__

    def counted(self, s, whole, place):
        begun_by.append(s.index)
        before(self, s, whole, place)

    async def four_of(s, value, views):
        for view in views:
            value = await times(s, value, view)
        return value

    async def program(s):
        value, masked = await begun(s)
        views = [masked[number : number + 1] for number in range(4)]
        planned = s.run(four_of, value, views) if given == "views" else s.run(lambda s, value: four_of(s, value, views), value)
        return [value.words, masked.share().words, (await planned).words]

    monkeypatch.setattr(Lifting, "__init__", counted)
    value, masked, product = words_of(simulate(2, program, clocks=CLOCKS))
    assert above(product, exactly((value, *[masked[number : number + 1] for number in range(4)]), 64)) <= {0, 1}
    # In the dry run, and in the real one.
    assert sorted(begun_by) == [0, 0, 1, 1]


def test_a_masked_value_keeps_no_plan_that_it_was_part_of():
    async def program(s):
        value, masked = await begun(s)
        product = await s.run(four, value, masked, lambda y: y[2:3])
        await s.reveal(product)
        gc.collect()
        return masked.shape, sum(isinstance(each, Plan) for each in gc.get_objects())

    assert simulate(2, program, clocks=CLOCKS)[-1] == ((6,), 0)
