"""What numpy users try first works, or an error says what to call: arrays as factors, joining shares, operators between bits."""

from __future__ import annotations

import re

import numpy as np
import pytest

import mpc
import protocols
from mpc import ConfigError, Cost, PrecisionError, ProgramError
from mpc.ops.declare import CHUNK
from mpc.testing import simulate
from tests.test_ops_misuse import flags, numbers

PARTIES = [2, 3, 4, 5]
X = np.array([[1.5, -2.0, 0.25], [0.0, 4.0, -7.5]])


def share(s, values, **settings):
    values = np.asarray(values)
    return s.input(values if s.index == 0 else None, 0, values.shape, **settings)


async def measured(s, x, factor, drop):
    """What `scale` gives, and whether it cost what it declares."""
    sent, rounds, dealt = dict(s.cost.sent), s.cost.rounds, s.cost.corrections
    declared = mpc.OPS["scale"].cost(s.n, x, factor, drop)
    result = await mpc.scale(s, x, factor, drop)
    payload = max((size - sent.get(peer, 0) for peer, size in s.cost.sent.items()), default=0)
    cost = Cost(s.cost.rounds - rounds, payload, s.cost.corrections - dealt)
    return await s.reveal(result), cost, declared


@pytest.mark.parametrize("n", PARTIES)
def test_a_share_is_scaled_by_an_array_of_reals(n):
    """The array may weigh columns or rows; each element is within a unit of what its own factor gives."""
    long = np.arange(CHUNK + 5.0) % 7
    cases = [
        (X, [0.4, -1.2, 0.7], 20),
        (X, np.array([[2.5], [-0.125]]), 12),
        (X, 3, 20),
        (X, np.zeros((4, 1, 1)) + 0.5, 8),
        (X[0], np.float32([[1.5], [0.25]]), 16),
        (X[:0], [1.0, 2.0, 3.0], 20),
        (np.float64(2.5), [0.1, np.pi], 30),
        (long, -long / 8, 20),
    ]

    async def program(s):
        results = []
        for x, factor, drop in cases:
            private = share(s, x, bound=8.0)
            results += [await measured(s, each, factor, drop) for each in (private + s.zero(np.shape(x)), private)]
        return [*results, await measured(s, await s.mask(share(s, X, bound=8.0)), -1.25, 10)]

    expected = [(x * np.asarray(factor, float), np.max(np.abs(x), initial=0) * 2.0**-drop) for x, factor, drop in cases for _ in (0, 1)]
    outcomes = simulate(n, program, check_bounds=True)
    for results, (value, coarse) in zip(zip(*outcomes, strict=True), [*expected, (X * -1.25, 0.0)], strict=True):
        for result, _, _ in results:
            assert result.shape == value.shape
            assert np.allclose(result, value, rtol=0, atol=2.0**-19 + coarse)
        declared = results[0][2]
        assert max(cost.rounds for _, cost, _ in results) == declared.rounds
        assert max(cost.payload for _, cost, _ in results) == declared.payload
        assert sum(cost.dealer for _, cost, _ in results) == declared.dealer


SMALL = [
    (7.0, 16.0, 1 / 3, 20, 1),
    (7e5, 2.0**20, 1e-3, 20, 1),
    (7e5, 2.0**20, 1e-6, 20, 2),
    (7e5, 2.0**20, 1e-9, 20, 2),
    (7e5, 2.0**20, 1e-15, 20, 2),
    (-7e9, 2.0**35, 1e-6, 20, 2),
    (7e4, 2.0**17, 1e-3, 32, 1),
    (7e5, 2.0**20, [1e-3, -2e-3], 20, 1),
    (7e5, 2.0**20, [1e-8, 1e-6], 20, 2),
    (7.0, 8.0, [1e-6, 1.0, 0.0], 20, 1),
    (7.0, 8.0, [1e-15, 1.0], 20, 1),
]
"""A value and its bound, a factor, `drop`, and the truncations that it takes."""


