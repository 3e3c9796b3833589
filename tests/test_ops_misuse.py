"""Calls that make no sense are errors of the program before anything is sent; and calls with public bits or known bounds."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

import mpc
from mpc import AShare, PrecisionError, ProgramError
from mpc.estimate import estimate
from mpc.kernels import bits
from mpc.testing import ExceededBoundError, simulate
from tests.references import shared, shared_bits


def numbers(s, *shape):
    return shared(s, np.zeros(shape, np.uint64), 1)


def flags(s, *shape):
    return shared_bits(s, np.zeros(shape, np.uint8), 1)


MISUSES = {
    "products that do not broadcast": (lambda s: mpc.mul(s, numbers(s, 2), numbers(s, 3)), "do not broadcast"),
    "matrices that do not fit": (lambda s: mpc.matmul(s, numbers(s, 2, 3), numbers(s, 2, 3)), "do not form a matrix product"),
    "a matrix product of numbers": (lambda s: mpc.matmul(s, numbers(s), numbers(s)), "do not form a matrix product"),
    "truncated products that do not broadcast": (lambda s: mpc.mul_trunc(s, numbers(s, 2), numbers(s, 3), 1), "do not broadcast"),
    "a dot product of matrices": (lambda s: mpc.dot(s, numbers(s, 2, 2), numbers(s, 2, 2)), "use matmul"),
    "nothing to drop": (lambda s: mpc.trunc(s, numbers(s, 2), 0), "1 to 32 bits"),
    "too much to drop": (lambda s: mpc.trunc(s, numbers(s, 2), 33), "1 to 32 bits"),
    "a scale that drops nothing": (lambda s: mpc.scale(s, numbers(s, 2), 2.0, 0), "1 to 32 bits"),
    "bits that do not broadcast": (lambda s: mpc.and_(s, flags(s, 2), flags(s, 3)), "do not broadcast"),
    "bits larger than what they select": (lambda s: mpc.select(s, flags(s, 2, 3), numbers(s, 3)), "do not broadcast to"),
    "public bits that are numbers": (lambda s: mpc.xor(s, flags(s, 2), np.array([0, 2])), "array of bool"),
    "a secret index": (lambda s: mpc.square(s, numbers(s, 3)[numbers(s)]), "never an index"),
    "bits as an index": (lambda s: mpc.not_(s, flags(s, 3)[flags(s, 3)]), "never an index"),
}


async def in_a_thread(s):
    return await asyncio.to_thread(mpc.mul, s, numbers(s, 2), numbers(s, 2))


async def forgets_to_await(s):
    return s.index, s.reveal(s.zero(1))


LOCAL = {
    "a protocol is an": lambda s: mpc.protocol(repr),
    "gave a call of": lambda s: s.run(forgets_to_await),
    "there is no axis": lambda s: numbers(s, 3).sum(axis=1),
    "names not every axis": lambda s: numbers(s, 3, 2).transpose(0, 0),
    "does not become": lambda s: numbers(s, 3, 2).reshape(4),
    "a shape is a number of elements": lambda s: s.zero(-1),
    "of secrets needs the network": lambda s: numbers(s, 2) / 2,
    "has no protocol here": lambda s: numbers(s, 2) / numbers(s, 2),
    "does not fit a secret of this shape": lambda s: np.squeeze(numbers(s, 2), 0),
    "does not work on a secret": lambda s: np.mean(numbers(s, 2)),
    "takes less of a secret": lambda s: np.sum(numbers(s, 2), dtype=int),
    "which nobody can await": lambda s: s.run(repr),
    "a program is an `async def program(s, ...)`, and no": lambda s: s.run(3),
    "in another thread": in_a_thread,
    "this share holds whole numbers": lambda s: s.zero(3, frac=0) + 0.5,
    "a program runs among two parties": lambda s: mpc.estimate(repr, 1),
    "cannot be called with a session": lambda s: mpc.estimate(mpc.square, 2),
    "shapes= lists the shape of each array that": lambda s: mpc.estimate(mpc.square, 2, 3),
    "there are no shares to join": lambda s: mpc.stack([]),
    "comes as a list of shares": lambda s: mpc.concatenate(s.zero(3)),
    "takes KIND here": lambda s: mpc.mul(s, s.zero(2), 3.0),
    "is a call": lambda s: ~flags(s, 2),
    "are of different lengths": lambda s: s.inputs([[1.0], [1.0, 2.0]]),
}
"""One of each message of calls that need no network, as docs/errors.md has them."""

MORE = {
    "there is no axis": [lambda x: x.sum(axis="a"), lambda x: x.sum(axis=(0, 5)), lambda x: x.sum(axis=-3), lambda x: x.transpose(0, 2)],
    "names not every axis": [
        lambda x: x.transpose(0),
        lambda x: x.transpose((1, 1)),
        lambda x: x.transpose(0, 1, 0),
        lambda x: x.sum(axis=(0, 0)),
    ],
    "does not become": [lambda x: x.reshape("a"), lambda x: x.reshape(-1, -1), lambda x: x.reshape((3, 3))],
    "of secrets needs the network": [
        lambda x: x @ x,
        lambda x: np.ones((2, 3)) @ x,
        lambda x: x**2,
        abs,
    ],
    "do not broadcast": [
        lambda x: x + np.ones(3),
        lambda x: np.ones(3) - x,
        lambda x: x * np.ones(3, np.int64),
        lambda x: x - numbers_like(x, 4),
        lambda x: x.times([1, 2, 3], 1.0),
    ],
}


def numbers_like(x, *shape):
    return AShare(np.zeros(shape, np.uint64), frac=x.frac, bound=1.0, home=x.home, lineage=1)


@pytest.mark.parametrize("message", MORE)
def test_numpy_never_has_the_word(message):
    async def program(s):
        for call in MORE[message]:
            with pytest.raises(ProgramError, match=message):
                call(numbers(s, 3, 2))

    simulate(2, program)


@pytest.mark.parametrize("shape", [-1, (2, -1), "abc", 2.5, (1.0,), None])
def test_a_shape_is_made_of_numbers_of_elements(shape):
    async def program(s):
        with pytest.raises(ProgramError, match="a shape is a number of elements"):
            s.zero(shape)

    simulate(2, program)


def test_numbers_of_numpy_are_as_good_as_those_of_python():
    async def program(s):
        x = s.zero(np.int64(2), frac=np.int32(24)).add_own(s.encode([1.5, -2.5], frac=np.uint8(24)))
        y = await mpc.trunc(s, x.assume_bound(8.0, "two parties"), np.int64(4))
        z = s.input([1.0] if s.index == 0 else None, np.int64(0), (np.int64(1),), frac=np.int64(20))
        return x.frac, y.frac, z.frac, (await s.reveal(y.transpose((0,)))).tolist()

    for fracs in simulate(2, program):
        assert fracs[:3] == (24, 20, 20)
        assert np.allclose(fracs[3], [3.0, -5.0], atol=2.0**-19)


@pytest.mark.parametrize("value", [np.nan, np.inf, [[1.0, -np.inf]]])
def test_constants_that_are_no_numbers_are_refused(value):
    async def program(s):
        for x in (numbers(s, 1, 2), await s.mask(numbers(s, 1, 2))):
            with pytest.raises(PrecisionError, match="is not a finite number"):
                x + value
            with pytest.raises(PrecisionError, match="numbers are needed"):
                x - "text"

    simulate(2, program)


def test_a_program_is_a_coroutine_function():
    for wrong in (lambda s: s.zero(1), lambda _: None, lambda s: s.index):
        with pytest.raises(ProgramError, match="a program is an `async def"):
            simulate(2, wrong)
        with pytest.raises(ProgramError, match="a program is an `async def"):
            estimate(wrong, 2)


ONE = "shapes= lists the shape of each array, as [(100, 3)] for one"
TAKES = "program(s, x, w=None, *, frac=20) cannot be called with a session and "


@pytest.mark.parametrize(
    ("shapes", "parameters", "texts"),
    [
        (
            (100, 3, 2),
            {},
            [f"{TAKES}arrays of shapes (100,), (3,), (2,): too many", "as [(100, 3, 2)] for one"],
        ),
        ((100, 3), {"w": 1.0}, [f"{TAKES}arrays of shapes (100,), (3,): multiple values for argument 'w'", ONE]),
        ((), {}, [f"{TAKES}no array: missing a required argument: 'x'. {ONE}"]),
        ([(4, 3)], {"ddof": 1}, [f"{TAKES}arrays of shapes (4, 3): got an unexpected keyword argument 'ddof'"]),
        (100, {}, ["such as [(100, 3)] for one, and is no int"]),
        (np.full((2, 2), 4711.5), {}, ["and is no ndarray"]),
        ("xy", {}, ["and is no str"]),
        ([np.full((2, 2), 4711.5)], {}, ["a shape is a number of elements, or a tuple of them, not ndarray"]),
        ([np.array([4711, -4711])], {}, ["a shape is a number of elements, or a tuple of them, not ndarray"]),
        ([(-1, 3)], {}, ["a shape is a number of elements, or a tuple of them, not (-1, 3)"]),
    ],
)
def test_an_estimate_says_what_its_program_takes(shapes, parameters, texts):
    """It was once a TypeError of Python's own, about a call that the user never made."""

    async def program(s, x: object, w: object = None, *, frac: int = 20) -> None:
        raise TypeError

    with pytest.raises(ProgramError) as caught:
        estimate(program, 3, shapes, **parameters)
    assert all(text in str(caught.value) for text in texts), caught.value
    assert "4711" not in str(caught.value)


