"""Mask expressions: public linear maps and products of named masks, as canonical data that the dealer evaluates (`evaluation`).

A Masked value that was sliced, transposed or added keeps the expression of its mask, so that every product with it refers to the
mask that was opened once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from mpc.canonical import pack_sequence
from mpc.errors import ProgramError
from mpc.prg import blocks_for
from mpc.ring import broadcast, count, outline, without

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

Places: TypeAlias = "NDArray[np.intp]"
"""Places of words in a flat value, in any order."""
Wanted: TypeAlias = "slice | Places"
"""The wanted words of a flat value: from a start to a stop, or at places."""
Tree = tuple[str, tuple[Any, ...], tuple[Any, ...]]

MAX_SCOPE, MAX_WORDS, MAX_DEPTH, MAX_MACS = 1024, 1 << 30, 24, 1 << 44
"""Limits of what a dealer accepts: characters of a scope, words of an array, depth of nested operations, multiplications of a matrix
product.
"""
KEPT_PAIRS_OF = 1 << 8
"""Most elements whose pairs of indices are cached, half a megabyte; for more, making the indices takes as long as computing with them."""
VIEWS = {"index", "reshape", "transpose"}
"""Operations whose value has elements of another value, unchanged."""
_PRODUCTS = {"mul", "matmul", "cross"}
MATRIX_PRODUCTS = {"matmul", "cross"}
NODE_BYTES, ENTRY_BYTES, EXTENT_BYTES = 40, 20, 5
"""Most bytes of a packed name that a node, each of its parameters and each extent of a mask take, beside the scope of a mask."""
NAMED_DEPTH, NAMED_NODES = 20, 256
"""Limits of one masked value's name, so that a relation between two of them stays within MAX_DEPTH and fits into one message."""


class Range(NamedTuple):
    """`shape` words of a stream of `scope`, from `block` on."""

    scope: str
    block: int
    shape: tuple[int, ...]

    @property
    def blocks(self) -> int:
        """The number of blocks that it covers."""
        return blocks_for(count(self.shape))


class Expression:
    """`operation` with its public `parameters` applied to `parts`; the shape of its value is public, too.

    `tree` is the expression as plain data, whose canonical bytes are its `key`: equal exactly if the expressions are.
    """

    __slots__ = ("depth", "is_wide", "length", "nodes", "operation", "parameters", "parts", "shape", "tree")

    def __init__(self, operation: str, parameters: tuple[Any, ...], parts: tuple[Expression, ...], shape: tuple[int, ...]) -> None:
        self.operation = operation
        self.parameters = parameters
        self.parts = parts
        self.shape = shape
        nodes, depth, trees = 1, 0, []
        length = NODE_BYTES + (ENTRY_BYTES * len(parameters) if parts else len(parameters[0]) + EXTENT_BYTES * len(shape))
        for part in parts:
            nodes += part.nodes
            length += part.length
            if depth <= part.depth:
                depth = part.depth + 1
            trees.append(part.tree)
        self.is_wide: bool = operation == "wide" or (operation in VIEWS and parts[0].is_wide)
        """Whether its value consists of numbers mod 2^128."""
        self.nodes: int = nodes
        self.length: int = length
        """Most bytes of its key."""
        self.depth: int = depth
        self.tree: Tree = (operation, parameters, tuple(trees))

    def __repr__(self) -> str:
        return f"Expression{self.tree}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.tree)

    @property
    def key(self) -> bytes:
        """The expression as canonical bytes."""
        return pack_sequence(self.tree)

    @property
    def is_linear(self) -> bool:
        """Whether it is neither a product nor made of one: then parties have shares of its value."""
        return self.operation not in _PRODUCTS and all(part.is_linear for part in self.parts)

    def uses(self, operation: str) -> bool:
        """Whether it, or an expression in it, is made by this operation."""
        return self.operation == operation or any(part.uses(operation) for part in self.parts)

    def leaves(self) -> list[Expression]:
        """The masks from which it is made."""
        return [self] if not self.parts else [leaf for part in self.parts for leaf in part.leaves()]

    @property
    def where(self) -> Range:
        """The stream range of a leaf."""
        return Range(*self.parameters[:3]) if self.operation == "own" else self.parameters  # type: ignore[return-value]

    @property
    def owner(self) -> int | None:
        """The party whose stream alone is the leaf; None if every party adds its own."""
        return self.parameters[3] if self.operation == "own" else None


def mask(where: Range, owner: int | None = None) -> Expression:
    """The mask at `where`: the sum of all parties' streams, or the stream of `owner` alone."""
    return Expression("mask", where, (), where.shape) if owner is None else Expression("own", (*where, owner), (), where.shape)


def wide(where: Range) -> Expression:
    """The mask at `where`, of shape (..., 2), of numbers mod 2^128: the sum of all parties' numbers there. Only VIEWS make others from
    it.
    """
    if where.shape[-1:] != (2,):
        raise ValueError(where)
    return Expression("wide", where, (), where.shape[:-1])


