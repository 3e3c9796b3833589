"""docs/protocols.md, made from the declarations of the protocols: `python -m protocols.document > docs/protocols.md`."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import mpc
from protocols import PROTOCOLS, LinearRegression

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mpc import Floats, Session
    from protocols.declare import Protocol

PARTIES = 3
ROWS, COLUMNS = 1000, 3
ELEMENTS = 1000
FEW = 100
"""Elements for the protocols on few elements."""
EXAMPLES: dict[str, Any] = {"x": np.empty((ROWS, COLUMNS)), "w": np.empty(ROWS), "low": 0.0, "high": 1.0}
Solver = Literal["exact", "sgd"]
FITS: dict[Solver, dict[str, Any]] = {"exact": {}, "sgd": {"epochs": 1, "batch_size": 125}}

HEAD = f"""# Protocols: the library

A program calls a protocol as `await protocols.NAME(s, ...)`, a notebook as `s.run(protocols.NAME, ...)`. `beaver protocols` lists what
`beaver run` takes. [ops.md](ops.md) has the ops that protocols are made of, and [precision.md](precision.md) says how exact results are.

Generated from the declarations of the protocols by `python -m protocols.document`; a test keeps it up to date. Every protocol declares
its cost as integers, and the tests check that the measured cost equals it, for n = 2 to 5. Figures are for {PARTIES} parties: rounds are
simultaneous exchanges, bytes are what a party sends to each of the others, dealer bytes are all that the dealer sends. Sources are keys
of `mpc/papers.py`.
"""

OWN = f"""
## Statistics of own data

Each party passes its own rows. What is revealed goes to everyone, or with `to=` only to the members that it names, except for what the
table says goes to everyone. Figures are for {ROWS:,} rows of {COLUMNS} columns at each party; the number of rows does not change them,
except for `secure_sum`, which adds whole arrays.
"""

SHARED = f"""
## On shares

These take shares (`s.input`, `s.inputs`, results of others) and return shares; some also take masked values (`s.mask`). Nothing is
revealed. Figures are for {ELEMENTS:,} elements, those of `ranks` and `sort` for {FEW}. A call on one element takes about as long as
one on a thousand, so pass whole arrays instead of looping over their elements.
"""

FITTED = """
## Regression

"""

MODEL = """
Its methods. A joint `predict` or `score` takes a session first. All are awaited, except a local `predict` or `score`.
"""
METHODS = ("fit", "predict", "score", "fitted_score", "standard_errors")

ABSENT = """
## What there is not

No protocol computes these of a secret:

- A quotient by a secret, or its reciprocal. What is public divides: `await mpc.scale(s, x, 1 / divisor)`.
- A square root, exponential, logarithm or sigmoid, or a sine and the like. So there is no logistic regression.
- A remainder, or a number rounded to the nearest: `await mpc.trunc(s, x, bits)` drops the last bits, and may give one unit more.
- The bits of a number. `mpc.ltz` gives its sign, `mpc.eqz` whether it is 0.
"""

SESSION = """
## The session

A program gets the session as `s`; the docstrings have rounds, bytes and errors. Calls are awaited if the table has an `await`, ops and
protocols always.

These functions need no message, and do with shares what they do with arrays:

- On numbers: `+`, `-`, and `*` by public integers, also as `np.add`, `np.subtract`, `np.negative` and `np.multiply`; `x.sum(...)` and
  `np.sum`, `np.cumsum`, `np.trace`.
- On numbers and bits: indexing, `x.reshape(...)`, `x.ravel()`, `x.transpose(...)` and `x.T`; `np.concatenate` and `np.stack`, which are
  `mpc.concatenate` and `mpc.stack`; and numpy's `reshape`, `ravel`, `transpose`, `swapaxes`, `moveaxis`, `expand_dims`, `squeeze`, `flip`,
  `flipud`, `fliplr`, `split`, `array_split`, `diagonal`, `diag`, `take`, `delete`, `repeat`, `tile`, `roll` and `broadcast_to`.

A masked value cannot be joined, has no `cumsum`, and cannot be indexed by arrays, which the last six functions would do; its `x.share()`
supports all of them. A vector of bits has no `np.diag`.