@pytest.mark.parametrize("n", PARTIES)
def test_a_small_factor_keeps_its_bits(n):
    """Thus the mean of a share is right to a few units and to 2^-18 of itself, however many rows there are."""

    async def program(s):
        results = []
        for x, bound, factor, drop, _ in SMALL:
            private = share(s, x, bound=bound)
            masked = [] if np.ndim(factor) else [await s.mask(private)]
            results.append([await measured(s, each, factor, drop) for each in (private + s.zero(()), *masked)])
        rows = share(s, np.full(3_000, 7.0), bound=16.0)
        return results, await s.reveal(await mpc.scale(s, rows.sum(), 1 / 3_000))

    outcomes = simulate(n, program, check_bounds=True)
    for number, (x, _, factor, _, truncations) in enumerate(SMALL):
        for kind, each in enumerate(zip(*(results[number] for results, _ in outcomes), strict=True)):
            value, declared = x * np.asarray(factor), each[0][2]
            assert declared.rounds == truncations - kind
            assert max(cost.rounds for _, cost, _ in each) == declared.rounds
            assert max(cost.payload for _, cost, _ in each) == declared.payload
            assert sum(cost.dealer for _, cost, _ in each) == declared.dealer
            for result, _, _ in each:
                assert np.allclose(result, value, rtol=2.0**-18, atol=3 * 2.0**-20)
    assert all(abs(mean - 7) < 1e-4 for _, mean in outcomes)


@pytest.mark.parametrize(
    ("call", "fault", "text"),
    [
        (lambda s, x: mpc.scale(s, x, [1.0, np.nan, 2.0], 20), PrecisionError, "row 1 is not a finite number"),
        (lambda s, x: mpc.scale(s, x, "a", 20), PrecisionError, "numbers are needed"),
        (lambda s, x: mpc.scale(s, x, 1e30, 20), PrecisionError, "exceeds the ring"),
        (
            lambda s, x: mpc.scale(s, x, 2.0**30, 20),
            PrecisionError,
            r"a share within 8 with 20 fractional bits is too large to scale by 1\.074e\+09 \(limit 0\.003906\)",
        ),
        (
            lambda s, x: mpc.scale(s, share(s, X, bound=2.0**42), [[1e-6], [-1e-7]], 20),
            PrecisionError,
            r"a share within 4\.398e\+12 with 20 fractional bits is too large to scale by 1e-06 \(limit 4\.194e\+12\)",
        ),
        (
            lambda s, x: mpc.scale(s, share(s, X, bound=1.5 * 2.0**42), 1e-9, 20),
            PrecisionError,
            r"a share within 6\.597e\+12 with 20 fractional bits is too large to scale by 1e-09 \(limit 4\.398e\+12\)",
        ),
        # Only what the first truncation rounds up is too much for the second.
        (
            lambda s, x: mpc.scale(s, share(s, X, bound=2.0**42 - 2.0**-11), 2.0**-20 - 2.0**-73, 20),
            PrecisionError,
            "is too large to scale by 9.537e-07",
        ),
        (lambda s, x: mpc.scale(s, x, [1.0, 2.0], 20), ProgramError, r"shapes \(2, 3\) and \(2,\) do not broadcast"),
        (lambda s, x: mpc.scale(s, x, 0.5, 40), ProgramError, "1 to 32 bits, not 40"),
        (
            lambda s, x: mpc.scale(s, 2**17 * x, [1e-7, 1.0, -2e-7], 20),
            PrecisionError,
            (
                "a factor of 1e-07 would keep fewer than 10 bits beside larger ones, and a share within 1.049e\\+06: "
                "scale by it alone, or declare"
            ),
        ),
        (lambda s, x: mpc.trunc(s, x, 2.5), ProgramError, "1 to 32 bits, not 2.5"),
    ],
)
def test_a_factor_that_does_not_fit_is_refused_before_anything_is_sent(call, fault, text):
    async def program(s):
        with pytest.raises(fault, match=text):
            await call(s, share(s, X, bound=8.0))
        return s.cost.rounds

    assert simulate(2, program) == [0, 0]


