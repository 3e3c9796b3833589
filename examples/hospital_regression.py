"""Three hospitals fit one regression to all their patients; no patient's record leaves its hospital.

python examples/hospital_regression.py
"""

from __future__ import annotations

import numpy as np

from mpc import Session
from mpc.testing import simulate
from parties.data import load_diabetes
from protocols import LinearRegression

TABLE = load_diabetes()  # 442 patients: ten measurements and, as the last column, the progression of diabetes after a year
NAMES = TABLE.columns[:-1]
PATIENTS = np.split(TABLE.rows, [60, 210])  # a small, a middle and a large hospital


async def joint_regression(s: Session) -> tuple[np.ndarray, float, float]:
    """Coefficients, intercept and R² of all patients together, the same at every hospital."""
    mine = PATIENTS[s.index]  # a hospital reads its own records here, and has nobody else's
    x, y = mine[:, :-1], mine[:, -1]

    # Reveals to all: the coefficients, the intercept, whether columns are collinear, the number of patients, means and variances.
    # With moments="secret" means and variances stay secret; of each variance only the power of two comes out.
    model = await LinearRegression().fit(s, x, y)

    # Coefficients and intercept are public now, so a prediction for a patient of one's own needs nobody else.
    print(f"  {s.names[s.index]}: {len(mine)} patients, predicts {model.predict(x[:1])[0]:.0f} for its first, observed was {y[0]:.0f}")

    # How well the model fits all patients.  Reveals: the number of patients, the mean of y and two sums of squares.
    return model.coef_, float(model.intercept_ or 0.0), await model.score(s, x, y)


def main() -> tuple[np.ndarray, float, float]:
    """Run the three hospitals in this process, and compare with what a pool would have given."""
    coefficients, intercept, score = simulate(len(PATIENTS), joint_regression)[0]

    # For the comparison only: in earnest nobody could compute this, since nobody has all rows.
    x, y = TABLE.rows[:, :-1], TABLE.rows[:, -1]
    pooled = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)[0]
    print(f"{'':10} {'jointly':>12} {'pooled':>12}")
    for name, joint, wanted in zip([*NAMES, "intercept"], [*coefficients, intercept], pooled, strict=True):
        print(f"{name:10} {joint:12.5f} {wanted:12.5f}")
    print(f"R² over all patients: {score:.6f}")
    return coefficients, intercept, score


if __name__ == "__main__":
    main()
