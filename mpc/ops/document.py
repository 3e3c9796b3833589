"""The table of all ops for docs/ops.md, made from their declarations: `python -m mpc.ops.document > docs/ops.md`."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING

from mpc.ops.arithmetic import mask_cost
from mpc.ops.declare import OPS, Like, Op
from mpc.papers import PAPERS
from mpc.ring import count
from mpc.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 1 << 14
SIDE = 1 << 7
"""The side of the square matrices of a matrix product, so that operands and result have SIZE elements each."""
SHAPES = {"matmul": (SIDE, SIDE), "matmul_trunc": (SIDE, SIDE)}
PARAMETERS = {"drop": 20, "factor": 1.5}

MASK = Op("mask", Session.mask, mask_cost, "turbospeedz", "x - a, uniform", "nothing")
"""A call of the session, listed here since every op on shares begins with it."""

HEAD = """# Ops: what each costs and shows

The building blocks of `import mpc`; [protocols.md](protocols.md) has what is made of them.

Generated from the declarations of the ops by `python -m mpc.ops.document`; a test keeps it up to date. Every op declares its cost as
integers, and the tests find the measured cost equal to it, for n = 2 to 5, so this table is a contract.

Rounds are simultaneous exchanges. Bytes are payload, per element and peer, of an opening by n = 2 or 3 parties: what a party sends to each
of the others. Dealer bytes are per element and in all, to whichever party the name of the relation chooses. An element is one of the
result; for `dot`, one of each vector. All three are for 2^14 elements, for a matrix product for two 128 x 128 matrices. The second figure
of a pair is for Masked operands.

With n > 3 parties an opening of 4096 words or more uses reduce-scatter and then all-gather: one round more for each, and 16/n bytes in
place of 8.

The row of `scale` is for one truncation. A small factor of a share with a large bound takes two: one more round, and twice the bytes, to
peers (8 with a Masked) and of the dealer. The docstring of `scale` says when.

Some results remember their origin, so that later ops on them cost less:

- A result of `trunc`, `mul_trunc` or `matmul_trunc`, of up to 2^17 elements, counts as masked in a `mul_trunc` with a Masked of its shape:
  one round, 8 bytes, and 24 bytes of the dealer in place of 12. It also counts as masked as the second factor of a `matmul_trunc` whose
  first factor is Masked or such a result, if the products of single elements are few: the docstring of `matmul_trunc` says how many. For
  few elements, several such products are opened together; the docstring of `mul_trunc` says when.
- A result of `mul` of two operands of one shape remembers its masked factors. A further `mul` with a Masked of that shape costs no round,
  and 8 (2^k - 1 - k) bytes of the dealer per element for k factors in all, as long as k is at most 12 and 2^k times the number of elements
  at most 2^13. The bytes are due only once something reads the result, which a further product does not. An operand that is not masked yet
  is masked beside the program, and only readers of the result wait. Beyond these limits, groups of factors are opened beside the program;
  the docstring of `mul` says when.

`and_` is for two operands; for three it takes 0.375 bytes and 0.5 of the dealer, for four 0.5 and 1.375. The words of a private input go
from its owner alone to each other party, in one round, whatever n is.
"""

TAIL = """
Every opened value is uniform, whatever the secrets are: it is hidden under a mask that is spent on it alone (`tests/test_ops_views.py`).
The dealer learns which ops run, on which shapes, and when. Whoever learns the exact result of a truncation may learn one comparison on
the dropped bits; what the protocol opens tells nobody that.

"""


def table() -> Iterator[str]:
    """The lines of the table."""
    yield "| op | source | rounds | bytes per element and peer | dealer bytes per element | opened | leaks |"
    yield "|---|---|---|---|---|---|---|"
    for op in (MASK, *OPS.values()):
        shares, masked = _costs(op, masked=False), _costs(op, masked=True)
        figures = [one if one == other else f"{one} ({other})" for one, other in zip(shares, masked, strict=True)]
        yield f"| `{_call(op)}` | {op.source} | {' | '.join(figures)} | {op.opens} | {op.leaks} |"


def _parameters(op: Op) -> list[inspect.Parameter]:
    """The parameters on which the cost depends: all but the session and keywords."""
    return [parameter for parameter in inspect.signature(op.call).parameters.values() if parameter.kind is not parameter.KEYWORD_ONLY][1:]


def _call(op: Op) -> str:
    # Python writes a variadic parameter with its star.
    operands = ", ".join(map(str, _parameters(op))).replace("'", "").replace("|", "or")
    return f"{op.name}({operands}) -> {inspect.signature(op.call).return_annotation}"


def _costs(op: Op, *, masked: bool) -> list[str]:
    """Rounds, bytes per element and peer, dealer bytes per element."""
    shape = SHAPES.get(op.name, (SIZE,))
    # Bits are never masked, so an op on bits alone has one cost.
    arguments = [
        PARAMETERS[parameter.name] if parameter.name in PARAMETERS else Like(shape, masked and "Masked" in str(parameter.annotation))
        for parameter in _parameters(op)
        if parameter.kind is not parameter.VAR_POSITIONAL
    ]
    cost = op.cost(2, *arguments)
    return [str(cost.rounds), *(_each(size, count(shape)) for size in (cost.payload, cost.dealer))]


def _each(size: int, elements: int) -> str:
    """Bytes per element; if they do not grow with the elements, bytes in all."""
    return f"{size / elements:.6g}" if size >= elements / 8 or not size else f"{size} in all"


def _sources() -> Iterator[str]:
    for key in sorted({op.source for op in OPS.values()} | {"turbospeedz"}):
        yield f"* **{key}**: {PAPERS[key].title}. <{PAPERS[key].url}>"


def document() -> str:
    """The whole of docs/ops.md."""
    return "\n".join((HEAD, *table(), TAIL + "\n".join(_sources()))) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
