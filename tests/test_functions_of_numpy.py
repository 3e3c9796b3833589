"""Functions of numpy on shares: local ones do what they do with an array; the others name the call to use instead."""

from __future__ import annotations

import numpy as np
import pytest

import mpc
from mpc import ProgramError
from mpc.testing import simulate
from tests.test_calls_of_numpy import X, share


def random_calls(rng):
    """A shape, and calls of numpy on arrays of it."""
    shape = tuple(rng.integers(0, 4, rng.integers(0, 4)).tolist())
    order = rng.permutation(len(shape)).tolist()
    some = tuple(order[: rng.integers(0, len(shape) + 1)])
    calls = [
        np.sum,
        np.ravel,
        np.transpose,
        np.shape,
        np.size,
        lambda x: x.flatten(),
        lambda x: np.transpose(x, order),
        lambda x: np.reshape(x, (1, -1) if np.size(x) else (0, 3)),
        lambda x: np.sum(x, keepdims=True),
        lambda x: np.sum(x, some),
        lambda x: x.sum(axis=some, keepdims=True),
        lambda x: np.expand_dims(x, (0, -1)),
        np.squeeze,
        np.flip,
        np.cumsum,
        lambda x: np.tile(x, (2, 1)),
        lambda x: np.roll(x, 1),
        lambda x: np.repeat(x, 2),
        lambda x: np.take(x, np.arange(np.size(x))[::-2]),
        lambda x: np.broadcast_to(x, (2, *np.shape(x))),
    ]
    if shape:
        axis = int(rng.integers(-len(shape), len(shape)))
        calls += [
            lambda x: np.sum(x, axis, keepdims=True),
            lambda x: np.concatenate((x, 2 * x), axis),
            lambda x: np.stack([x, 2 * x], axis=axis),
            lambda x: np.swapaxes(x, axis, 0),
            lambda x: np.moveaxis(x, 0, axis),
            lambda x: np.flip(x, axis),
            lambda x: np.flipud(x),
            lambda x: np.cumsum(x, axis),
            lambda x: np.roll(x, -1, axis),
            lambda x: np.repeat(x, np.arange(shape[axis]), axis=axis),
            lambda x: np.take(x, np.arange(shape[axis])[::-1].reshape(-1, 1), axis=axis),
            lambda x: np.delete(x, slice(1, None, 2), axis),
            lambda x: np.array_split(x, 2, axis)[1],
            lambda x: np.split(x, [1, 2], axis=axis)[-1],
        ]
    if len(shape) > 1:
        offset = int(rng.integers(-3, 4))
        calls += [
            np.fliplr,
            lambda x: np.diagonal(x, offset),
            lambda x: np.trace(x, offset, -1, 0),
        ]
    if len(shape) < 3 and 0 not in shape and shape:
        calls += [np.diag, lambda x: np.diag(x, -1), lambda x: np.diag(x, 2)]
    return shape, calls


def test_functions_of_numpy_that_are_local_do_with_a_share_what_they_do_with_an_array():
    rng = np.random.default_rng(0)
    cases = [(np.asarray(rng.integers(-9, 9, shape)), calls) for shape, calls in (random_calls(rng) for _ in range(25))]

    async def program(s):
        for values, calls in cases:
            x = share(s, values, frac=0, bound=9.0)
            for call in calls:
                given, expected = call(x), call(values)
                if not isinstance(given, mpc.AShare):
                    assert given == expected
                    continue
                assert given.bound >= np.max(np.abs(expected), initial=0)
                assert np.array_equal(await s.reveal(given), expected), (values.shape, call)

    simulate(2, program, check_bounds=True)


async def masked_too(s, values):
    x = share(s, values, frac=0, bound=9.0)
    return x, await s.mask(x)


def test_a_masked_value_is_summed_over_several_axes_under_its_own_mask():
    values = np.arange(-6, 6).reshape(2, 1, 6)[:, :, :4]

    async def program(s):
        x, masked = await masked_too(s, values)
        for call in (lambda x: np.sum(x, (2, 0)), lambda x: x.sum(keepdims=True), lambda x: np.ravel(np.transpose(x, [2, 0, 1]))):
            assert call(masked).shape == call(values).shape
            assert np.array_equal(await s.reveal(call(masked).share()), call(values))
            assert np.array_equal(await s.reveal(await mpc.square(s, call(masked))), call(values) ** 2)

    simulate(3, program, check_bounds=True)


