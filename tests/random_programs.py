"""Random programs on shares, beside the same programs in exact integers; a seed makes public choices, the same at every party."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import mpc
import protocols
from mpc import AShare, BShare, Masked, Session

SHAPES = [(), (1,), (3,), (0,), (2, 3), (3, 1), (3, 3), (2, 0), (1, 2, 3), (2, 1, 2, 1, 2), (7,)]
LIMIT = 2.0**61
"""Words stay below it, so that every op has room."""


@dataclass(frozen=True)
class Known:
    """A secret, and what it must be: exact words that are off by at most `slack`."""

    secret: Any
    words: np.ndarray[Any, Any]
    slack: int = 0

    def __post_init__(self) -> None:
        """numpy makes no array of a single object, so make one here."""
        object.__setattr__(self, "words", np.asarray(self.words, dtype=object))

    @property
    def frac(self) -> int:
        """The fractional bits; 0 for bits."""
        return 0 if isinstance(self.secret, BShare) else int(self.secret.frac)

    @property
    def reach(self) -> float:
        """The largest size that its words may have, by the public bound and the slack."""
        return float(self.secret.bound) * 2.0**self.frac + self.slack


def exact(values: Any) -> np.ndarray[Any, Any]:
    """Python's own integers, which never wrap."""
    return np.array(values, dtype=object) if np.ndim(values) else np.array(int(values), dtype=object)


def private(s: Session, rng: np.random.Generator) -> Known:
    """An input in one of the layouts and types that a user's array may have."""
    shape, frac, owner = SHAPES[rng.integers(len(SHAPES))], int(rng.choice([0, 4, 20])), int(rng.integers(s.n))
    layout, kind = rng.integers(4), rng.integers(5)
    bound = 128.0
    if kind == 4:
        # More bits than a float has.
        bound, frac = 2.0**56, min(frac, 4)
        values = exact(rng.integers(-(2**56), 2**56 + 1, shape))
        words = values * 2**frac
    else:
        numbers = rng.integers(-6, 7, shape) if rng.integers(2) else rng.integers(-100, 101, shape)
        values = np.asarray(numbers, [np.int8, np.int64, np.float32, np.float64][kind])
        if frac and values.dtype.kind == "f":
            values = values / values.dtype.type(2 ** min(frac, 6))
        words = exact(np.rint(values.astype(np.float64) * 2**frac).astype(np.int64))
    if layout == 1:
        values = np.array(values, order="F")
    elif layout == 2 and values.ndim:
        values = np.repeat(values, 2, axis=0)[::2]
    elif layout == 3:
        values = np.array(values)
        values.flags.writeable = False
    return Known(s.input(values if s.index == owner else None, owner, shape, frac=frac, bound=bound), words)


def numbers(pool: list[Known], rng: np.random.Generator, *, slack: bool = False) -> Known:
    """A number of the pool, known exactly unless its `slack` does not matter."""
    fit = [x for x in pool if not isinstance(x.secret, BShare) and (slack or not x.slack)]
    return fit[rng.integers(len(fit))]


def alike(pool: list[Known], rng: np.random.Generator, first: Known) -> Known:
    """A partner with as many fractional bits whose shape broadcasts; the first itself if there is none other."""
    fit = [x for x in pool if not isinstance(x.secret, BShare) and not x.slack and x.frac == first.frac and broadcasts(x, first)]
    return fit[rng.integers(len(fit))] if fit else first


def broadcasts(x: Known, y: Known) -> bool:
    """Whether numpy would add them."""
    try:
        np.broadcast_shapes(x.words.shape, y.words.shape)
    except ValueError:
        return False
    return True


def share(x: Known) -> AShare:
    """A number as a share, masked or not."""
    found: AShare = x.secret.share() if isinstance(x.secret, Masked) else x.secret
    return found


