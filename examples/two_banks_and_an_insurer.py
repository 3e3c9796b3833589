"""Two banks and an insurer have different columns about the same customers, and explain the insurer's claims by all of them.

python examples/two_banks_and_an_insurer.py
"""

from __future__ import annotations

import numpy as np

from mpc import Session
from mpc.testing import simulate
from protocols import LinearRegression

CUSTOMERS = 2000
NAMES = ["income", "debt", "savings", "card spending", "age", "car value"]  # in party order: two of each organisation


def generate() -> tuple[list[np.ndarray], np.ndarray]:
    """Every organisation's two columns, and the insurer's claims per year.  Row i is the same customer everywhere."""
    rng = np.random.default_rng(7)
    age = rng.integers(18, 80, CUSTOMERS).astype(float)
    income = rng.lognormal(10.4, 0.4, CUSTOMERS)
    debt, savings = 0.3 * income * rng.exponential(1, CUSTOMERS), 200 * age * rng.exponential(1, CUSTOMERS)
    spending, car = 0.2 * income + rng.normal(0, 1500, CUSTOMERS), 0.4 * income + 0.05 * savings + rng.normal(0, 4000, CUSTOMERS)
    claims = 900 + 0.02 * car + 0.015 * debt - 6 * age + rng.normal(0, 150, CUSTOMERS)
    return [np.column_stack(pair) for pair in ((income, debt), (savings, spending), (age, car))], claims


COLUMNS, CLAIMS = generate()


async def joint_regression(s: Session) -> tuple[np.ndarray, float, np.ndarray]:
    """Coefficients and intercept for all six columns, and the predicted claims of all customers."""
    # An organisation has its own columns; only the insurer, the last one, has y.  Records are matched beforehand: rows align by order.
    mine, y = COLUMNS[s.index], CLAIMS if s.index == 2 else None

    # Reveals to all: coefficients, intercept, whether columns are collinear, how many rows and columns each has, and of each
    # column's standard deviation the power of two.  Means stay with their owner, and so does every product of two columns of one owner.
    model = await LinearRegression(split="columns").fit(s, mine, y)

    # Nobody has a customer's full row, so a prediction needs all three.  Reveals: the predictions, to all.
    return model.coef_, float(model.intercept_ or 0.0), await model.predict(s, mine)


def main() -> tuple[np.ndarray, float, np.ndarray]:
    """Run the three organisations in this process, and compare with what a pool would have given."""
    coefficients, intercept, predicted = simulate(len(COLUMNS), joint_regression)[0]
    pooled = np.linalg.lstsq(np.column_stack([*COLUMNS, np.ones(CUSTOMERS)]), CLAIMS, rcond=None)[0]
    print(f"{'':14} {'jointly':>12} {'pooled':>12}")
    for name, joint, wanted in zip([*NAMES, "intercept"], [*coefficients, intercept], pooled, strict=True):
        print(f"{name:14} {joint:12.6f} {wanted:12.6f}")
    print(f"predictions explain {np.corrcoef(predicted, CLAIMS)[0, 1] ** 2:.1%} of the variance of claims")
    return coefficients, intercept, predicted


if __name__ == "__main__":
    main()