VIEWS = {
    "axes": lambda x: np.moveaxis(np.expand_dims(x, 1), -1, 0),
    "swapped": lambda x: np.swapaxes(np.squeeze(x[:1]), 0, 1),
    "flipped": lambda x: np.flip(x, (0, -1)),
    "a row": lambda x: np.take(x, -1, axis=1),
    "parts": lambda x: np.split(x, 3, axis=1)[1],
    "diagonals": lambda x: np.diagonal(x, 1, 2, 1),
    "of a matrix": lambda x: np.diag(x[1], -1),
}
"""What has a name as a part of the whole, so that a masked value has it, too; and bits."""


@pytest.mark.parametrize("what", VIEWS)
def test_what_only_moves_elements_is_a_view_of_a_masked_value_and_of_bits(what):
    values = np.arange(24).reshape(2, 3, 4) % 7 - 3
    call = VIEWS[what]

    async def program(s):
        x, masked = await masked_too(s, values)
        bits = await mpc.ltz(s, x)
        assert (await s.reveal(call(bits))).tolist() == call(values < 0).tolist()
        return await s.reveal(await mpc.square(s, call(masked)))

    for squares in simulate(2, program, check_bounds=True):
        assert np.array_equal(squares, call(values) ** 2)


def test_a_trace_of_a_masked_matrix_keeps_its_mask():
    values = np.arange(12).reshape(3, 4)

    async def program(s):
        _, masked = await masked_too(s, values - 4)
        return await s.reveal(await mpc.square(s, np.trace(masked)))

    assert [int(each) for each in simulate(2, program)] == [np.trace(values - 4) ** 2] * 2


@pytest.mark.parametrize("n", [2, 3])
def test_bits_are_joined_stacked_and_transposed_as_numpy_does(n):
    """Words of bits begin anew with each part: what is joined is packed again."""
    rng = np.random.default_rng(5)
    small, large = rng.integers(-9, 9, (2, 3, 5)), rng.integers(-9, 9, 20_000)
    calls = [
        (lambda b, c: np.concatenate([b, b[:1], c[:0]]), small),
        (lambda b, c: np.concatenate((b, c), axis=-1), small),
        (lambda b, c: np.concatenate([b[:3], c, b]), large),
        (lambda b, c: np.stack([b, c], axis=2), small),
        (lambda b, c: np.stack([b[0, 0, 0], c[1, 1, 1]]), small),
        (lambda b, c: b.transpose(2, 0, 1), small),
        (lambda b, c: c.T, small),
        (lambda b, c: np.tile(b, (1, 2, 1)), small),
    ]

    async def program(s):
        found = []
        for call, values in calls:
            bits = await mpc.ltz(s, share(s, values, frac=0, bound=9.0))
            found.append(await s.reveal(call(bits, await mpc.not_(s, bits))))
        return found

    for results in simulate(n, lambda s: s.run(program)):
        for result, (call, values) in zip(results, calls, strict=True):
            assert np.array_equal(result, call(values < 0, values >= 0))


def test_bits_joined_in_another_order_are_a_disagreement():
    async def program(s):
        bits = await mpc.ltz(s, share(s, [[1, -1], [-1, 1]], frac=0))
        await s.reveal(mpc.concatenate([bits[s.index], bits[1 - s.index]]))

    with pytest.raises(mpc.Disagreement):
        simulate(2, program)


OPERATORS = [
    lambda x: np.add(x, x),
    lambda x: np.add(x, 3),
    lambda x: np.subtract(7, x),
    lambda x: np.subtract(x, np.arange(3)),
    lambda x: np.negative(x),
    lambda x: np.positive(x),
    lambda x: +x,
    lambda x: np.multiply(x, 2),
    lambda x: np.multiply(np.int64(-3), x),
    lambda x: np.ones((2, 3), int) + x,
    lambda x: np.arange(3) - x,
    lambda x: np.float64(2.0) - x,
    lambda x: np.int8(3) * x,
    lambda x: np.array(3) + x,
]


@pytest.mark.parametrize("masked", [False, True])
def test_elementwise_functions_of_numpy_that_are_operators_do_what_those_do(masked):
    values = np.arange(-3, 3).reshape(2, 3)

    async def program(s):
        x = (await masked_too(s, values))[masked]
        found = [call(x) for call in OPERATORS]
        return [await s.reveal(each.share() if masked else each) for each in found]

    for results in simulate(2, program, check_bounds=True):
        for result, call in zip(results, OPERATORS, strict=True):
            assert np.array_equal(result, call(values))


