"""The exact cost of every workload of the benchmark, and the speed of the hot kernels relative to numpy on the same machine."""

from __future__ import annotations

import time

import numpy as np
import pytest

from mpc import fixed_point
from mpc.kernels import bits, carry, products
from mpc.ops.arithmetic import beaver
from mpc.ops.declare import CHUNK
from mpc.ops.quotients import truncated
from mpc.prg import Stream
from mpc.testing import simulate
from parties.bench.catalogue import WORKLOADS

PARTIES = (2, 3, 4, 5)
COSTS = {
    "W1": (1000, (1, 8000, 0), (1, 16000, 0), (1, 24000, 0), (1, 32000, 0)),
    "W2": (1000, (2, 56, 0), (2, 112, 0), (2, 168, 0), (2, 224, 0)),
    "W3": (5000, (2, 120000, 60000), (2, 240000, 60000), (4, 180000, 60000), (4, 192000, 60000)),
    "W4": (5000, (4, 61488, 207928), (4, 122976, 207928), (5, 124464, 207928), (5, 149952, 207928)),
    "W5": (24, (2, 13824, 6912), (2, 27648, 6912), (2, 41472, 6912), (2, 55296, 6912)),
    "W5-vector": (100, (2, 104224, 1536), (2, 208448, 1536), (3, 157872, 1536), (3, 169216, 1536)),
    "W6": (20, (2, 184, 4912), (2, 368, 4912), (2, 552, 4912), (2, 736, 4912)),
    "W6-fixed": (10, (5, 384, 3556), (5, 768, 3556), (5, 1152, 3556), (5, 1536, 3556)),
    "W6-fine": (10, (6, 392, 1676), (6, 784, 1676), (6, 1176, 1676), (6, 1568, 1676)),
    "W7": (256, (7, 210048, 161696), (7, 420096, 161696), (8, 322944, 161696), (8, 348672, 161696)),
    "W9": (300, (13, 13768, 107976), (13, 27536, 107976), (13, 41304, 107976), (13, 55072, 107976)),
    "W10": (1000, (68, 1787128, 1371032), (68, 3574256, 1371032), (69, 5301384, 1371032), (69, 7052512, 1371032)),
    "W10-columns": (1000, (74, 2001376, 1380032), (74, 3862224, 1382636), (75, 5639928, 1383932), (75, 7441984, 1384712)),
}
"""Workload: size, then rounds, bytes sent by a party and bytes from the dealer for each of PARTIES."""


def cost(key, size, n):
    """Rounds, the most bytes that a party sends, and the bytes of all corrections."""
    workload = WORKLOADS[key](n, size)

    async def program(s):
        data = workload.load(s, workload.own(s.index))
        outcome = await workload.run(s, data)
        measured = s.cost.rounds, sum(s.cost.sent.values()), s.cost.corrections
        error = workload.error(await workload.reveal(s, outcome))
        assert error <= workload.allowed, (key, n, error)
        return measured

    rounds, payload, corrections = zip(*simulate(n, program), strict=True)
    return max(rounds), max(payload), sum(corrections)


def test_every_workload_has_its_costs():
    assert list(COSTS) == list(WORKLOADS)


@pytest.mark.parametrize("key", COSTS)
def test_costs(key):
    size, *known = COSTS[key]
    assert [cost(key, size, n) for n in PARTIES] == known


# -- kernels -----------------------------------------------------------------------------------------------------

REPEATS = 15
SIDE = 256
_words = Stream(bytes(32), ("kernels",)).words(0, (2, CHUNK))
_blocks, _width = bits.grid(CHUNK)
_rho = Stream(bytes(32), ("rho",)).words(0, (sum(carry.SIGN_OPENED) * _blocks * _width,))
_material = carry.sign_material(bits.blocked(_words[0]))
_tree = carry.sign_tree(_rho, _blocks)
_square = _words.reshape(-1)[: SIDE * SIDE].reshape(SIDE, SIDE)
_real = np.ldexp(_square.view(np.int64).astype(np.float64), -64)
_top = _words[0].astype(np.uint32)
_floats = np.ldexp(_words[0].view(np.int64).astype(np.float64), -44)


def compare_first():
    """The first party's work on a chunk of comparisons, whatever is opened."""
    party = carry.LessThanZero(first=True)
    return party.finish(party.merge(party.start(_words[1], _material, _rho), _tree))


def numpy_pass():
    """A pass of numpy over a chunk: two operands, one result."""
    return _words[0] + _words[1]


def numpy_matmul():
    return _real @ _real


KERNELS = {
    "expand a stream": (lambda: Stream(bytes(32), ("k",)).slice(0, 0, CHUNK), numpy_pass, 5),
    "encode": (lambda: fixed_point.encode(_floats), numpy_pass, 9),
    "decode": (lambda: fixed_point.decode(_words[0]), numpy_pass, 4),
    "multiply": (lambda: beaver(*_words, *_words, "mul", first=True), numpy_pass, 14),
    "truncate": (lambda: truncated(*_words, _top, 20, first=True), numpy_pass, 16),
    "deal comparisons": (lambda: carry.sign_material(bits.blocked(_words[0])), numpy_pass, 42),
    "deal their merges": (lambda: carry.sign_tree(_rho, _blocks), numpy_pass, 13),
    "compare": (compare_first, numpy_pass, 105),
    "multiply matrices": (lambda: products.matmul(_square, _square), numpy_matmul, 32),
}
"""Kernel: what it does, what numpy does, and how many times longer the kernel may take: little more than double of what was measured."""


def best(*calls):
    """The least of several CPU times of this thread, for each call; the calls take turns, so that all meet the same machine."""
    least = [float("inf")] * len(calls)
    for _ in range(REPEATS):
        for number, call in enumerate(calls):
            start = time.thread_time()
            call()
            least[number] = min(least[number], time.thread_time() - start)
    return least


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_are_fast_beside_numpy(name):
    kernel, reference, limit = KERNELS[name]
    taken, plain = best(kernel, reference)
    assert taken < limit * plain, f"{name} takes {taken / plain:.1f} times as long as numpy's pass, and may take {limit} times"
