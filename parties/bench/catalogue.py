"""All workloads by key, and how a user names some of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpc import ConfigError
from parties.bench.fits import ColumnsRegression, Descent, RowsRegression
from parties.bench.orders import Comparisons, Maximum
from parties.bench.products import Chain, FineChain, FixedChain, MatrixProduct, MatrixVectorProduct, Products
from parties.bench.sums import Moments, Sum
from parties.jobs.job import names_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parties.bench.workload import Workload

WORKLOADS: dict[str, type[Workload]] = {
    workload.key: workload
    for workload in (
        Sum,
        Moments,
        Products,
        Comparisons,
        MatrixProduct,
        MatrixVectorProduct,
        Chain,
        FixedChain,
        FineChain,
        Descent,
        Maximum,
        RowsRegression,
        ColumnsRegression,
    )
}


def listed(only: str | None) -> tuple[str, ...]:
    """Return the names in the text of `--only`, none if it is left out.

    Raises ConfigError if it is there and names nothing, as from an empty variable of a script: all workloads take minutes.
    """
    names = names_in(only)
    if only is not None and not names:
        msg = "--only names no workload: name workloads with commas between, or leave it out for all"
        raise ConfigError(msg)
    return names


def chosen(names: Sequence[str], parties: int | None = None, size: int | None = None) -> list[Workload]:
    """Return the workloads of these names, all if there are none, for one number of parties and one size or for their own.

    A name without a variant, such as W5, stands for all its variants.  Raises ConfigError for an unknown name or a size that is too small.
    """
    unknown = [name for name in names if not any(_stands_for(name, key) for key in WORKLOADS)]
    if unknown:
        msg = f"there is no workload {unknown[0]!r}; there are {', '.join(WORKLOADS)}"
        raise ConfigError(msg)
    kinds = [kind for key, kind in WORKLOADS.items() if not names or any(_stands_for(name, key) for name in names)]
    for kind in kinds:
        if size is not None and size < kind.least:
            msg = f"{kind.key} needs a size of at least {kind.least}, not {size}: choose another --size, or other workloads with --only"
            raise ConfigError(msg)
    return [
        kind(n, extent)
        for kind in kinds
        for extent in ((size,) if size is not None else kind.sizes)
        for n in ((parties,) if parties is not None else kind.parties)
    ]


def _stands_for(name: str, key: str) -> bool:
    return name == key or key.startswith(f"{name}-")