@pytest.mark.parametrize("n", PARTIES)
def test_shares_are_joined_and_stacked_as_numpy_does(n):
    async def program(s):
        x = share(s, X, bound=8.0)
        square = await mpc.square(s, x)
        scalars = [x.sum(), x[0, 0], x[1].sum()]
        joined = [
            mpc.stack([x, 2 * x]),
            mpc.stack((x, x + 1), axis=-1),
            mpc.stack([x[0], x[1]], axis=1),
            mpc.stack(scalars),
            mpc.stack([square.sum(), square[0, 0]]),
            mpc.concatenate((x, x[:1]), axis=0),
            mpc.concatenate([x, x[:, :1]], axis=-1),
            mpc.concatenate(part for part in (x[:0], x)),
        ]
        assert mpc.stack(scalars).owner == 0
        return [await s.reveal(each) for each in joined]

    expected = [
        np.stack([X, 2 * X]),
        np.stack([X, X + 1], axis=-1),
        X.T,
        np.array([X.sum(), X[0, 0], X[1].sum()]),
        np.array([np.square(X).sum(), X[0, 0] ** 2]),
        np.concatenate([X, X[:1]]),
        np.concatenate([X, X[:, :1]], axis=1),
        X,
    ]
    for results in simulate(n, program, check_bounds=True):
        for result, value in zip(results, expected, strict=True):
            assert np.array_equal(result, value)


JOINS = {
    "there are no shares to join": lambda x: mpc.concatenate([]),
    "a list of shares, not as one AShare": mpc.stack,
    "no axis 2 in shape (2, 3)": lambda x: mpc.concatenate([x, x], axis=2),
    "no axis 3 in shape (2, 3, 1)": lambda x: mpc.stack([x, x], axis=3),
    "no axis 0 in shape ()": lambda x: mpc.concatenate([x[0, 0], x[0, 1]]),
    "shapes (2, 3) and (2, 2) do not join along axis 0": lambda x: mpc.concatenate([x, x[:, :2]]),
    "shapes (2, 3) and (3,) do not join along axis 1": lambda x: mpc.concatenate([x, x[0]], axis=1),
    "shapes (3,) and (2,) do not stack": lambda x: mpc.stack([x[0], x[:, 0]]),
    "stack takes AShare here, not float; s.zero(shape) + numbers is a share of public ones": lambda x: mpc.stack([x[0, 0], 1.0]),
}


@pytest.mark.parametrize("text", JOINS)
def test_what_cannot_be_joined_is_refused(text):
    async def program(s):
        with pytest.raises(ProgramError) as refused:
            JOINS[text](numbers(s, 2, 3))
        assert text in str(refused.value)

    simulate(2, program)


BITS = {
    "await mpc.and_(s, x, y)": [lambda b, x: b & b, lambda b, x: True & b],
    "await mpc.or_(s, x, y)": [lambda b, x: b | b, lambda b, x: np.array([True, False]) | b],
    "await mpc.xor(s, x, y)": [lambda b, x: b ^ b, lambda b, x: np.array([True, False]) ^ b],
    "await mpc.not_(s, x)": [lambda b, x: ~b],
    "await mpc.b2a(s, bits), which gives numbers": [lambda b, x: b + 1, lambda b, x: 1 - b, lambda b, x: -b, lambda b, x: b.sum(axis=0)],
    "await mpc.b2a(s, bits) makes numbers of bits": [lambda b, x: x + b, lambda b, x: x - b],
    "await mpc.select(s, bits, x)": [lambda b, x: b * x, lambda b, x: 3 * b],
    "await select(s, bits, x)": [lambda b, x: x * b],
}


