"""Rows of docs/errors.md that a program can provoke, by misuse of protocols, models, ops and shares."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

import mpc
import protocols
from mpc import Node
from mpc.errors import BeaverError
from mpc.testing.simulate import MemoryNetwork, simulated_roster
from protocols import LinearRegression
from tests.error_rows import row_of
from tests.lost_links import each
from tests.references import added_up
from tests.test_ops_misuse import flags, numbers
from tests.test_protocols_edges import fitted

ROWS_OF_X = np.arange(18.0).reshape(9, 2) ** 2
Y = np.arange(9.0)


def fit(s, x=ROWS_OF_X, y=Y, **settings):
    return LinearRegression(**settings).fit(s, x, y)


async def predicted(s, x, **settings):
    """A prediction from weights that nobody has seen."""
    model = await LinearRegression(**settings).fit(s, np.eye(9, 2) + s.index, Y, reveal=False)
    return await model.predict(s, x)


async def predicted_columns(s, columns):
    x = np.random.default_rng(s.index).normal(size=(20, 2))
    model = await LinearRegression(split="columns").fit(s, x, x[:, 0] if s.index == 0 else None, reveal=False)
    return await model.predict(s, np.ones((2, columns)))


def fit_of_columns(s, rows=9, labels=None, **settings):
    x = np.random.default_rng(s.index).normal(size=(rows, 2))
    table = pd.DataFrame(x, labels)
    return LinearRegression(split="columns", **settings).fit(
        s, table.to_numpy() if labels is None else table, x[:, 0] if s.index == 0 else None
    )


async def predicted_alone(s):
    return (await LinearRegression().fit(s, np.eye(9, 2), Y, reveal=False)).predict(np.ones((2, 2)))


async def scored_alone(s, y):
    return (await fitted(s)).score(np.ones((2, 2)), y)


async def predicted_for_other_columns(s):
    model = await fit(s, pd.DataFrame(ROWS_OF_X, columns=["age", "bmi"]))
    return model.predict(pd.DataFrame(ROWS_OF_X, columns=["bmi", "age"]))


async def masked(s):
    return await s.mask(numbers(s, 3))


async def masked_table(s):
    return await s.mask(numbers(s, 2, 3))


async def plus_its_transpose(s):
    return (await masked_table(s)) + (await masked_table(s)).T


async def times_rows_of_different_lengths(s):
    return (await masked_table(s)) * [[1], [2, 3]]


async def scaled_by_half_a_bit(s):
    return (await masked(s)).ldexp(0.5)


async def indexed_by_a_list(s):
    return (await masked(s))[[0, 1]]


async def plus_a_share(s):
    return (await masked(s)) + numbers(s, 3)


async def plus_another_scale(s):
    return (await masked(s)) + (await s.mask(s.zero(3, frac=8)))


async def plus_a_larger_constant(s):
    return (await masked(s)) + np.ones((2, 3))


async def times_an_array(s):
    return (await masked(s)) * np.arange(3)


async def beyond_a_million_deviations(s):
    x = 5e-3 * np.random.default_rng(s.index).normal(size=(20, 1))
    return await LinearRegression(split="columns").fit(s, x + 1e4, x[:, 0] if s.index == 0 else None, to=["p0"])


def shared_rows(s, **settings):
    """A fit of rows that are shared already."""
    x = s.input(ROWS_OF_X / 100 if s.index == 0 else None, 0, (9, 2), frac=32, bound=4.0)
    y = s.input(Y / 9 if s.index == 0 else None, 0, (9,), frac=32, bound=4.0)
    return LinearRegression(split="shared", **settings).fit(s, x, y)


async def scored_by_its_system(s, **settings):
    return await (await fit(s, **settings)).fitted_score(s)


async def how_sure(s, *own, **settings):
    return await (await fit(s, *own, **settings)).standard_errors(s)


def of_three_rows(s):
    rows = slice(s.index, None, 2)
    return how_sure(s, np.array([[0.0, 1.0], [1.0, 3.0], [2.0, 2.0]])[rows], np.array([1.0, 5.0, 2.0])[rows])


def diverging(s):
    """All columns are nearly the same one."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 1)) + 0.3 * rng.normal(size=(600, 20))
    return fit(s, x, x.sum(axis=1), solver="sgd")