`s.run` runs a program twice: first a dry run on shapes alone, which names the correlations to ask the dealer for ahead. So the program
must have no side effects: what it appends to an outer list is there twice, the first time without contents. It takes everything that it
needs as an argument, and returns everything that it computes. A session of `mpc.connect_sync` runs a program once and asks for its
correlations as it goes; there, `s.run(program, ..., plan=True)` does what is said here, and takes fewer trips to the dealer.
"""
ATTRIBUTES = """
| attribute | what it is |
|---|---|
| `s.index`, `s.n`, `s.names` | This party's number, from 0 on; how many parties compute; their names, in the order of their numbers. |
| `s.cost` | What the session has cost this party so far: `rounds`, `sent` (bytes to each peer), `payload` (bytes to the peer \
that got most), `blocks` (messages that carried them), `corrections` (bytes from the dealer), `relations` (correlations that were used). |
| `s.id` | The session's id: 32 bytes that all parties have, and no other session. |
| `s.releases`, `s.announcements` | What was revealed so far, and what the parties announced to each other (`s.announce`): how often, by \
which calls, its shape, to whom. A node writes both into its audit log. |
| `s.log` | A logger whose lines name the job. It goes where the node's log goes: write nothing secret into it. |
"""
CALLS = ("encode", "zero", "input", "inputs", "mask", "announce", "reveal", "run", "made")

OWN_PROGRAMS = """
A program of several ops, or a protocol of your own (`async def name(s, ...)` with `@mpc.protocol`), runs at every party through
`mpc.connect` or `mpc.connect_sync`. Nodes (`beaver party`) run only what `beaver protocols` lists; there is no way yet to offer them
another protocol.

### A statistic of each group

All parties must compute the same things, equally often and in the same order. So the groups are a list that the parties have agreed on,
and never what one party finds in its own rows (`frame["region"].unique()`): at another party that has another order, or other groups, and
the rows of different groups would be added. `terms=` of a zero that is revealed compares any public numbers and texts, here the list
itself, in a round of its own. A group without a row at any party is an error. If only one party has rows of a group, everyone learns that
party's mean.

```python
import asyncio
import protocols

REGIONS = ("east", "north", "south")


async def mean_costs(s, frame, regions=REGIONS):
    await s.reveal(s.zero((), terms=regions))
    means = await asyncio.gather(*(protocols.mean(s, frame.loc[frame["region"] == region, "cost"]) for region in regions))
    return dict(zip(regions, means))
```"""

TESTING = """
## Testing a protocol of your own

`mpc.testing.simulate(n, program)` runs `await program(s)` once at each of n parties, with a dealer, all real, in one process: with
handshakes and sealed records, over memory in place of a network. It returns the n results, in party order. A protocol is right if it
gives what plain numpy gives, for several n and seeds, at the cost that you expect:

```python
import mpc
import mpc.testing


@mpc.protocol
async def sum_of_squares(s, x):
    return await s.reveal((await mpc.square(s, x)).sum())


async def program(s):
    x = s.input([3.0, 4.0] if s.index == 0 else None, owner=0, shape=2, bound=100.0)
    return float(await sum_of_squares(s, x)), s.cost.rounds


for n in (2, 3, 5):
    for seed in (None, 1, 2):
        for value, rounds in mpc.testing.simulate(n, program, seed=seed, check_bounds=True):
            assert abs(value - 25.0) < 1e-3
            assert rounds == 2
```

| parameter | what it does |
|---|---|
| `seed=None` | A number delays messages, and resumes tasks, in an order that it chooses: a program whose result depends on their \
order shows it under one seed or another. |
| `check_bounds=False` | True adds up the parties' words of every share, and raises `mpc.testing.ExceededBoundError` if a value is beyond \
the public bound of its share: so it tests what `bound=` and `assume_bound` claim. |
| `clocks=` | `mpc.network.mesh.Clocks(join, lost, stall)`, in seconds, of every party; 20 each by default. |
| `window=None` | How many bytes of a session may be on their way to a peer; a small one makes senders wait, as large messages do. |
| `tap=None` | `tap(frame)` is called with the bytes of every frame as it is sent. They are sealed: they tell how much is sent, and when. |