def test_a_frame_on_the_left_leaves_the_operation_to_the_share():
    pandas = pytest.importorskip("pandas")
    values = np.arange(6).reshape(2, 3)

    async def program(s):
        x, masked = await masked_too(s, values)
        frame = pandas.DataFrame(values)
        found = [frame + x, frame - x, np.add(frame, x), np.subtract(frame, masked).share(), frame[1] + x[:, 0], np.add(frame[1], x[:, 0])]
        return [await s.reveal(each) for each in found]

    zeros = np.zeros((2, 3))
    for results in simulate(2, program):
        for result, expected in zip(results, [2 * values, zeros, 2 * values, zeros, [1, 7], [1, 7]], strict=True):
            assert np.array_equal(result, expected)


def _in_place(x):
    total = np.zeros(x.shape, int)
    total += x


REFUSED = {
    "await protocols.less_than(s, x, y)": [lambda x: np.less(x, 1), lambda x: np.zeros(3) < x],
    "await protocols.less_than(s, y, x)": [lambda x: np.greater(x, 1)],
    "await protocols.equal(s, x, y)": [lambda x: np.zeros(3) == x, lambda x: np.not_equal(x, 1)],
    "await protocols.relu(s, x)": [lambda x: np.maximum(x, 0)],
    "there is no protocol for it: docs/protocols.md says": [np.exp, np.log, np.sqrt, np.floor, lambda x: np.add.at(np.zeros(3), 0, x)],
    "add.reduce does not work on a secret such as this": [np.add.reduce],
    "give x[:, None] and y to the operator": [lambda x: np.add.outer(x, x)],
    "takes less of a secret than of an array: got where=": [lambda x: np.add(x, x, where=True)],
    "for a += x write a = a + x": [lambda x: np.add(np.zeros(3), x, out=np.zeros(3)), _in_place],
    "does not fit a secret of this shape: ": [
        lambda x: np.squeeze(x, 0),
        lambda x: np.split(x, 2, 1),
        lambda x: np.broadcast_to(x, (9, 9)),
        lambda x: np.split(x, 0),
        lambda x: np.take(x, [9]),
        lambda x: np.trace(x, "a"),
    ],
    "numpy's tile does not work": [lambda x: np.tile(X, x)],
    "membership of this": [lambda x: 1 in x],
}
OF_NUMBERS = {
    "the absolute value of secrets needs the network": [np.abs],
    "a quotient of secrets needs the network: await mpc.scale(s, x, 1 / divisor)": [lambda x: x / 2, lambda x: np.divide(x, 2.0)],
    "a quotient by a secret has no protocol here; by what is public: await mpc.scale(s, x, 1 / divisor)": [
        lambda x: x / x,
        lambda x: 1 / x,
        lambda x: np.divide(1.0, x),
    ],
    "division with a remainder has no protocol": [lambda x: x % 2, lambda x: x // 2, lambda x: divmod(x, 2), lambda x: np.divmod(2.0, x)],
    "x.ldexp(-k) is x / 2**k": [lambda x: x << 1, lambda x: x >> 1, lambda x: 1 << x],
    "rounding has no protocol": [round, lambda x: round(x, 2)],
    "await mpc.trunc(s, x, bits) drops": [np.round],
    "a power with a secret exponent has no protocol": [lambda x: 2**x, lambda x: np.float64(2.0) ** x],
    "a power of secrets needs the network: await mpc.square(s, x)": [lambda x: x**2, lambda x: np.power(x, 2)],
    "logic on the bits of numbers has no protocol": [
        lambda x: x & 1,
        lambda x: ~x,
        lambda x: np.bitwise_xor(x, x),
        lambda x: np.ones(3, int) | x,
    ],
    "w @ x with public integers": [lambda x: np.ones((2, 2), int) @ x, lambda x: np.matmul(np.ones((2, 2), int), x)],
}
OF_BITS = {
    "arithmetic on bits is a call: await mpc.b2a(s, bits)": [
        lambda b: np.add(b, b),
        lambda b: np.ones(3) - b,
        *[call for calls in list(OF_NUMBERS.values())[:-3] for call in calls if call is not np.round],
        abs,
        lambda b: +b,
        lambda b: b @ b,
        np.cumsum,
    ],
    "AND of bits is a call": [lambda b: np.bitwise_and(b, b)],
}


def refused(texts, x):
    for text, calls in texts.items():
        for call in calls:
            with pytest.raises(ProgramError) as fault:
                call(x)
            assert text in str(fault.value)
            assert "reveal" not in str(fault.value)


def test_what_elementwise_functions_and_operators_cannot_do_names_the_call_that_does():
    async def program(s):
        for x in await masked_too(s, np.zeros((2, 3), int)):
            refused(REFUSED | OF_NUMBERS, x)
        refused({"shares have it: x.share() of a Masked is one": [np.cumsum, lambda x: x.cumsum(axis=0)]}, x)
        refused(REFUSED | OF_BITS, await mpc.ltz(s, s.zero((2, 3))))

    simulate(2, program)


ELSEWHERE = {
    "await mpc.scale(s, x.sum(axis), 1 / count)": [np.mean, lambda x: x.mean(axis=1)],
    "await mpc.matmul(s, x, y) of matrices": [lambda x: np.dot(x, X.T), lambda x: np.dot(X.T, x), lambda x: x.dot(X.T)],
    "await protocols.maximum(s, x)": [np.max, lambda x: x.max()],
    "await protocols.select(s, bit, x, y)": [lambda x: np.where([True, False, True], x, 0)],
    "mpc.concatenate(shares, axis=0)": [lambda x: np.vstack([x, x])],
    "mpc.concatenate(shares, axis=1)": [lambda x: np.hstack([x, x])],
    "list the calls that do; what only moves elements is an index": [np.rot90, np.median],
    "s.zero(x.shape, frac=x.frac)": [np.zeros_like],
    "takes less of a secret than of an array: got an unexpected keyword argument 'dtype'": [lambda x: np.sum(x, dtype=float)],
    "concatenate takes AShare here, not ndarray; s.zero(shape) + numbers is a share of public ones": [lambda x: np.concatenate([x, X])],
}


@pytest.mark.parametrize("text", ELSEWHERE)
def test_a_function_of_numpy_that_is_none_of_a_share_names_the_call_and_never_reveal(text):
    async def program(s):
        for call in ELSEWHERE[text]:
            with pytest.raises(ProgramError) as refused:
                call(share(s, X))
            assert text in str(refused.value)
            assert "reveal" not in str(refused.value)

    simulate(2, program)


@pytest.mark.parametrize("join", [np.concatenate, np.stack, np.vstack])
def test_one_share_is_no_list_of_shares_to_join(join):
    async def program(s):
        for x in (*await masked_too(s, X), await mpc.ltz(s, s.zero((2, 3)))):
            with pytest.raises(ProgramError, match="iteration of this .*; numpy joins a list of shares"):
                join(x)

    simulate(2, program)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 2)])