async def summed_up(s):
    """A sum of more masked values than a name may list."""
    total = await masked(s)
    for _ in range(300):
        total += await masked(s)
    return total


async def multiplied_far_in(s, depth=120):
    """Three factors, each a sum of as many masked values as it may be, in a call far inside of others."""
    if depth:
        return await mpc.protocol(multiplied_far_in)(s, depth - 1)
    factors = []
    for _ in range(3):
        factors.append(added_up([await s.mask(s.zero(2, frac=4).assume_bound(1.0, "zeros")) for _ in range(126)]))
    return await mpc.mul_trunc(s, await mpc.mul_trunc(s, *factors[:2], 4), factors[2], 4)


@mpc.protocol
async def nothing(s):
    pass


async def far_in(s, depth=350):
    """Each call is the eleventh of the one around it."""
    for _ in range(10):
        await nothing(s)
    return await (mpc.protocol(far_in)(s, depth - 1) if depth else s.reveal(s.zero(1)))


CASES = {
    "rows need weights of shape": lambda s: protocols.weighted_mean(s, [[1.0], [2.0]], [1.0]),
    "weight N is WHAT": lambda s: protocols.weighted_mean(s, [1.0], [-1.0]),
    "leaves no room for numbers beyond": lambda s: protocols.mean(s, [1e-3], frac=100),
    "would be changed beside numbers": lambda s: protocols.secure_sum(s, [Decimal(2**53 + 1), Decimal("0.5")]),
    "or (n,) are needed, not a single number": lambda s: protocols.mean(s, 1.0),
    "have at least 0 fractional bits": lambda s: protocols.mean(s, [1.0], frac=-1),
    "neither side is a share or a masked value": lambda s: protocols.less_than(s, 1.0, 2.0),
    "and the learning rate is positive": lambda s: fit(s, solver="sgd", epochs=0),
    "a prediction from shared weights needs": lambda s: predicted(s, np.ones((2, 2)), moments="secret"),
    "columns and predicts with": lambda s: predicted_columns(s, 3),
    "too far for shared coefficients": lambda s: predicted(s, np.full((1, 2), 1e6)),
    "have standard deviations above": lambda s: fit(s, np.linspace(-3e6, 3e6, 9)[:, None], moments="secret"),
    "sum to more than the ring holds": lambda s: fit(s, ROWS_OF_X * 1e30),
    "there is nothing to fit, unless it is scaled": lambda s: fit(s, y=np.ones(9)),
    "fits with other settings": lambda s: fit_of_columns(s, alpha=1.0 + s.index),
    "its rows are labelled differently": lambda s: fit_of_columns(s, labels=range(s.index, s.index + 9)),
    "every party has one row for each record": lambda s: fit_of_columns(s, rows=9 + s.index),
    "exactly one party passes y": lambda s: LinearRegression(split="columns").fit(s, ROWS_OF_X, Y),
    "LinearRegression has no parameter": lambda s: LinearRegression().set_params(alhpa=1.0),
    "but reveal=False keeps them shared": lambda s: LinearRegression().fit(s, ROWS_OF_X, Y, reveal=False, to=["p0"]),
    "the coefficients are shared, or went to other parties": predicted_alone,
    'split="shared" takes AShares': lambda s: fit(s, split="shared"),
    "the rows of NAME are labelled": lambda s: fit(s, pd.DataFrame(ROWS_OF_X), pd.Series(Y).iloc[::-1]),
    "for X of shape (n, d)": lambda s: scored_alone(s, np.ones((2, 2))),
    "NAME must be numbers": lambda s: fit(s, np.full((9, 2), "x")),
    "fit_intercept=VALUE": lambda s: fit(s, fit_intercept="no"),
    "X, row N, column N is not a finite number": lambda s: fit(s, np.where(ROWS_OF_X == 0, np.nan, ROWS_OF_X)),
    "y, row N is not a finite number": lambda s: fit(s, y=np.where(Y == 0, np.inf, Y)),
    "clip takes public numbers": lambda s: protocols.clip(s, numbers(s, 3), 2.0, 1.0),
    "more than a million standard deviations": beyond_a_million_deviations,
    "logic is on shares of bits": lambda s: mpc.and_(s, flags(s, 3), flags(s, 3), numbers(s, 3)),
    "bits of shapes": lambda s: mpc.and_(s, flags(s, 3), flags(s, 2)),
    "and_ takes two to": lambda s: mpc.and_(s, *[flags(s, 2)] * 5),
    "the shape of what they select": lambda s: mpc.select(s, flags(s, 3), numbers(s, 2)),
    "indexed by integers and slices only": indexed_by_a_list,
    "a masked value and a share": plus_a_share,
    "masked values with N": plus_another_scale,
    "would change the shape": plus_a_larger_constant,
    "must be a number of at least 0": lambda s: fit(s, alpha=-1.0),
    "solver=VALUE is none of": lambda s: fit(s, solver="exakt"),
    'solver="sgd" has no penalty': lambda s: fit(s, solver="sgd", alpha=1.0),
    "X has the columns": predicted_for_other_columns,
    "split columns reveal no moments": lambda s: fit_of_columns(s, moments="secret"),
    "every party passes y for its own rows": lambda s: fit(s, y=None),
    "nobody would compare its names": lambda s: s.inputs(pd.DataFrame(ROWS_OF_X)),
    "cannot be joined": lambda s: mpc.concatenate([numbers(s, 2), s.zero(2, frac=8)]),
    "multiplied by one integer only": times_an_array,
    "a 0-d secret has no pairs": lambda s: numbers(s).pairs(),
    "a bound is a number, 0 or more": lambda s: numbers(s, 3).times(3, -7.0),
    "there are at most N fractional bits": lambda s: s.zero(1, frac=2000),
    "an array has at most N axes": lambda s: numbers(s, *(1,) * 32)[None],
    "a stated bound is a finite number": lambda s: numbers(s, 3).assume_bound(np.inf, "none"),
    "wraps around in a word of 64 bits": lambda s: numbers(s, 3) * 2**63,
    "the value has N fractional bits": lambda s: s.zero(2).add_own(s.encode([1.0, 2.0], frac=8)),
    "the value has shape SHAPE": lambda s: s.zero(2).add_own(s.encode([1.0])),
    "alpha is too large beside": lambda s: shared_rows(s, alpha=1e12),
    "R² from the system": lambda s: scored_by_its_system(s, fit_intercept=False),
    "standard errors need": lambda s: how_sure(s, alpha=1.0),
    "no more rows than coefficients": of_three_rows,
    "the descent diverges": diverging,
    "there is no party N": lambda s: s.party(2),
    "these are for what each party has": lambda s: protocols.mean(s, numbers(s, 3)),
    "a whole number of fractional bits": lambda s: protocols.secure_sum(s, [1.0], frac=20.0),
    "an axis is a number": lambda s: protocols.maximum(s, numbers(s, 3), numbers(s, 3)),
    "largest or smallest element": lambda s: protocols.maximum(s, numbers(s, 0)),
    "is made of too many others": summed_up,
    "what is added has shape": lambda s: mpc.matmul_trunc(s, numbers(s, 2, 2), numbers(s, 2), 20, plus=numbers(s, 3)),
    "too long a name to ask for": multiplied_far_in,
    "takes the session first": lambda s: protocols.mean([1.0]),
    "calls deep, too far in": far_in,
}