An oracle also watches every run. It raises `mpc.testing.ReusedRandomnessError` if a word of a stream would hide two secret words: that is
a fault of Beaver, since no program of public calls should cause it. An exception of a program comes out as itself, with a note that names
the party. The other parties end as they would in separate processes, and a program that awaits something of its own is cancelled two
seconds later.
`await mpc.testing.simulate_async(...)` does the same in a loop that runs already, where a seed does not change the order of tasks.
"""

AROUND = """
## Besides the session
"""
ENTRIES = ("connect", "connect_sync", "open_node", "estimate", "protocol", "concatenate", "stack")


def table(*, own: bool) -> Iterator[str]:
    """Yield a table of the protocols that reveal a result of own data, or of those that take and return shares."""
    headings = ["call", "gives", *(["reveals"] if own else []), "rounds", "bytes to each peer", "dealer bytes", "source"]
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    for each in PROTOCOLS.values():
        if own == (each.reveals != "nothing"):
            cost = each.cost(PARTIES, *map(_example(each), _operands(each)))
            figures = (f"{number:,}" for number in (cost.rounds, cost.payload, cost.dealer))
            cells = [f"`{_call(each.name, each.call)}`", _gives(each.call), *([each.reveals] if own else []), *figures, each.source or "-"]
            yield f"| {' | '.join(cells)} |"


def _operands(each: Protocol) -> list[inspect.Parameter]:
    """Return the parameters that the cost depends on: all but the session, keywords, and those with a default."""
    parameters = list(inspect.signature(each.call).parameters.values())[1:]
    return [one for one in parameters if one.kind is not one.KEYWORD_ONLY and one.default is one.empty]


def _example(each: Protocol) -> Any:
    size = FEW if each.name in {"ranks", "sort"} else ELEMENTS

    def of(parameter: inspect.Parameter) -> Any:
        return mpc.Like((size,)) if "Share" in str(parameter.annotation) else EXAMPLES[parameter.name]

    return of


def _call(name: str, call: Callable[..., Any]) -> str:
    """Return how a call is written, without types."""
    given = [one.replace(annotation=one.empty) for one in inspect.signature(call).parameters.values()]
    star = ["*"] if any(one.kind is one.KEYWORD_ONLY for one in given) else []
    free = [str(one) for one in given if one.kind is not one.KEYWORD_ONLY]
    return f"{name}({', '.join([*free, *star, *(str(one) for one in given if one.kind is one.KEYWORD_ONLY)])})".replace("'", '"')


def _gives(call: object, *, whole: bool = False) -> str:
    """Return the first paragraph of a docstring, or all of it, as one cell of a table."""
    paragraphs = [" ".join(each.split()) for each in (inspect.getdoc(call) or "").split("\n\n")]
    return " · ".join(paragraphs if whole else paragraphs[:1]).replace("|", "\\|")


async def _fit(s: Session, x: Floats, y: Floats, *, solver: Solver, settings: dict[str, Any]) -> None:
    await LinearRegression(solver, **settings).fit(s, x, y)


def fits() -> Iterator[str]:
    """Yield a table of what fits of rows cost, by a dry run of each."""
    yield "| solver | rows at each party | columns | rounds | bytes to each peer | dealer bytes |"
    yield "|---|---|---|---|---|---|"
    for solver, settings in FITS.items():
        plan = mpc.estimate(_fit, PARTIES, [(ROWS, COLUMNS), (ROWS,)], solver=solver, settings=settings)
        what = ", ".join([f'solver="{solver}"', *(f"{name}={value}" for name, value in settings.items())])
        yield f"| `{what}` | {ROWS:,} | {COLUMNS} | {plan.rounds:,} | {plan.payload:,} | {plan.dealer:,} |"


def calls(owner: object, prefix: str, names: Sequence[str], *, awaited: bool = False, whole: bool = False) -> Iterator[str]:
    """Yield a table of calls and their purpose; with `awaited`, a call of an `async def` is written with `await`."""
    yield "| call | what it is |"
    yield "|---|---|"
    for name in names:
        call = getattr(owner, name)
        wait = "await " if awaited and inspect.iscoroutinefunction(inspect.unwrap(call)) else ""
        yield f"| `{wait}{_call(prefix + name, call).replace('(self, ', '(')}` | {_gives(call, whole=whole)} |"


def document() -> str:
    """Return the whole of docs/protocols.md."""
    regression = f"`{_call('LinearRegression', LinearRegression)}`"
    about = inspect.getdoc(LinearRegression) or ""
    parts = (
        HEAD + OWN,
        *table(own=True),
        SHARED,
        *table(own=False),
        ABSENT + FITTED + regression,
        "",
        about,
        "",
        *fits(),
        MODEL,
        *calls(LinearRegression, "model.", METHODS, whole=True),
        SESSION + ATTRIBUTES,
        *calls(mpc.Session, "s.", CALLS, awaited=True),
        OWN_PROGRAMS + "\n" + TESTING.rstrip("\n"),
        AROUND,
        *calls(mpc, "mpc.", ENTRIES),
    )
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
