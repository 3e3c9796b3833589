"""Which products of a planned program have words that somebody reads: those of the others are never made (decision 0015)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from mpc.correlations import products_of
from mpc.errors import ProgramError
from mpc.streams import Ranges

if TYPE_CHECKING:
    from mpc.correlations import Relation
    from mpc.expressions import Expression
    from mpc.preprocessing.plan import Plan

    Path = tuple[int, ...]


class Product:
    """The place in a plan of the relation that the product of the scope at `path` takes."""

    __slots__ = ("masks", "path", "unread")

    def __init__(self, path: Path, masks: tuple[Expression, ...]) -> None:
        self.path = path
        self.masks = masks
        self.unread = False

    @property
    def relation(self) -> Relation | None:
        """The only one of its scope; None if the words are unread."""
        return None if self.unread else products_of(Ranges.of(self.path), self.masks)


class Pending:
    """Stands for the words of a product in a dry run: unread if it is multiplied further and then dropped, and nobody has read them."""

    __slots__ = ("_extended", "_plan", "_product", "_read")

    def __init__(self, plan: Plan, product: Product) -> None:
        self._plan = plan
        self._product = product
        self._extended = self._read = False

    def read(self) -> None:
        """See Deferred."""
        self._read = True

    def extend(self) -> None:
        """See Deferred."""
        self._extended = True

    def __del__(self) -> None:
        # After the dry run, or the end of its plan, nobody knows what the real run does with it.
        if self._extended and not self._read and self._plan.watches:
            self._product.unread = True


class _Unread:
    def read(self) -> NoReturn:
        msg = (
            "the program used a product that its dry run only multiplied further: s.run(program, ...) runs it twice, first on shapes "
            "alone, and it has to do the same both times"
        )
        raise ProgramError(msg)

    def extend(self) -> None:
        pass


UNREAD = _Unread()
"""Words that nobody reads, if the program does what its dry run did."""


class Deferrals:
    """What a source was told by plans about products that are still to come."""

    def __init__(self) -> None:
        self._unread: dict[Path, bool] = {}

    def learn(self, plan: Plan) -> None:
        """A planned program within a planned one: what one of both reads, and so has asked for, is made."""
        for product in plan.products:
            self._unread[product.path] = product.unread and self._unread.get(product.path, True)

    def forget(self, plan: Plan) -> None:
        """The program of this plan has ended, well or not: what it did not come to may be another product when it is made."""
        for product in plan.products:
            self._unread.pop(product.path, None)

    def take(self, path: Path) -> bool | None:
        """Whether the product that the scope at `path` makes is unread; None if no plan says."""
        return self._unread.pop(path, None)