BESIDE = [
    ("shapes SHAPE and SHAPE do not", lambda s: mpc.concatenate([numbers(s, 2, 3), numbers(s, 2, 2)])),
    ("shapes SHAPE and SHAPE do not", lambda s: mpc.stack([numbers(s, 2), numbers(s, 3)])),
    ("shapes SHAPE and SHAPE do not", lambda s: protocols.less_than(s, numbers(s, 3), numbers(s, 2))),
    ("shapes SHAPE and SHAPE do not", lambda s: protocols.select(s, flags(s, 3), numbers(s, 3), numbers(s, 2))),
    ("shapes SHAPE and SHAPE do not", lambda s: protocols.clip(s, numbers(s, 3), np.zeros(2), None)),
    ("clip takes public numbers", lambda s: protocols.clip(s, numbers(s, 3), numbers(s, 3), None)),
    ("must be a number of at least 0", lambda s: fit(s, alpha=2.0**40)),
    ("R² from the system", lambda s: scored_by_its_system(s, moments="secret")),
    ("there is no party N", lambda s: protocols.mean(s, [1.0], to=False)),
    ("there is no party N", lambda s: s.reveal(numbers(s, 3), to=[True])),
    ("there is no party N", lambda s: s.input([1.0], owner=0.5)),
    ("there is no party N", lambda s: s.party(None)),
    ("these are for what each party has", lambda s: protocols.secure_sum(s, flags(s, 3))),
    ("these are for what each party has", lambda s: protocols.weighted_mean(s, [1.0], numbers(s, 1))),
    ("a whole number of fractional bits", lambda s: s.input([1.0], s.index, frac="20")),
    ("there are at most N fractional bits", lambda s: protocols.secure_sum(s, [1.0], frac=-2000)),
    ("there are at most N fractional bits", lambda s: protocols.variance(s, [1.0, 2.0], frac=1100)),
    ("there are at most N fractional bits", lambda s: s.zero(1).ldexp(-1100)),
    ("there are at most N fractional bits", lambda s: mpc.mul(s, s.zero(1, frac=600), s.zero(1, frac=600))),
    ("a bound is a number, 0 or more", lambda s: s.input(None if s.index == 0 else [1.0], 1, 1, bound=-2.0)),
    ("a bound is a number, 0 or more", lambda s: mpc.matmul(s, numbers(s, 2, 2), numbers(s, 2, 2), bound=-1.0)),
    ("an array has at most N axes", lambda s: s.inputs(np.ones((1,) * 33))),
    ("an array has at most N axes", lambda s: s.zero((1,) * 40)),
    ("a whole number of fractional bits", lambda s: s.reveal(s.zero(1, frac=None))),
    ("an axis is a number", lambda s: protocols.argmin(s, numbers(s, 3), axis=numbers(s, 3))),
    ("largest or smallest element", lambda s: protocols.minimum(s, numbers(s, 2, 0), axis=1)),
    ("takes KIND here", lambda s: mpc.and_(s, numbers(s, 3), flags(s, 3))),
    ("NAME must be numbers", lambda s: fit(s, y=np.full(9, "y"))),
    ("y, row N is not a finite number", lambda s: scored_alone(s, [1.0, np.nan])),
    ("takes the session first", lambda s: protocols.mean(mpc.connect_sync("a.toml", job="j"), [1.0])),
    ("takes the session first", lambda s: mpc.mul(numbers(s, 3), numbers(s, 3))),
    ("takes the session first", lambda s: mpc.mul(np.ones(3), np.ones(3))),
    ("shapes SHAPE and SHAPE do not", plus_its_transpose),
    ("does not become", lambda s: flags(s, 2, 3).reshape(5)),
    ("does not become", lambda s: flags(s, 2, 3).reshape(-1, -1)),
    ("does not become", lambda s: flags(s, 2, 3).reshape([6])),
    ("does not become", lambda s: flags(s, 2, 3).broadcast_to((5,))),
    ("does not become", lambda s: flags(s, 2, 3).broadcast_to((3,))),
    ("an array has at most N axes", lambda s: flags(s, 1).broadcast_to((1,) * 33)),
    ("these rows are of different lengths", lambda s: numbers(s, 2, 3) * [[1], [2, 3]]),
    ("these rows are of different lengths", times_rows_of_different_lengths),
    ("these rows are of different lengths", lambda s: mpc.xor(s, flags(s, 2, 2), [[True], [False, True]])),
    ("there is no party N", lambda s: s.reveal(numbers(s, 3), to=1.5)),
    ("there is no party N", lambda s: s.reveal(numbers(s, 3), to=[None])),
    ("there is no party N", lambda s: s.reveal(numbers(s, 3), to=[[0]])),
    ("there is no party N", lambda s: s.reveal(numbers(s, 3), to=[np.arange(2)])),
    ("a whole number of fractional bits", lambda s: numbers(s, 3).ldexp("1")),
    ("a whole number of fractional bits", scaled_by_half_a_bit),
    ("there are at most N fractional bits", lambda s: numbers(s, 3).ldexp(2000)),
    ("takes KIND here", lambda s: s.zero(1).add_own(1.0)),
    ("takes KIND here", lambda s: s.zero(1).add_own(s.zero(1))),
    ("a stated bound is a finite number", lambda s: numbers(s, 3).assume_bound(1.0, 2)),
    ("a stated bound is a finite number", lambda s: numbers(s, 3).assume_bound("a", "b")),
    ("a stated bound is a finite number", lambda s: numbers(s, 3).sum(bound="1")),
    ("a bound is a number, 0 or more", lambda s: numbers(s, 3).times(2, None)),
    ("a bound is a number, 0 or more", lambda s: mpc.matmul(s, numbers(s, 2, 2), numbers(s, 2, 2), bound="a")),
    ("a bound is a number, 0 or more", lambda s: mpc.matmul_trunc(s, numbers(s, 2, 2), numbers(s, 2, 2), 1, bound=[1.0])),
    ("a bound is a number, 0 or more", lambda s: s.encode([1.0], bound="a")),
    ("a bound is a number, 0 or more", lambda s: s.zero(1).add_own(s.encode([1.0]), bound=numbers(s))),
    ("a bound is a number, 0 or more", lambda s: s.input(None if s.index == 0 else [1.0], 1, 1, bound=None)),
    ("a bound is a number, 0 or more", lambda s: s.inputs([1.0], bound=np.ones(2))),
]
"""Other calls that a row is about."""