def local(s: Session, rng: np.random.Generator, pool: list[Known]) -> Known | None:  # noqa: PLR0911  a table of choices
    """A step that needs no message."""
    x = numbers(pool, rng, slack=True)
    secret, words, axis = x.secret, x.words, int(rng.integers(-x.words.ndim, x.words.ndim)) if x.words.ndim else 0
    match rng.integers(9):
        case 0:
            return replace(x, secret=-secret, words=-words)
        case 1:
            return replace(x, secret=secret.T, words=words.T)
        case 2:
            return replace(x, secret=secret.reshape(-1), words=words.reshape(-1)) if words.size else None
        case 3 if words.ndim and x.reach * words.shape[axis] < LIMIT:
            total = words.sum(axis=axis) if words.shape[axis] else exact(np.zeros(np.delete(words.shape, axis), np.int64))
            return Known(secret.sum(axis=axis), total, x.slack * words.shape[axis])
        case 4 if words.ndim:
            return replace(x, secret=secret[..., ::-1], words=words[..., ::-1])
        case 5 if words.ndim and x.reach < LIMIT / 8:
            factor = rng.integers(-5, 6, words.shape[-1:])
            return Known(share(x) * factor, words * exact(factor), 5 * x.slack)
        case 6:
            y = alike(pool, rng, x)
            if x.reach + y.reach < LIMIT:
                return Known(share(x) - share(y), words - y.words, x.slack + y.slack)
        case 7 if x.reach < LIMIT / 2:
            public = rng.integers(-3, 4)
            return Known(public - share(x), exact(int(public) * 2**x.frac - words), x.slack)
        case 8 if words.ndim:
            picked = rng.integers(0, max(words.shape[0], 1), 2) if words.shape[0] else np.zeros(0, np.int64)
            joined = mpc.concatenate([share(x), share(x)[picked]])
            return Known(joined, np.concatenate([words, words[picked]]), x.slack)
    return None


async def product(s: Session, rng: np.random.Generator, pool: list[Known]) -> Known | None:
    """Exact products, and truncated ones."""
    x = numbers(pool, rng, slack=True)
    fit = [y for y in pool if not isinstance(y.secret, BShare) and y.words.shape == x.words.shape]
    y = fit[rng.integers(len(fit))]
    most = x.reach * y.reach
    slack = int(x.reach) * y.slack + int(y.reach) * x.slack
    if most >= LIMIT:
        return None
    match rng.integers(5):
        case 0:
            return Known(await mpc.mul(s, x.secret, y.secret), x.words * y.words, slack)
        case 1 if x.reach**2 < LIMIT:
            return Known(await mpc.square(s, x.secret), x.words * x.words, 2 * int(x.reach) * x.slack)
        case 2 if x.words.ndim == 2 and most * x.words.shape[1] < LIMIT:
            found = await mpc.matmul(s, x.secret, y.secret.T)
            return Known(
                found, exact(x.words @ y.words.T) if x.words.shape[1] else exact(np.zeros(found.shape, np.int64)), slack * x.words.shape[1]
            )
        case 3 if x.frac + y.frac >= 4:
            drop = int(rng.integers(1, min(33, x.frac + y.frac)))
            return Known(await mpc.mul_trunc(s, x.secret, y.secret, drop), (x.words * y.words) >> drop, (slack >> drop) + 2)
        case 4 if x.frac >= 4:
            return Known(await mpc.trunc(s, x.secret, 3), x.words >> 3, (x.slack >> 3) + 2)
    return None


COMPARED = [(protocols.less_than, np.less), (protocols.less_equal, np.less_equal), (protocols.equal, np.equal)]
WHOLE = [(protocols.absolute, np.abs), (protocols.relu, lambda w: np.maximum(w, 0))]
ALONG = [(protocols.maximum, np.max), (protocols.minimum, np.min), (protocols.argmax, np.argmax), (protocols.argmin, np.argmin)]


async def comparison(s: Session, rng: np.random.Generator, pool: list[Known]) -> Known | None:
    """A comparison: which is larger, where the largest is, or the order."""
    x = numbers(pool, rng)
    words, axis = x.words, int(rng.integers(-x.words.ndim, x.words.ndim)) if x.words.ndim else None
    if x.reach >= LIMIT:
        return None
    match rng.integers(6):
        case 0:
            y, (call, plain) = alike(pool, rng, x), COMPARED[rng.integers(3)]
            return Known(await call(s, x.secret, y.secret), exact(plain(words, y.words))) if x.reach + y.reach < LIMIT else None
        case 1:
            public, (call, plain) = int(rng.integers(-3, 4)), COMPARED[rng.integers(3)]
            return Known(await call(s, x.secret, public), exact(plain(words, public * 2**x.frac)))
        case 2:
            call, plain = WHOLE[rng.integers(2)]
            return Known(await call(s, x.secret), exact(plain(words)))
        case 3:
            axis = axis if rng.integers(2) else None
            if not (words.size if axis is None else words.shape[axis]):
                return None
            call, plain = ALONG[rng.integers(4)]
            return Known(
                await call(s, x.secret, axis),
                exact(plain(words, axis=axis)) if words.size else exact(np.zeros(np.delete(words.shape, axis), np.int64)),
            )
        case 4 if axis is not None:
            if rng.integers(2):
                return Known(await protocols.sort(s, x.secret, axis), np.sort(words, axis=axis))
            return Known(
                await protocols.ranks(s, x.secret, axis), exact(np.argsort(np.argsort(words, axis=axis, kind="stable"), axis=axis))
            )
        case 5:
            low, high = sorted(int(limit) for limit in rng.integers(-5, 6, 2))
            return Known(await protocols.clip(s, x.secret, low, high), exact(np.clip(words, low * 2**x.frac, high * 2**x.frac)))
    return None