def test_a_fault_of_the_estimated_program_passes_and_shapes_may_be_numbers_of_elements():
    async def program(s, x, **more):
        assert x.shape == (100,)
        raise TypeError(more["own"])

    with pytest.raises(TypeError, match="mine") as caught:
        estimate(program, 2, [100], own="mine")
    assert caught.type is TypeError


@pytest.mark.parametrize("what", MISUSES)
def test_misuse(what):
    call, message = MISUSES[what]

    async def program(s):
        with pytest.raises(ProgramError, match=message):
            await call(s)
        return dict(s.cost.sent), s.cost.rounds

    assert simulate(2, program) == [({}, 0)] * 2


def test_values_of_another_party_or_session_are_refused():
    strangers = []

    async def one(s):
        strangers.append(numbers(s, 2))

    simulate(2, one)

    async def program(s):
        for call in (mpc.mul, mpc.mul_trunc, mpc.matmul, mpc.dot):
            with pytest.raises(ProgramError, match="different sessions"):
                await call(s, numbers(s, 2), strangers[s.index], *([1] if call is mpc.mul_trunc else []))

    simulate(2, program)


@pytest.mark.parametrize("n", [2, 3])
def test_xor_with_public_bits(n):
    plain, public = np.array([[0, 0, 1], [1, 0, 1]], np.uint8), np.array([True, False, True])

    async def program(s):
        result = await mpc.xor(s, shared_bits(s, plain, 1), public)
        return result.words, await s.reveal(result)

    results = simulate(n, program)
    expected = plain ^ public
    assert np.array_equal(bits.unpack(np.bitwise_xor.reduce([words for words, _ in results]), 6).reshape(2, 3), expected)
    assert all(np.array_equal(revealed, expected) for _, revealed in results)


