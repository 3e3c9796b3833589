"""Calls that make no sense are errors of the program, before anything is sent; public bits and bounds that the caller knows."""

from __future__ import annotations

import numpy as np
import pytest

import mpc
from mpc import PrecisionError, ProgramError, bits
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
    """Else one mask word would hide many words of a share, and its XORs would be open."""

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