async def of_bits(s: Session, rng: np.random.Generator, pool: list[Known]) -> Known | None:
    """A step on bits."""
    bits = [x for x in pool if isinstance(x.secret, BShare)]
    if not bits:
        return None
    b = bits[rng.integers(len(bits))]
    partners = [other for other in bits if other.words.shape == b.words.shape]
    c = partners[rng.integers(len(partners))]
    match rng.integers(6):
        case 0:
            return Known(await mpc.b2a(s, b.secret), b.words)
        case 1:
            return Known(await mpc.and_(s, b.secret, c.secret), b.words * c.words)
        case 2:
            return Known(await mpc.or_(s, b.secret, c.secret), b.words + c.words - b.words * c.words)
        case 3:
            return Known(await mpc.xor(s, b.secret, c.secret), (b.words + c.words) % 2)
        case 4:
            return Known(await mpc.not_(s, b.secret), 1 - b.words)
        case 5:
            x = numbers(pool, rng)
            y = alike(pool, rng, x)
            if broadcasts(x, b) and broadcasts(x, y) and broadcasts(y, b) and x.reach + y.reach < LIMIT:
                chosen = await protocols.select(s, b.secret, x.secret, y.secret)
                return Known(chosen, exact(y.words + b.words * (x.words - y.words)))
    return None


async def masked(s: Session, rng: np.random.Generator, pool: list[Known]) -> Known | None:
    """A number that is masked from here on."""
    x = numbers(pool, rng, slack=True)
    return replace(x, secret=await s.mask(share(x)))


@mpc.protocol
async def step(s: Session, rng: np.random.Generator, pool: list[Known]) -> Known | None:
    """One step that `rng` chooses."""
    kind = rng.integers(10)
    if kind < 3:
        return local(s, rng, pool)
    return await [product, comparison, of_bits, masked][min(int(kind - 3) // 2, 3)](s, rng, pool)


@mpc.protocol
async def segment(s: Session, secrets: list[Any], plain: list[tuple[Any, int]], seed: int) -> list[Any]:
    """Steps one after another and at once; gives what is new, as secrets and what they must be."""
    rng = np.random.default_rng(seed)
    pool = [Known(secret, *known) for secret, known in zip(secrets, plain, strict=True)]
    old = len(pool)
    pool += [private(s, rng) for _ in range(3)]
    for _ in range(4):
        together = [np.random.default_rng(int(rng.integers(1 << 32))) for _ in range(rng.integers(1, 4))]
        calls = [step(s, each, list(pool)) for each in together]
        if not rng.integers(4):
            # These calls are made already where a dry run ends, and one more depends on what it may not look at.
            told = int(np.sum(await s.reveal(share(numbers(pool, rng)))))
            calls.append(step(s, np.random.default_rng(abs(told)), list(pool)))
        found = await asyncio.gather(*calls)
        pool += [x for x in found if x is not None]
    return [(x.secret, x.words, x.slack) for x in pool[old:]]


async def check(s: Session, x: Known, label: str) -> None:
    """See that a revealed secret is what it must be."""
    receiver = None if x.words.size % 2 else [s.n - 1]
    secret = share(x) if isinstance(x.secret, Masked) else x.secret
    found = await s.reveal(secret, to=receiver)
    if found is None:
        return
    assert found.shape == x.words.shape, (label, x)
    # What has fractional bits is revealed as floats.
    off = np.abs(found.astype(np.float64) * 2.0**x.frac - x.words.astype(np.float64) if x.frac else exact(found.astype(np.int64)) - x.words)
    assert not np.any(off > x.slack), (label, found, x)


async def program(s: Session, seed: int, *, planned: bool) -> int:
    """Three segments, each of which goes on from what the ones before it gave; how many values were compared."""
    pool: list[Known] = []
    for part in range(3):
        secrets, plain = [x.secret for x in pool], [(x.words, x.slack) for x in pool]
        call = (segment, secrets, plain, 1000 * seed + part)
        new = [Known(*each) for each in (await s.run(*call) if planned else await call[0](s, *call[1:]))]
        pool += new
        for number, x in enumerate(new[part % 2 :: 2]):
            await check(s, x, f"seed {seed}, part {part}, value {number}")
    for x in pool:
        await check(s, x, f"seed {seed}, at the end")
    return len(pool)
