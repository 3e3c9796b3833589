"""Public bounds propagate, stop an overflow before anything is sent, and are verified on plaintext in simulations (invariant 28)."""

from __future__ import annotations

import asyncio
import inspect

import numpy as np
import pytest

import mpc
from mpc import OPS, Disagreement, PrecisionError, ProgramError
from mpc.testing import ExceededBoundError, simulate
from tests.references import shared, shared_bits

PARAMETERS = {"trunc": (20,), "mul_trunc": (20,), "matmul_trunc": (13,), "scale": (-0.75, 8)}
KINDS = {"b2a": "b", "select": "bx", "and_": "bb", "or_": "bb", "xor": "bb", "not_": "b"}
TWO = {"mul", "matmul", "dot", "mul_trunc", "matmul_trunc"}
LIMIT = 8.0


async def operands_of(s, name, form):
    """Operands whose values reach their bound exactly, from the last party."""
    shape = (2, 2) if name.startswith("matmul") else (4,)
    reached = np.resize([LIMIT, -LIMIT], shape)
    operands = []
    for kind in KINDS.get(name, "xx" if name in TWO else "x"):
        if kind == "b":
            operands.append(shared_bits(s, np.resize(np.array([1, 0], np.uint8), shape), 1))
            continue
        x = s.input(reached if s.index == s.n - 1 else None, s.n - 1, shape, bound=LIMIT)
        operands.append(await s.mask(x) if form == "masked" else x if form == "private" else x + s.zero(shape))
    return operands


@pytest.mark.parametrize("form", ["share", "private", "masked"])
@pytest.mark.parametrize("name", OPS)
def test_right_programs_stay_within_their_bounds(name, form):
    async def program(s):
        operands = await operands_of(s, name, form)
        result = await OPS[name].call(s, *operands, *PARAMETERS.get(name, ()))
        for x in (*operands, result):
            if hasattr(x, "bound"):
                linear = [-x, x + x, x.sum(), x * 3, x - 1.0, x.ldexp(-1), x.reshape(-1)[::-1], x.T]
                assert linear[1].bound == 2 * x.bound

    for n in (2, 3):
        simulate(n, program, seed=n, check_bounds=True)


ULP = 2.0**-20
PROPAGATED = {
    "mul": (40, 64.0),
    "matmul": (40, 128.0),
    "dot": (40, 256.0),
    "square": (40, 64.0),
    "trunc": (0, LIMIT + 1),
    "mul_trunc": (20, 64.0 + ULP),
    "matmul_trunc": (27, 128.0 + 2.0**-27),
    "scale": (20, 6.0 + ULP),
    "b2a": (0, 1.0),
    "select": (20, LIMIT),
}


@pytest.mark.parametrize("name", PROPAGATED)
def test_bounds_and_fractional_bits_propagate(name):
    async def program(s):
        operands = await operands_of(s, name, "share")
        result = await OPS[name].call(s, *operands, *PARAMETERS.get(name, ()))
        return result.frac, result.bound

    assert simulate(2, program) == [PROPAGATED[name]] * 2


def test_every_op_that_gives_a_number_has_a_propagated_bound():
    assert set(PROPAGATED) == set(OPS) - {"ltz", "eqz", "and_", "or_", "xor", "not_"}


OVERFLOWS = {
    "mul": (2.0**11.5, ()),
    "square": (2.0**11.5, ()),
    "dot": (2.0**10.5, ()),
    "matmul": (2.0**11, ()),
    "trunc": (2.0**42, (20,)),
    "mul_trunc": (2.0**11, (20,)),
    "matmul_trunc": (2.0**10.5, (13,)),
    "scale": (2.0**42, (3.0, 8)),
}


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("form", ["share", "masked"])
@pytest.mark.parametrize("name", OVERFLOWS)
def test_what_may_overflow_is_refused_before_anything_is_sent(name, form, n):
    bound, parameters = OVERFLOWS[name]
    shape = (2, 2) if name.startswith("matmul") else (4,)

    async def program(s):
        x = s.zero(shape).assume_bound(bound, "as large as may be")
        x = await s.mask(x) if form == "masked" else x
        operands = [x, x] if name in TWO else [x]
        sent, rounds, dealt = dict(s.cost.sent), s.cost.rounds, s.cost.corrections
        with pytest.raises(PrecisionError, match="bound=.*smaller frac=.*scale the data"):
            await OPS[name].call(s, *operands, *parameters)
        await s.reveal(s.zero(()), to=0)
        spent = {peer: size - sent.get(peer, 0) for peer, size in s.cost.sent.items() if size != sent.get(peer, 0)}
        return spent, s.cost.rounds - rounds, s.cost.corrections - dealt

    # Nothing but the word that was revealed afterwards.
    assert simulate(n, program) == [({}, 1, 0)] + [({"p0": 8}, 1, 0)] * (n - 1)


