"""The places of the parties' columns, if parties have other columns of the same records."""

from __future__ import annotations

import itertools
from hashlib import blake2b
from typing import NamedTuple
from zlib import crc32

import numpy as np

from mpc import ConfigError, Disagreement, Session, protocol
from protocols.own_data import not_empty

OTHER_RECORDS = (
    "its rows are labelled differently from those of this party (pandas index, or identifier of a dataset), or in another "
    "order, or by one of the two only: where columns are split, all pass the same index in the same order, such as "
    "frame.loc[agreed], or frame.reset_index(drop=True) where row i is the same record at every party; of datasets, all declare "
    "an identifier and hold the same records"
)


class Layout(NamedTuple):
    """The places of the parties' columns: the offset of each party's columns, and which party has y."""

    rows: int
    offsets: list[int]
    target: int

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Start and stop of every party's columns among all features."""
        return list(itertools.pairwise(self.offsets))

    def span(self, party: int) -> tuple[int, int]:
        """Return start and stop of one party's columns."""
        return self.spans[party]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """The shape of every party's table, with y as the last column of its owner."""
        return [(self.rows, stop - start + (party == self.target)) for party, (start, stop) in enumerate(self.spans)]

    @property
    def target_column(self) -> int:
        """The place of y if all tables are put side by side."""
        return self.offsets[self.target + 1]


@protocol
async def column_layout(
    s: Session,
    rows: int,
    columns: int,
    *,
    has_target: bool,
    terms: tuple[float | str, ...] = (),
    records: tuple[str, ...] = (),
    lacks: str = "nothing to fit",
) -> Layout:
    """Agree on rows, columns and the terms of the fit, and on the labels that an index gives the `records`.  If nobody has a row, the error
    says what it `lacks`.

    rounds 1 · reveals everyone's numbers of rows and columns, who has y, and if records have labels, a print of them, of 32 bits
    """
    # The print is keyed by this session: the same records have another print in every job.
    prints = [int.from_bytes(blake2b(labels.encode(), digest_size=4, key=s.id).digest(), "big") for labels in records]
    shapes = await s.announce((rows, columns, int(has_target), crc32(repr(terms).encode()), *prints))
    for name, shape in zip(s.names, shapes, strict=True):
        if shape[3] != shapes[s.index][3]:
            raise Disagreement(name, "fits with other settings: use the same solver, alpha, fit_intercept and schedule everywhere")
    for name, shape in zip(s.names, shapes, strict=True):
        if shape[0] != shapes[0][0]:
            msg = (
                f"{s.names[0]} has {shapes[0][0]} rows and {name} has {shape[0]}: where columns are split, every party has one row for "
                "each record, in the same order"
            )
            raise ConfigError(msg)
    for name, shape in zip(s.names, shapes, strict=True):
        if shape[4:] != shapes[s.index][4:]:
            raise Disagreement(name, OTHER_RECORDS)
    targets = [index for index, shape in enumerate(shapes) if shape[2]]
    if len(targets) != 1:
        holders = ", ".join(s.names[index] for index in targets) or "no party"
        msg = f"exactly one party passes y, the others None; here it is {holders}"
        raise ConfigError(msg)
    not_empty(shapes[0][0], lacks=lacks)
    return Layout(shapes[0][0], np.cumsum([0, *(shape[1] for shape in shapes)]).tolist(), targets[0])