@pytest.mark.parametrize(("shape", "public"), [((1, 3), (4, 1)), ((2, 3), ()), ((), (5,)), ((0, 3), (3,)), ((130, 1, 2), (130, 63, 1))])
def test_xor_with_public_bits_broadcasts_both_ways(shape, public):
    generator = np.random.default_rng(3)
    plain, flips = generator.integers(0, 2, shape, dtype=np.uint8), generator.integers(0, 2, public).astype(bool)

    async def program(s):
        return await s.reveal(await mpc.xor(s, shared_bits(s, plain, 1), flips))

    for revealed in simulate(3, program):
        assert np.array_equal(revealed, plain ^ flips)


def test_public_bits_of_another_shape_at_one_party_are_a_disagreement():
    """They disagree although the results would be equal."""

    async def program(s):
        public = np.ones(2 if s.index == 0 else (2, 1), bool)
        await s.reveal(await mpc.xor(s, flags(s, 4).reshape(2, 2), public))

    with pytest.raises(mpc.Disagreement):
        simulate(2, program)


def test_other_public_bits_at_one_party_are_a_disagreement():
    async def program(s):
        public = np.array([True, s.index == 0])
        await s.reveal(await mpc.xor(s, flags(s, 2), public))

    with pytest.raises(mpc.Disagreement):
        simulate(2, program)


@pytest.mark.parametrize("op", [mpc.matmul, mpc.matmul_trunc])
def test_a_product_whose_bound_the_caller_knows(op):
    """Rows that sum to one keep a product small; a claim that is false is found in simulation."""
    drop = (20,) if op is mpc.matmul_trunc else ()

    def program(bound):
        async def body(s):
            x = s.input(np.full((4, 4), 1024.0) if s.index == 0 else None, 0, (4, 4), bound=2.0**11)
            w = s.input(np.full((4, 4), 0.25) if s.index == 1 else None, 1, (4, 4), bound=2.0**11)
            with pytest.raises(PrecisionError):
                await op(s, x, w, *drop)
            result = await op(s, x, w, *drop, bound=bound)
            assert result.bound <= bound + 2.0**-20
            return await s.reveal(result)

        return body

    for revealed in simulate(2, program(1024.0), check_bounds=True):
        assert np.allclose(revealed, 1024.0, atol=2.0**-19)
    with pytest.raises(ExceededBoundError):
        simulate(2, program(1000.0), check_bounds=True)