LOCAL = {
    "add": lambda x: x + x,
    "subtract": lambda x: x - x,
    "add a constant": lambda x: x + 2.0**42,
    "times": lambda x: x * 2,
    "times an array": lambda x: x * np.array([1, 1, 1, -2]),
    "sum": lambda x: x.sum(),
    "ldexp": lambda x: x.ldexp(1) + x.ldexp(1),
}


@pytest.mark.parametrize(
    ("what", "masked"), [(what, masked) for what in LOCAL for masked in (False, True) if "array" not in what or not masked]
)
def test_operators_refuse_what_may_overflow(what, masked):
    """A masked value is multiplied by one integer only."""

    async def program(s):
        x = s.zero(4).assume_bound(2.0**42, "the largest that fits")
        x = await s.mask(x) if masked else x
        with pytest.raises(PrecisionError, match="bound="):
            LOCAL[what](x)

    simulate(2, program)


def test_assume_bound_wants_a_reason_and_a_number():
    async def program(s):
        x = s.zero(2)
        for bound, reason in ((1.0, ""), (1.0, "  "), (np.inf, "large"), (-1.0, "negative"), (np.nan, "nothing")):
            with pytest.raises(ProgramError, match="the reason why"):
                x.assume_bound(bound, reason)
        assert x.assume_bound(3.0, "zero is small").bound == 3.0
        # It makes room for a product that would not fit otherwise.
        wide = s.input(np.ones(2) if s.index == 0 else None, 0, 2, bound=2.0**30)
        with pytest.raises(PrecisionError):
            await mpc.mul(s, wide, wide)
        one = wide.assume_bound(1.0, "the program knows that they are ones")
        return await s.reveal(await mpc.mul(s, one, one))

    for revealed in simulate(2, program, check_bounds=True):
        assert revealed.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("masked", [False, True])
def test_a_sum_takes_the_bound_that_mathematics_knows(masked):
    async def program(s):
        one_of_many = s.input(np.eye(5)[2] * 3.0 if s.index == 0 else None, 0, 5, bound=2.0**42)
        x = await s.mask(one_of_many) if masked else one_of_many
        with pytest.raises(PrecisionError, match="bound="):
            x.sum()
        total = x.sum(bound=2.0**42)
        assert total.bound == x.sum(0, 2.0**42).bound == 2.0**42
        # Larger than that of an element, too, and where the elements are known to be 0.
        assert x.ldexp(-4).sum(bound=1.5 * 2.0**38).bound == 1.5 * 2.0**38
        assert s.zero(3).sum(bound=1.0).bound == 1.0
        for bound in (-1.0, np.nan, np.inf):
            with pytest.raises((ProgramError, PrecisionError), match="bound"):
                x.sum(bound=bound)
        return await s.reveal(total.share() if masked else total)

    assert [float(total) for total in simulate(2, program, check_bounds=True)] == [3.0, 3.0]


def test_parties_that_state_other_bounds_of_a_sum_disagree():
    async def program(s):
        await s.reveal(s.zero(3).sum(bound=1.0 + s.index))

    with pytest.raises(mpc.Disagreement):
        simulate(2, program)


async def false_on_a_share(s):
    (s.zero(3).add_own(s.encode([0.5, 0.0, 1.0]))).assume_bound(1.5, "wrong: 1 + 1 is 2")


async def false_on_a_masked_value(s):
    x = await s.mask(s.zero(3).add_own(s.encode([0.5, 0.0, 1.0])))
    x[::2].assume_bound(1.5, "wrong: 1 + 1 is 2")


async def false_on_a_result(s):
    x = s.input([3.0, -3.0] if s.index == 0 else None, 0, 2, bound=4.0)
    (await mpc.square(s, x)).assume_bound(8.9, "wrong: 9 is larger")


async def false_claim_of_a_negative_number(s):
    s.input([-4.0] if s.index == 0 else None, 0, 1, bound=4.0).assume_bound(3.9, "wrong: -4 is larger")


async def false_claim_of_a_sum(s):
    s.input([2.0, 2.0] if s.index == 0 else None, 0, 2, bound=2.0).sum(bound=3.9)


FALSE = [false_on_a_share, false_claim_of_a_sum, false_on_a_masked_value, false_on_a_result, false_claim_of_a_negative_number]


@pytest.mark.parametrize("program", FALSE, ids=lambda program: program.__name__)
def test_a_false_assumption_is_found_in_simulation(program):
    simulate(2, program)
    with pytest.raises(ExceededBoundError, match="beyond its bound") as caught:
        simulate(2, program, check_bounds=True)
    assert "nan" not in str(caught.value)