@pytest.mark.parametrize("text", BITS)
def test_an_operator_between_bits_names_the_call(text):
    async def program(s):
        for call in BITS[text]:
            with pytest.raises(ProgramError) as refused:
                call(flags(s, 2), numbers(s, 2))
            assert text in str(refused.value)

    simulate(2, program)


@pytest.mark.parametrize("n", PARTIES)
def test_what_the_messages_advise_is_right(n):
    """Public numbers in a product of secrets, public matrices of integers, masked values, several shares as one."""
    matrix, row = np.array([[1, -2], [0, 3], [4, 5]]), np.array([2, -1, 3])

    async def program(s):
        x = share(s, X, bound=8.0)
        masked = await s.mask(x)
        bits = await protocols.less_than(s, x, 1)
        calls = [
            (lambda: mpc.matmul(s, x, matrix), "s.zero(shape) + numbers is a share of public ones"),
            (lambda: mpc.mul(s, 2.5, x), "s.zero(shape) + numbers is a share of public ones"),
            (lambda: s.reveal(masked), "x.share() of it is one"),
            (lambda: s.mask(masked), "x.share() of it is one"),
            (lambda: mpc.square(s, bits), "await mpc.b2a(s, bits) gives one"),
            (lambda: protocols.maximum(s, [x[0, 0], x[0, 1]]), "mpc.stack(shares) is one share of all"),
        ]
        for call, text in calls:
            with pytest.raises(ProgramError) as refused:
                await call()
            assert text in str(refused.value)
        for call, text in ((lambda: x + masked, "x.share() of it can"), (lambda: x @ matrix, "(x[..., None] * w).sum(axis=-2)")):
            with pytest.raises(ProgramError) as refused:
                call()
            assert text in str(refused.value)
        advised = [
            await mpc.matmul(s, x, s.zero((3, 2), frac=0) + matrix),
            (x[..., None] * matrix).sum(axis=-2),
            (x * row).sum(axis=-1),
            masked.share() + x,
            await protocols.maximum(s, mpc.stack([x[0, 0], x[0, 1]])),
            await mpc.b2a(s, bits),
        ]
        return [await s.reveal(each) for each in advised]

    expected = [X @ matrix, X @ matrix, X @ row, 2 * X, X[0, :2].max(), (X < 1).astype(int)]
    for results in simulate(n, program, check_bounds=True):
        for result, value in zip(results, expected, strict=True):
            assert np.array_equal(result, value)


def test_rows_of_different_lengths_are_no_array():
    ragged = [[1.0], [1.0, 2.0]]

    async def program(s):
        for call in (
            lambda: s.inputs(ragged),
            lambda: protocols.mean(s, ragged),
            lambda: protocols.secure_sum(s, ragged),
            lambda: protocols.less_than(s, share(s, X), ragged),
        ):
            with pytest.raises(PrecisionError, match="these rows are of different lengths"):
                await call()
        for local in (lambda: s.encode(ragged), lambda: share(s, X) + ragged):
            with pytest.raises(PrecisionError, match="these rows are of different lengths"):
                local()
        return s.cost.rounds

    assert simulate(2, program) == [0, 0]


def _said(text, pattern):
    return [float(each.replace(",", "")) for found in re.finditer(pattern, text) for each in found.groups()]


@pytest.mark.parametrize("name", ["mean", "weighted_mean", "variance", "standard_deviation"])
def test_the_bytes_that_a_docstring_says_are_those_declared(name):
    protocol = protocols.PROTOCOLS[name]
    (times,) = _said(protocol.call.__doc__.replace("8(d ", "8(1d "), r"bytes 8\((\d+)d \+ 1\) per peer")
    weights = [np.ones(2)] if name == "weighted_mean" else []
    assert protocol.cost(3, np.ones((2, 5)), *weights).payload == 8 * (5 * times + 1)


