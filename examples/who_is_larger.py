"""Four firms learn which of them has the highest revenue, and nothing about the amounts.

python examples/who_is_larger.py
"""

from __future__ import annotations

import mpc
import protocols
from mpc import Session
from mpc.testing import simulate

REVENUES = {"Alder": 812_450.10, "Birch": 977_003.55, "Cedar": 977_003.54, "Dogwood": 15_800.00}
FIRMS = list(REVENUES)


async def largest(s: Session) -> str:
    """The firm with the highest revenue; the first of them if several have the same."""
    mine = [REVENUES[FIRMS[s.index]]]  # a firm knows its own figure only
    amounts = mpc.concatenate(await s.inputs(mine))
    winner = await protocols.argmax(s, amounts)
    return FIRMS[int(await s.reveal(winner))]


async def beats_dogwood(s: Session) -> bool | None:
    """Whether Alder's revenue is above Dogwood's, which only these two learn; None at the others."""
    amounts = await s.inputs(REVENUES[FIRMS[s.index]])
    alder, dogwood = (amounts[FIRMS.index(name)] for name in ("Alder", "Dogwood"))
    answer = await s.reveal(await protocols.less_than(s, dogwood, alder), to=[0, 3])
    return None if answer is None else bool(answer)


def main() -> tuple[str, list[bool | None]]:
    """Run the four firms in this process."""
    winners = simulate(len(FIRMS), largest)
    answers = simulate(len(FIRMS), beats_dogwood)
    print(f"the highest revenue is {winners[0]}'s, as all {len(winners)} firms now know")
    print("is Alder's revenue above Dogwood's?", ", ".join(f"{firm} learns {answer}" for firm, answer in zip(FIRMS, answers, strict=True)))
    return winners[0], answers


if __name__ == "__main__":
    main()