def test_an_op_takes_the_kind_of_secret_that_it_says_and_spends_no_mask_on_others():
    """Otherwise one mask word would hide many words of a share, and their XORs would be open."""

    async def program(s):
        x, b = shared(s, np.arange(3, dtype=np.uint64), 1), flags(s, 3)
        for call, text in (
            (lambda: mpc.b2a(s, x), "b2a takes BShare here, not AShare"),
            (lambda: mpc.not_(s, x), "not_ takes BShare here, not AShare"),
            (lambda: mpc.select(s, x, x), "select takes BShare here, not AShare"),
            (lambda: mpc.ltz(s, b), "ltz takes AShare or Masked here, not BShare"),
            (lambda: mpc.mul(s, x, 3.0), "mul takes AShare or Masked here, not float"),
            (lambda: mpc.mul(s, x, y=b), "mul takes AShare or Masked here, not BShare"),
            (lambda: s.reveal([x]), "reveal takes AShare or BShare here, not list"),
            (lambda: s.mask(b), "mask takes AShare here, not BShare"),
        ):
            with pytest.raises(ProgramError, match=text):
                await call()
        waiting = mpc.square(s, x)
        with pytest.raises(ProgramError, match="not coroutine; await it first"):
            await mpc.mul(s, x, waiting)
        waiting.close()
        return dict(s.cost.sent), s.cost.rounds

    assert simulate(2, program) == [({}, 0)] * 2


def test_secrets_of_another_session_are_no_operands_even_alone():
    kept = []

    async def one(s):
        x = shared(s, np.arange(3, dtype=np.uint64), 1)
        kept.append((x, await s.mask(x), flags(s, 3)))

    simulate(2, one)

    async def program(s):
        x, masked, b = kept[s.index]
        for call in (
            lambda: s.reveal(x),
            lambda: s.reveal(b),
            lambda: s.mask(x),
            lambda: mpc.mul(s, masked, masked),
            lambda: mpc.trunc(s, masked, 2),
            lambda: mpc.b2a(s, b),
        ):
            with pytest.raises(ProgramError, match="belong to different sessions or parties"):
                await call()
        return s.cost.rounds

    assert simulate(2, program) == [0, 0]


def test_factors_that_do_not_fit_a_signed_word_are_refused():
    async def program(s):
        x = numbers(s, 2)
        for secret in (x, await s.mask(x)):
            with pytest.raises(PrecisionError, match="2\\^63 or more"):
                secret * np.uint64(2**64 - 1)

    simulate(2, program)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_a_fraction_is_never_dropped_beside_whole_numbers(n):
    """A bit less 0.5 was that bit, and one less 1.5 was that bit less 2."""
    plain = np.array([3, -4, 0])

    async def program(s):
        x = s.input(plain if s.index == 0 else None, 0, 3, frac=0, bound=100)
        bit = await mpc.b2a(s, await mpc.ltz(s, x))
        for whole in (x, bit, await s.mask(x), x.ldexp(4)):
            for call in (lambda w: w + 0.5, lambda w: w - np.array([1.0, 2.0, 1.5]), lambda w: np.float32(0.25) - w):
                with pytest.raises(ProgramError, match="this share holds whole numbers"):
                    call(whole)
        finer = (bit * 2**20).ldexp(-20)
        with pytest.raises(ProgramError, match=r"20 and 0 fractional bits cannot be added; .* \(x \* 2\*\*20\)\.ldexp\(-20\)"):
            finer + x
        with pytest.raises(ProgramError, match=r"cannot be joined; truncate one, or give the other 20 more"):
            mpc.concatenate([x, finer])
        return [await s.reveal(each) for each in (x + 2.0, x - [1, 2, 3], finer - 0.5, finer + (x * 2**20).ldexp(-20))]

    for more, less, half, both in simulate(n, program, check_bounds=True):
        assert more.tolist() == [5, -2, 2]
        assert less.tolist() == [2, -6, -3]
        assert half.tolist() == [-0.5, 0.5, -0.5]
        assert both.tolist() == [3.0, -3.0, 0.0]
