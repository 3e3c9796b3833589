"""Linear models: by descent on shares, and exactly from what each party has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from parties.bench.numbers import normal
from parties.bench.workload import Workload, share_of
from protocols import LinearRegression
from protocols.descent import Schedule, descend

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mpc import AShare, Floats, Session

COLUMNS = 100
BATCH = 128
RATE = 0.125
NOISE = 0.1


class Descent(Workload):
    """W7, descent on shares."""

    key = "W7"
    title = "linear SGD on shared rows x 100, batches of 128, one epoch"
    parties = (2, 3)
    sizes = (10_000,)
    least = BATCH
    allowed = 1e-4

    @property
    def rows(self) -> int:
        """Whole batches only, as the other frameworks do it."""
        return self.size // BATCH * BATCH

    @property
    def dimensions(self) -> str:
        """See Workload."""
        return f"{self.size:,} x {COLUMNS}, {self.rows // BATCH} steps"

    @property
    def moved(self) -> int:
        """See Workload."""
        return 8 * (self.size * (COLUMNS + 1) + COLUMNS)

    def own(self, party: int) -> tuple[Floats, Floats]:
        """Return a part of the rows and of the target, each with its share of the variance."""
        share = self.n**-0.5
        x = normal("W7 x", party, (self.size, COLUMNS), share)
        return x, x @ normal("W7 w", 0, (COLUMNS,)) + normal("W7 noise", party, (self.size,), NOISE * share)

    def load(self, s: Session, own: tuple[Floats, Floats]) -> tuple[AShare, AShare]:
        """See Workload."""
        x, y = own
        return share_of(s, x, 2.0**6), share_of(s, y, 2.0**8)

    async def run(self, s: Session, data: tuple[AShare, AShare]) -> Floats:
        """See Workload."""
        x, y = data
        return np.asarray(await s.run(_descent, x[: self.rows], y[: self.rows]))

    def error(self, revealed: Floats) -> float:
        """Return the largest difference of a weight."""
        x, y = (np.sum(parts, axis=0) for parts in zip(*map(self.own, range(self.n)), strict=True))
        w = np.zeros(COLUMNS)
        for start in range(0, self.rows, BATCH):
            batch = x[start : start + BATCH]
            w -= RATE / BATCH * (batch.T @ (batch @ w - y[start : start + BATCH]))
        return float(np.abs(revealed - w).max())


async def _descent(s: Session, x: AShare, y: AShare) -> Any:
    return await s.reveal(await descend(s, x, y, Schedule(1, BATCH, RATE)))


class _Regression(Workload):
    width = 50
    allowed = 1e-5
    """For coefficients of about 1 and a target with a standard deviation of about 7 (docs/precision.md)."""

    @property
    def dimensions(self) -> str:
        """See Workload."""
        return f"{self.size:,} x {self.width}"

    def _coefficients(self) -> Floats:
        return normal(f"{self.key} w", 0, (self.width,))

    def _error(self, revealed: Floats, parts: Iterable[tuple[Floats, Floats]]) -> float:
        """Return the error against the normal equations of all rows, whose features are independent."""
        gram, moment = np.zeros((self.width + 1,) * 2), np.zeros(self.width + 1)
        for x, y in parts:
            table = np.column_stack([x, np.ones(len(x))])
            gram += table.T @ table
            moment += table.T @ y
        return float(np.abs(revealed - np.linalg.solve(gram, moment)).max())


class RowsRegression(_Regression):
    """W10, rows split."""

    key = "W10"
    title = "exact regression, rows split, from floats to coefficients"
    parties = (3,)
    sizes = (1_000_000,)
    least = 1000

    @property
    def moved(self) -> int:
        """See Workload."""
        return 8 * (len(range(0, self.size, self.n)) + 1) * (self.width + 1)

    def own(self, party: int) -> tuple[Floats, Floats]:
        """See Workload."""
        rows = len(range(party, self.size, self.n))
        x = normal("W10 x", party, (rows, self.width))
        return x, x @ self._coefficients() + normal("W10 noise", party, (rows,), NOISE)

    async def run(self, s: Session, data: tuple[Floats, Floats]) -> Floats:
        """See Workload."""
        model = await LinearRegression().fit(s, *data)
        return np.append(model.coef_, model.intercept_ or 0.0)

    def error(self, revealed: Floats) -> float:
        """Return the largest difference of a coefficient."""
        return self._error(revealed, (self.own(party) for party in range(self.n)))


class ColumnsRegression(_Regression):
    """W10, columns split: the last party has the target."""

    key = "W10-columns"
    title = "exact regression, columns split, from floats to coefficients"
    parties = (2,)
    sizes = (100_000,)
    least = 1000

    @property
    def moved(self) -> int:
        """See Workload."""
        return 8 * (self.size * (self._columns(self.n - 1) + 1) + self.width + 1)

    def _columns(self, party: int) -> int:
        return len(range(party, self.width, self.n))

    def own(self, party: int) -> tuple[Floats, Floats | None]:
        """Return one party's columns.  The target depends only on its owner's columns, and is correlated with the others' by chance."""
        x = normal("W10 columns", party, (self.size, self._columns(party)))
        if party < self.n - 1:
            return x, None
        return x, x @ self._coefficients()[-x.shape[1] :] + normal("W10 noise", 0, (self.size,), NOISE)

    async def run(self, s: Session, data: tuple[Floats, Floats | None]) -> Floats:
        """See Workload."""
        model = await LinearRegression(split="columns").fit(s, *data)
        return np.append(model.coef_, model.intercept_ or 0.0)

    def error(self, revealed: Floats) -> float:
        """Return the largest difference of a coefficient."""
        tables, targets = zip(*map(self.own, range(self.n)), strict=True)
        return self._error(revealed, [(np.concatenate(tables, axis=1), targets[-1])])
