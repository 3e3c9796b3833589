"""Functions of numpy on shares: what is local does with a share what it does with an array; the rest name the call that does it."""

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
    ]
    if shape:
        axis = int(rng.integers(-len(shape), len(shape)))
        calls += [
            lambda x: np.sum(x, axis, keepdims=True),
            lambda x: np.concatenate((x, 2 * x), axis),
            lambda x: np.stack([x, 2 * x], axis=axis),
        ]
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


ELSEWHERE = {
    "await mpc.scale(s, x.sum(axis=0), 1 / rows)": [np.mean, lambda x: x.mean(axis=0)],
    "await mpc.matmul(s, x, y) of matrices": [lambda x: np.dot(x, X.T), lambda x: np.dot(X.T, x), lambda x: x.dot(X.T)],
    "await protocols.maximum(s, x)": [np.max, lambda x: x.max()],
    "await protocols.select(s, bit, x, y)": [lambda x: np.where([True, False, True], x, 0)],
    "mpc.concatenate(shares, axis=0)": [lambda x: np.vstack([x, x])],
    "mpc.concatenate(shares, axis=1)": [lambda x: np.hstack([x, x])],
    "list the calls that do": [np.cumsum, np.zeros_like],
    "takes less of a secret than of an array: got an unexpected keyword argument 'dtype'": [lambda x: np.sum(x, dtype=float)],
    "only AShares are joined, not ndarray": [lambda x: np.concatenate([x, X])],
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