@pytest.mark.parametrize("name", ["maximum", "argmax"])
def test_the_figures_of_a_tournament_are_those_declared(name):
    text = protocols.PROTOCOLS[name].call.__doc__
    (near, *_), (far, *_) = (
        _said(text, r"(\d+) m at 10,000"),
        _said(text, r"(\d+) m at 10\^6") or _said(text, r"(\d+) m at 10,000 and at 10\^6"),
    )
    costs = [protocols.PROTOCOLS[name].cost(3, mpc.Like((m,))) for m in (10**4, 10**6)]
    assert [round(cost.payload / m) for cost, m in zip(costs, (10**4, 10**6), strict=True)] == [near, far]
    assert [round(cost.dealer / m) for cost, m in zip(costs, (10**4, 10**6), strict=True)] == _said(text, r"dealer (\d+) m and (\d+) m")
    if name == "maximum":
        rounds = [protocols.PROTOCOLS[name].cost(3, mpc.Like((m,))).rounds for m in (2, 10, 100, 10**4, 10**6)]
        assert rounds == _said(text, r"10\^6: (\d+), (\d+), (\d+), (\d+), (\d+)")


def test_a_plan_shows_what_a_program_costs():
    async def program(s, x):
        return await s.reveal(await mpc.square(s, s.zero(x.shape)))

    plan = mpc.estimate(program, 3, [(4, 2)])
    figures = f"rounds=2, payload={plan.payload}, dealer={plan.dealer}, relations=1, peak={plan.peak}, trips={plan.trips}"
    assert repr(plan) == f"Plan(n=3, {figures}, complete=True)"
    for n, named in ((1, "1"), (0, "0"), (-2, "-2"), (2.0, "float"), (program, "function")):
        for call in (lambda n: mpc.estimate(program, n, [(4, 2)]), lambda n: simulate(n, program)):
            with pytest.raises(ConfigError, match=f"a program runs among two parties or more, not {named}"):
                call(n)
    for swapped in (lambda: mpc.estimate(2, 3), lambda: simulate(2, 3)):
        with pytest.raises(ProgramError, match=r"a program is an `async def program\(s, ...\)`, and no int"):
            swapped()


def test_what_the_refusal_of_a_real_factor_names_runs_as_it_stands():
    async def program(s):
        x = share(s, X)
        with pytest.raises(ProgramError, match=r"for reals await mpc\.scale\(s, x, factor\)"):
            x * 0.3
        return await s.reveal(await mpc.scale(s, x, 0.3))

    for result in simulate(3, program):
        assert np.allclose(result, X * 0.3, rtol=0, atol=8 * 2.0**-20)


def test_numpy_functions_that_ask_for_an_array_are_refused_in_a_sentence():
    async def program(s):
        x = share(s, X)
        for call in (
            np.asarray,
            np.array,
            lambda x: np.array(x, copy=True),
            lambda x: np.asarray(x, float),
        ):
            with pytest.raises(ProgramError, match=r"the array of this AShare would need its secret contents; await s\.reveal\(x\)"):
                call(x)

    simulate(2, program)


def test_a_product_that_is_added_to_a_factor_is_told_of_the_call_that_keeps_the_scale():
    async def program(s):
        x = share(s, X, bound=8.0)
        with pytest.raises(ProgramError, match=r"await mpc\.mul_trunc\(s, x, y, 20\) is a product with as many as its factors"):
            await mpc.mul(s, x, x) + x
        return await s.reveal(await mpc.mul_trunc(s, x, x, 20) + x)

    for result in simulate(2, program):
        assert np.allclose(result, X * X + X, rtol=0, atol=2.0**-19)


def test_receivers_and_factors_may_be_of_any_type_that_numpy_takes_for_whole_numbers():
    async def program(s):
        x = share(s, [1, 2], frac=0)
        found = [await s.reveal(x * np.array([2, 3], object), to=np.array(to)) for to in (1, [0], [1, 0])]
        return [None if each is None else each.tolist() for each in found]

    assert simulate(2, program) == [[None, [2, 6], [2, 6]], [[2, 6], None, [2, 6]]]
