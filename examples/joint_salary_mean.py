"""Three companies learn the mean salary of all their staff; nobody shows a payroll.

python examples/joint_salary_mean.py
"""

from __future__ import annotations

import numpy as np

import protocols
from mpc import Session
from mpc.testing import simulate

PAYROLLS = [
    [41_200, 58_900, 73_400, 52_000],
    [38_700, 45_100, 99_800],
    [64_300, 47_750, 51_900, 88_200, 36_400],
]


async def joint_mean(s: Session) -> tuple[float, float]:
    """The mean and the standard deviation of all salaries, the same at every company."""
    mine = np.array(PAYROLLS[s.index])  # a company reads its own file here, and has nobody else's
    average = await protocols.mean(s, mine)
    spread = await protocols.standard_deviation(s, mine)
    return float(average), float(spread)


def main() -> tuple[float, float]:
    """Run the three companies in this process, and compare with what a pool would have given."""
    results = simulate(len(PAYROLLS), joint_mean)
    average, spread = results[0]
    pool = np.concatenate(PAYROLLS)
    print(f"jointly: mean {average:,.2f}, standard deviation {spread:,.2f}, known to all {len(results)} companies")
    print(f"pooled:  mean {pool.mean():,.2f}, standard deviation {pool.std():,.2f}, which no company could have computed")
    return average, spread


if __name__ == "__main__":
    main()