BOUNDS = [np.uint8(200), np.int64(200), np.float32(200), 200, 200.0]
"""One bound as programs have it."""


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: type(bound).__name__)
def test_a_bound_is_a_float_whatever_number_it_was(bound):
    """The product of two bounds that are numpy integers would wrap around: as bytes, 200 * 200 is 64."""

    async def program(s):
        own = s.encode([1.0, 2.0], bound=bound)
        x = s.input([100.0, -100.0] if s.index == 0 else None, 0, 2, bound=bound)
        summed, stated = s.zero(2).add_own(own), x.sum(bound=bound)
        # At each party of another type: what they have is the same all the same.
        assumed = x.assume_bound(BOUNDS[s.index], "it is 100")
        await s.reveal(assumed)
        await s.reveal(await mpc.square(s, assumed))
        products = await mpc.square(s, x), await mpc.mul(s, x, x), await mpc.matmul(s, x, x, bound=bound)
        bounds = [each.bound for each in (x, own, summed, stated, assumed, *products)]
        assert {type(each) for each in bounds} == {float}
        return bounds

    for bounds in simulate(3, program):
        assert bounds == [200.0, 200.0, 600.0, 200.0, 200.0, 40000.0, 40000.0, 200.0]


def test_the_stated_bound_of_a_sum_is_taken_as_it_is():
    """It is not taken as a multiple of the addends' bound, which may be rounded up beyond the ring."""

    async def program(s):
        largest = float(np.nextafter(2.0**42, 0.0))
        for bound in (1e-310, *np.random.default_rng(1).uniform(1e-3, 1e9, 50)):
            x = s.zero((2, 3)).assume_bound(bound, "zeros")
            assert x.sum(0, largest).bound == (await s.mask(x)).sum(0, largest).bound == largest
        assert x.ldexp(np.int64(-3)).frac == x.ldexp(-3).frac

    simulate(2, program)


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_equal_calls_at_the_same_time_are_not_mixed_up(seed):
    """The same values multiplied and masked several times are several sharings, which finish in any order."""

    async def program(s):
        zero = s.zero(3)
        own = [zero.add_own(s.encode(np.full(3, number + s.index))) for number in range(4)]
        x = shared(s, np.arange(3, dtype=np.uint64), 9, bound=3.0)
        await asyncio.gather(*(mpc.mul(s, x, x) for _ in range(6)), *(s.mask(own[0]) for _ in range(6)))
        return [await s.reveal(one, to=0) for one in own]

    for n in (2, 3):
        simulate(n, program, seed=seed, check_bounds=True)


def own_bound(s):
    """A bound that is not the same at all parties."""
    return 8.0 + s.index


UNLIKE = {
    "an input": lambda s: s.input([1.0] if s.index == 0 else None, 0, 1, bound=own_bound(s)),
    "what a client gives": lambda s: s.given(np.zeros(1, np.uint64), (1,), frac=20, bound=own_bound(s)),
    "an own value": lambda s: s.zero(1).add_own(s.encode([1.0], bound=own_bound(s))),
    "a sum of own values": lambda s: s.zero(1).add_own(s.encode([1.0], bound=1.0), bound=own_bound(s)),
    "a multiple": lambda s: (s.zero(1) + 1.0).times([2], own_bound(s)),
    "a sum": lambda s: (s.zero((2, 1)) + 1.0).sum(0, bound=own_bound(s)),
    "a value": lambda s: (s.zero(1) + 1.0).assume_bound(own_bound(s), "a test"),
    "a product": lambda s: mpc.matmul(s, s.zero((1, 1)) + 1.0, s.zero(1) + 1.0, bound=own_bound(s)),
    "a truncated product": lambda s: mpc.matmul_trunc(s, s.zero((1, 1)) + 1.0, s.zero(1) + 1.0, 20, bound=own_bound(s)),
}


@pytest.mark.parametrize("what", UNLIKE)
def test_bounds_that_differ_between_parties_are_a_disagreement(what):
    """Otherwise one party would compute on what another one refuses, and no words are known to fit (invariant 28)."""

    async def program(s):
        x = UNLIKE[what](s)
        await s.reveal(await x if inspect.isawaitable(x) else x)

    with pytest.raises(Disagreement, match="differ"):
        simulate(2, program)


@pytest.mark.parametrize(("bound", "frac", "factor"), [(1.5 * 2.0**-20, 20, 2**62), (1.6, 0, 2**62), (3.6, 0, 2**61), (0.2, 3, 2**62)])
def test_a_bound_holds_for_what_a_value_is_rounded_to(bound, frac, factor):
    """Encoded, the value is the next multiple of 2^-frac, which is beyond the bound, and the product would wrap around."""

    async def given(s):
        return s.input([bound] if s.index == 0 else None, 0, 1, frac=frac, bound=bound)

    async def own(s):
        return s.zero(1, frac=frac).add_own(s.encode([bound], frac=frac, bound=bound))

    async def public(s):
        return s.zero(1, frac=frac) + bound

    # Of the two own values each is added.
    for make, times in ((given, factor), (own, factor // 2), *([(public, factor)] if frac else [])):

        async def program(s, make=make, times=times):
            x = await make(s)
            # ExceededBoundError if it is not so.
            await s.reveal(x)
            return x * times

        with pytest.raises(PrecisionError, match="this value may reach"):
            simulate(2, program, check_bounds=True)