async def provokes(case, call):
    row = row_of(case)
    faults = [fault for fault in await each(call) if isinstance(fault, BeaverError)]
    assert [type(fault).__name__ for fault in faults] == [row.kind] * 2, faults
    assert all(row.shows(str(fault)) for fault in faults), (row.text, faults)


@pytest.mark.parametrize("case", CASES)
async def test_a_program_provokes_the_row(case):
    await provokes(case, CASES[case])


@pytest.mark.parametrize(("case", "call"), BESIDE)
async def test_and_so_do_other_calls(case, call):
    await provokes(case, call)


async def test_a_node_that_is_not_open_and_a_job_that_runs_there_already():
    identities, roster = simulated_roster(2)
    network = MemoryNetwork()
    a, b, dealer = (Node(who, roster, network.of(who.name)) for who in identities)

    async def refused(node, case, **more):
        with pytest.raises(BeaverError) as caught:
            async with node.session("j", **more):
                pass
        assert (type(caught.value).__name__, row_of(case).shows(str(caught.value))) == (row_of(case).kind, True), caught.value

    await refused(a, "this node is not open")
    async with a, b, dealer:
        await refused(dealer, "this is the dealer's node")
        await refused(a, "is one name", parties="p1")

        async def program(node):
            async with node.session("j") as s:
                await s.reveal(s.zero(1))
                await refused(node, "runs at this node already")
                await s.reveal(s.zero(1))

        await asyncio.gather(program(a), program(b))
    await refused(a, "this node is not open")


OF_NODES = ["this node is not open", "this is the dealer's node", "runs at this node already", "is one name"]
"""Rows that the test above provokes."""