@pytest.mark.parametrize("function", [np.vstack, np.hstack])
def test_what_is_named_in_place_of_a_function_joins_as_that_does(function, shape):
    values = np.arange(np.prod(shape)).reshape(shape)

    async def program(s):
        shares = [share(s, values, frac=0), share(s, 10 * values, frac=0)]
        with pytest.raises(ProgramError) as refused:
            function(shares)
        many, flat = str(refused.value).split("; ")[-2:]
        call = flat.removeprefix("of 1-d shares, ") if len(shape) == 1 else many
        return await s.reveal(eval(call, {"mpc": mpc, "shares": shares}))  # noqa: S307  the text of our own error

    assert all(np.array_equal(found, function([values, 10 * values])) for found in simulate(2, program))


@pytest.mark.parametrize("shapes", [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((2, 3), (3, 4))])
@pytest.mark.parametrize("secret", [0, 1])
def test_what_is_named_in_place_of_a_product_with_public_integers_is_that_product(shapes, secret):
    factors = [np.arange(np.prod(shape)).reshape(shape) - 2 for shape in shapes]

    async def program(s):
        x, w = share(s, factors[secret], frac=0, bound=16.0), factors[1 - secret]
        with pytest.raises(ProgramError) as refused:
            _ = w @ x if secret else x @ w
        left, right = ("w", "x") if secret else ("x", "w")
        _, formulas = str(refused.value).split(f"{left} @ {right} with public integers w is ")
        vector, matrix = (text.split(" for a ")[0] for text in formulas.split(", ("))
        call = vector if len(shapes[1]) == 1 else f"({matrix}"
        return await s.reveal(eval(call, {"x": x, "w": w}))  # noqa: S307  the text of our own error

    assert all(np.array_equal(found, factors[0] @ factors[1]) for found in simulate(2, program, check_bounds=True))
