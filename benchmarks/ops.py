"""CPU time of every op in all roles together, next to plain numpy: `python benchmarks/ops.py [op ...]`.

Two parties and the dealer share one process (`simulate(2)`), so its CPU time is that of all roles, with sealing, opening and the dealer's
work.  Every figure is the best of several repetitions, on shares and on Masked operands.  *Moved* are the bytes that the roles must move:
operands and result of every party, the masks and shares that parties and dealer expand, and what is sent, received and corrected; for
numpy, its operands and result.  The last column is CPU time per byte moved over numpy's.  Operands are larger than common caches, so that
bytes do move, also for numpy.  These are figures of one machine at one moment: compare ratios, not absolutes.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import mpc
from mpc.kernels import bits
from mpc.naming.scope import within
from mpc.ring import WORD, Words
from mpc.testing import simulate
from parties.run import keep_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpc.op_session import OpSession

N = 2
SIZE = 1 << 23
SIDE = 1 << 9
BOUND = 1 << 16
REPEATS = 3
PARAMETERS: dict[str, tuple[Any, ...]] = {"trunc": (20,), "mul_trunc": (20,), "matmul_trunc": (20,), "scale": (1.5, 4)}
TWO = {"mul", "matmul", "dot", "mul_trunc", "matmul_trunc"}
BITS = {"xor": 2, "and_": 2, "or_": 2, "not_": 1, "b2a": 1, "select": 1}
REFERENCES: dict[str, Callable[..., Any]] = {
    "mul": np.multiply,
    "matmul": np.matmul,
    "dot": np.dot,
    "square": np.square,
    "trunc": lambda x: x >> 20,
    "mul_trunc": lambda x, y: x * y >> 20,
    "matmul_trunc": lambda x, y: x @ y >> 20,
    "scale": lambda x: x * 24 >> 4,
    "ltz": lambda x: x < 0,
    "eqz": lambda x: x == 0,
    "b2a": lambda b: b.astype(np.int64),
    "select": lambda b, x: np.where(b, x, 0),
    "and_": np.logical_and,
    "or_": np.logical_or,
    "xor": np.logical_xor,
    "not_": np.logical_not,
}


class Figure(NamedTuple):
    """Seconds of CPU, bytes on the network and bytes moved."""

    seconds: float
    network: int
    moved: int


def shape_of(name: str) -> tuple[int, ...]:
    """Return the shape of an operand: SIZE elements, or square matrices for a matrix product."""
    return (SIDE, SIDE) if name.startswith("matmul") else (SIZE,)


def plain(name: str) -> list[Any]:
    """Return operands for numpy: words, and bits as numpy has them."""
    shape = shape_of(name)
    numbers = [np.arange(number, number + int(np.prod(shape))).reshape(shape) % BOUND for number in range(2)]
    flags = [numbers[number] % (2 + number) == 0 for number in range(BITS.get(name, 0))]
    return [*flags, numbers[0]] if name == "select" else flags or numbers[: 1 + (name in TWO)]


def reference(name: str) -> Figure:
    """Measure numpy on the same operands."""
    operands, best = plain(name), float("inf")
    for _ in range(1 if name.startswith("matmul") else 4 * REPEATS):
        start = time.process_time()
        result = REFERENCES[name](*operands)
        best = min(best, time.process_time() - start)
    return Figure(best, 0, sum(array.nbytes for array in (*operands, np.asarray(result))))


async def operands_of(s: mpc.Session, name: str, *, masked: bool) -> list[Any]:
    """Return shares, or Masked values if the op takes them."""
    ops: OpSession = within(s)
    operands: list[Any] = []
    for lineage, array in enumerate(plain(name), 1):
        if array.dtype == np.bool_:
            words: Words = bits.pack(array) if ops.first else np.zeros(bits.word_count(array.size), WORD)
            operands.append(ops.bit_share(words, array.shape, lineage))
            continue
        words = array.view(WORD) if ops.first else np.zeros(array.shape, WORD)
        share = ops.share(words, frac=0, bound=float(BOUND), lineage=lineage)
        operands.append(await s.mask(share) if masked else share)
    return operands


def moved(operands: list[Any], result: Any, payload: int, dealt: int) -> int:
    """Return the bytes that all roles move: see above."""
    own: int = sum(8 * x.words.size if hasattr(x, "words") else 16 * x.size for x in (*operands, result))
    # Openings: the party and the dealer expand the mask, the message is sent and received.
    opened = N * payload * 4
    # Corrections: each party's share, and the dealer's value and all shares but one.
    return N * own + opened + dealt * (N + N)


def measured(name: str, *, masked: bool) -> Figure:
    """Measure the op in a simulation of N parties."""
    figures: list[Figure] = []
    idle: list[float] = []

    async def program(s: mpc.Session) -> None:
        operands = await operands_of(s, name, masked=masked)
        parameters = PARAMETERS.get(name, ())
        dealer = mpc.OPS[name].cost(N, *operands, *parameters).dealer
        for _ in range(REPEATS):
            # A reveal before and after, so that the other roles' part of the work falls in between; the cost of the reveals is subtracted.
            await s.reveal(s.zero(()))
            start = time.process_time()
            await s.reveal(s.zero(()))
            middle, payload = time.process_time(), s.cost.payload
            result = await mpc.OPS[name].call(s, *operands, *parameters)
            sent = s.cost.payload - payload
            await s.reveal(s.zero(()))
            if s.index == 0:
                idle.append(middle - start)
                figures.append(Figure(time.process_time() - middle, N * sent + dealer, moved(operands, result, sent, dealer)))

    simulate(N, program)
    best = min(figures)
    return best._replace(seconds=max(best.seconds - min(idle), 0.0))


def row(name: str, *, masked: bool, plainly: Figure) -> str:
    """Return one line of the report."""
    figure = measured(name, masked=masked)
    elements = int(np.prod(shape_of(name)))
    each = [one.seconds / one.moved for one in (figure, plainly)]
    return (
        f"{name + (' masked' if masked else ''):<20} {figure.seconds * 1e3:9.1f} {figure.seconds / elements * 1e9:9.1f}"
        f" {figure.network / elements:9.2f} {figure.moved / elements:9.1f} {plainly.seconds / elements * 1e9:9.2f}"
        f" {figure.seconds / plainly.seconds:9.1f} {each[0] / each[1]:9.1f}"
    )


def main(names: list[str]) -> None:
    """Print one line for each op, and a second with Masked operands if the op takes them.  Memory is kept, as in Beaver's own processes."""
    keep_memory()
    print(f"{'':<20} {'CPU ms':>9} {'ns/elem':>9} {'net B':>9} {'moved B':>9} {'numpy ns':>9} {'ratio':>9} {'per byte':>9}")
    for name in names or mpc.OPS:
        plainly = reference(name)
        for masked in (False, True)[: 2 if name not in BITS or name == "select" else 1]:
            print(row(name, masked=masked, plainly=plainly), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