def normal_index(key: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """A basic index as data: an int, None, or (start, count, step) for each axis.  ValueError for anything else."""
    keys, extents = key if isinstance(key, tuple) else (key,), iter(shape)
    normal: list[Any] = []
    for entry in keys:
        if entry is None:
            normal.append(None)
        elif entry is Ellipsis:
            taken = sum(each is not None and each is not Ellipsis for each in keys)
            normal += [(0, next(extents), 1) for _ in range(len(shape) - taken)]
        elif isinstance(entry, slice):
            start, stop, step = entry.indices(next(extents))
            normal.append((start, len(range(start, stop, step)), step))
        elif isinstance(entry, int | np.integer) and not isinstance(entry, bool) and -(extent := next(extents)) <= entry < extent:
            normal.append(int(entry) % extent)
        else:
            raise ValueError(entry)
    return (*normal, *[(0, extent, 1) for extent in extents])


def numpy_index(normal: tuple[Any, ...]) -> tuple[Any, ...]:
    """The index in numpy's form."""

    def entry(item: Any) -> Any:
        if item is None or isinstance(item, int):
            return item
        start, extent, step = item
        if not extent:
            return slice(0, 0)
        stop = start + extent * step
        # A stop below 0 would count from the end.
        return slice(start, stop if stop >= 0 else None, step)

    return tuple(map(entry, normal))


def index(of: Expression, normal: tuple[Any, ...]) -> Expression:
    """of[normal]."""
    if normal == _everything(of.shape):
        return of
    return Expression("index", normal, (of,), _indexed(of.shape, normal))


@lru_cache(maxsize=1 << 10)
def _everything(shape: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple((0, extent, 1) for extent in shape)


@lru_cache(maxsize=1 << 10)
def _indexed(shape: tuple[int, ...], normal: tuple[Any, ...]) -> tuple[int, ...]:
    taken: tuple[int, ...] = outline(shape)[numpy_index(normal)].shape
    return taken


def stack(parts: Sequence[Expression]) -> Expression:
    """Several values of one shape, one above the other; consecutive rows of one value become a part of it. ValueError for different
    shapes.
    """
    first = parts[0]
    if any(part.shape != first.shape for part in parts):
        raise ValueError(parts)
    if first.operation == "index" and isinstance(first.parameters[0], int):
        row, *rest = first.parameters
        if all(part.tree == ("index", (row + at, *rest), first.tree[2]) for at, part in enumerate(parts)):
            return index(first.parts[0], ((row, len(parts), 1), *rest))
    return Expression("stack", (), tuple(parts), (len(parts), *first.shape))


def transpose(of: Expression, axes: tuple[int, ...]) -> Expression:
    """The value with its axes in another order."""
    return _view("transpose", axes, of, lambda array: array.transpose(axes))


def reshape(of: Expression, shape: tuple[int, ...]) -> Expression:
    """The same words in another shape."""
    return of if shape == of.shape else _view("reshape", shape, of, lambda array: array.reshape(shape))


def add_up(of: Expression, axis: int) -> Expression:
    """The sum over one axis."""
    return Expression("sum", (axis,), (of,), without(of.shape, axis))


def pairs(of: Expression) -> Expression:
    """of_i - of_j for all i < j along the last axis."""
    return Expression("pairs", (), (of,), (*of.shape[:-1], of.shape[-1] * (of.shape[-1] - 1) // 2))


def pair_differences(array: Any) -> Any:
    """x_i - x_j for all i < j along the last axis, in the order of numpy.triu_indices."""
    extent = array.shape[-1]
    left, right = _few_pairs(extent) if extent <= KEPT_PAIRS_OF else np.triu_indices(extent, 1)
    return array[..., left] - array[..., right]


@lru_cache(maxsize=64)
def _few_pairs(extent: int) -> tuple[Places, Places]:
    return np.triu_indices(extent, 1)


def scale(of: Expression, factor: int) -> Expression:
    """The value times `factor`, mod 2^64."""
    return Expression("scale", (factor % (1 << 64),), (of,), of.shape)


def _view(operation: str, parameters: tuple[Any, ...], of: Expression, apply: Callable[[Any], Any]) -> Expression:
    return Expression(operation, parameters, (of,), apply(outline(of.shape)).shape)


def combine(operation: str, left: Expression, right: Expression) -> Expression:
    """`operation` is add, sub, mul, matmul or cross (`mpc.kernels.cross`); shapes combine as in numpy.  ValueError if they do not."""
    shape = product_shape(left.shape, right.shape) if operation in MATRIX_PRODUCTS else broadcast(left.shape, right.shape)
    return Expression(operation, (), (left, right), shape)


def product_shape(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of left @ right; ValueError if there is none."""
    if not left or not right or left[-1] != right[-2 if len(right) > 1 else 0]:
        msg = f"shapes {left} and {right} do not form a matrix product"
        raise ValueError(msg)
    stacked = broadcast(left[:-2], right[:-2])
    return (*stacked, *left[-2:-1], *(right[-1:] if len(right) > 1 else ()))


def multiplications(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """The number of multiplications in left @ right: one for each addend of each element. ValueError if there is no product."""
    return count(product_shape(left, right)) * left[-1]


def check_named(expression: Expression) -> None:
    """ProgramError if a masked value came about in so many steps that no dealer would accept its name."""
    if expression.depth > NAMED_DEPTH or expression.nodes > NAMED_NODES:
        msg = "this masked value is made of too many others, or in too many steps, to keep a name; use x.share(), and mask that"
        raise ProgramError(msg)
