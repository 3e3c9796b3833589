"""Linear regression with the conventions of scikit-learn: the constructor only stores, `fit` sets attributes that end in an underscore."""

from __future__ import annotations

import functools
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast, overload

import numpy as np

from mpc import AShare, ConfigError, Floats, ProgramError, Session, check_session, column_names
from protocols import blockwise, descent, features, fitting, hidden, inference, layout, least_squares, prediction
from protocols.fitted import Apart, Pooled
from protocols.labels import row_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from numpy.typing import ArrayLike

    from protocols.declare import Receivers
    from protocols.fitted import Fitted
    from protocols.inference import StandardErrors

Method = TypeVar("Method", bound="Callable[..., Any]")
SOLVERS = ("exact", "sgd")
SPLITS = ("rows", "columns", "shared")
MOMENTS = ("reveal", "secret")


def _joint(method: Method) -> Method:
    """Return `method(self, s, ...)` that checks its session when it is called, since a caller may never await it."""

    @functools.wraps(method)
    def call(self: LinearRegression, s: Session, *arguments: Any, **parameters: Any) -> Any:
        check_session(s, f"model.{method.__name__}")
        return method(self, s, *arguments, **parameters)

    return cast("Method", call)


class LinearRegression:
    """Least squares, with an L2 penalty `alpha`·|w|² as in scikit-learn's Ridge, on data that no party sees whole.

    split: "rows" (own records, all columns), "columns" (own columns of the same records in the same order; all but one party pass y=None),
    or "shared" (X and y are AShares; a descent takes them standardised, with bounds of at most 64, and fits no intercept).
    X is (n, d) and y (n,), or (n, 1), which is taken as (n,).  With rows, all parties use the same names for the columns and y, if frames
    or series name them.
    If X and y both have an index (pandas), both must be the same in one order, also in `score`.  Otherwise this raises ConfigError before
    anything is sent.
    Warning for split="columns": only an index (pandas, or the identifier of a node's dataset) says which records the rows are.  If one
    party's index does not count from 0, all parties have the same index in one order; anything else is a Disagreement.  Without labels,
    parties whose rows are in different orders get a wrong model, and nothing tells them.
    solver: "exact" (normal equations) or "sgd" (mini-batches, plain steps in the order of the rows).

    A descent only comes near least squares, and few rows need many epochs.  Use "exact" unless its bytes, which grow with d², are too many
    (with 1,000 rows at each of 3 parties, 5 epochs take fewer from 41 columns on).  If a batch holds all rows, less than 1 % of the error
    is left after 5 / (learning_rate·λ) steps.  Here λ, at most 1, is the least eigenvalue of the columns' correlations, and learning_rate
    is at most 1 / the largest one, which is d or less.  An epoch has about rows / batch_size steps, and each party's log warns of a descent
    that leaves more than 1 % along λ = 1.  A step uses none of a party's rows, all of them, or at least half of batch_size, so that it does
    not tell of a few.  Smaller batches also leave noise, and less with a lower learning_rate.  With the defaults, 181 rows of three
    independent columns take 10 steps, which leave coefficients off by more than 0.2 of the largest (per standard deviation); with
    epochs=30, by less than 0.02.

    `await fit(s, X, y)` reveals to every party the coefficients, the intercept, one bit that says whether the columns are collinear ("sgd":
    whether the descent diverged), and
    - rows and shared: number of rows, mean and variance of every column and of y; with moments="secret" (rows only, for up to 12 parties)
      the number of rows, and the power of two of every column's standard deviation; a descent on rows also reveals every party's number of
      rows;
    - columns: numbers of rows and columns, who has y, the power of two of the standard deviation of every column and of y, and if an index
      does not count from 0, a print of it (a digest of 32 bits), by which somebody can check a guess of the whole index.

    Afterwards: `coef_` (d,) in party order, `intercept_`, `n_features_in_`, `n_samples_seen_` (the number of rows of all parties).  For
    rows also `feature_names_in_` if X has names.  For columns also `own_columns_`, the slice of `coef_` for this party's columns, since
    each party knows only the names of its own.
    """

    # Any: None if others are the receivers, and an AShare if nobody is.  A caller that reveals to all need not rule out either.
    coef_: Floats | Any
    intercept_: float | None

    def __init__(
        self,
        solver: Literal["exact", "sgd"] = "exact",
        split: Literal["rows", "columns", "shared"] = "rows",
        alpha: float = 0.0,
        *,
        fit_intercept: bool = True,
        moments: Literal["reveal", "secret"] = "reveal",
        epochs: int = 5,
        batch_size: int = 128,
        learning_rate: float = 0.125,
    ) -> None:
        self.solver = solver
        self.split = split
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.moments = moments
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate

    def __repr__(self) -> str:
        return f"LinearRegression({', '.join(f'{name}={value!r}' for name, value in self.get_params().items())})"

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002, FBT001, FBT002  scikit-learn's signature
        """Return the constructor's arguments by name."""
        names = ("solver", "split", "alpha", "fit_intercept", "moments", "epochs", "batch_size", "learning_rate")
        return {name: getattr(self, name) for name in names}

    def set_params(self, **parameters: Any) -> Self:
        """Change the constructor's arguments."""
        for name, value in parameters.items():
            if name not in self.get_params():
                msg = f"LinearRegression has no parameter {name!r}; it has {', '.join(self.get_params())}"
                raise ConfigError(msg)
            setattr(self, name, value)
        return self

    # -- fit ---------------------------------------------------------------------------------------------------

    @_joint
    async def fit(
        self,
        s: Session,
        X: ArrayLike | AShare,  # noqa: N803  scikit-learn's name
        y: ArrayLike | AShare | None,
        *,
        reveal: bool = True,
        to: Receivers | None = None,
    ) -> Self:
        """Fit on everyone's data.  `to` names who gets the coefficients and the intercept, which are None elsewhere; everything else that
        `LinearRegression` reveals still goes to everyone.  reveal=False keeps the coefficients shared, for joint `predict`: `coef_` is then
        an AShare of standardised coefficients, and `intercept_` None.

        Raises ConfigError for wrong settings, shapes, and constant or collinear columns, PrecisionError for values that do not fit; always
        before a coefficient is revealed.  The result of an earlier fit then stays.
        """
        self.check(s.n)
        chosen = s.receivers(to)
        if not reveal and to is not None:
            msg = "to= says who gets the coefficients, but reveal=False keeps them shared"
            raise ProgramError(msg)
        names = () if self.split == "shared" else column_names(X)
        fitted = await self._solve(s, X, y, names)
        if await s.reveal(fitted.singular):
            raise ConfigError(self._no_solution(fitted.rows, fitted.weights.shape[0]))
        nothing = (None if reveal else fitted.weights), None
        coefficients, intercept = (await fitted.coefficients(s, chosen) if reveal else None) or nothing
        # All attributes are set at once: a fit that failed leaves what was there before.
        self._fitted, self._known_to_all = fitted, reveal and s.everyone(chosen)
        self.coef_, self.intercept_, self.n_features_in_ = coefficients, intercept, fitted.weights.shape[0]
        self.n_samples_seen_ = round(fitted.rows)
        self._names = names
        for name in ("feature_names_in_", "own_columns_"):
            vars(self).pop(name, None)
        if isinstance(fitted, Apart):
            # A party knows only the names of its own columns, which have these places among all.
            self.own_columns_ = slice(*fitted.layout.span(s.index))
        elif names:
            self.feature_names_in_ = np.asarray(names, dtype=object)
        return self

    @_joint
    async def fitted_score(self, s: Session, *, to: Receivers | None = None) -> float | None:
        """R² on the rows of the fit, from the system that was solved, at the receivers `to`; None elsewhere.

        Reveals R² to the receivers, and for rows y'y over its estimate by the fit: this gives the variance of y, which the fit has
        revealed, to more digits if it is small.  For solver="exact" with an intercept, and split="columns", or split="rows" with
        moments="reveal".
        """
        revealed = await s.reveal(await self._fit_result().explained(s), s.receivers(to))
        # For a perfect fit, rounding may be on either side of 1.
        return None if revealed is None else min(float(revealed[0] / revealed[1]), 1.0)

    @_joint
    async def standard_errors(self, s: Session, *, to: Receivers | None = None) -> StandardErrors | None:
        """The standard errors of the coefficients and the intercept, their degrees of freedom, and R², at the receivers `to`; None
        elsewhere.  A coefficient over its standard error is its t value.  rounds 5

        Reveals to the receivers what `fitted_score` does, each column's variance inflation factor, and the intercept's.  For
        solver="exact", split="rows", moments="reveal", an intercept and alpha=0.  Raises ConfigError for others, and if there are no more
        rows than coefficients; PrecisionError if the fit leaves less than (d + 1)·2^-22 of y's variance, which may be mere rounding.
        """
        fitted = self._fit_result()
        if not isinstance(fitted, Pooled) or fitted.sure is None:
            raise ConfigError(inference.NO_ERRORS)
        return await inference.standard_errors(s, fitted.sure, await fitted.explained(s), fitted.mean, fitted.scale, s.receivers(to))

    def _no_solution(self, rows: float, columns: int) -> str:
        if self.solver == "sgd":
            return f'the descent diverges with learning_rate={self.learning_rate!r}: try half of it, or solver="exact"'
        return least_squares.no_solution(rows, columns, float(self.alpha), intercept=self.fit_intercept)

    def check(self, parties: int) -> None:
        """Raise ConfigError unless the settings exist, fit each other, and allow so many parties."""
        for name, allowed in (("solver", SOLVERS), ("split", SPLITS), ("moments", MOMENTS)):
            if getattr(self, name) not in allowed:
                msg = f"{name}={getattr(self, name)!r} is none of {', '.join(map(repr, allowed))}"
                raise ConfigError(msg)
        intercept: Any = self.fit_intercept
        if not isinstance(intercept, bool | np.bool_):
            msg = f"fit_intercept={intercept!r} must be True or False"
            raise ConfigError(msg)
        if self.moments == "secret" and (self.split, self.solver) != ("rows", "exact"):
            msg = (
                'moments="secret" is for split="rows" with solver="exact": split columns reveal no moments, a descent needs scaled features'
            )
            raise ConfigError(msg)
        if self.moments == "secret" and parties > hidden.PARTIES:
            msg = (
                f'moments="secret" is for at most {hidden.PARTIES} parties, not {parties}: use moments="reveal", '
                "or pool rows of several parties "
                "at one of them"
            )
            raise ConfigError(msg)
        alpha: Any = self.alpha
        if not isinstance(alpha, Real) or not 0 <= float(alpha) < 2.0**40:
            msg = f"alpha={self.alpha!r} must be a number of at least 0, and below 2^40"
            raise ConfigError(msg)
        if self.solver == "sgd" and self.alpha:
            msg = 'solver="sgd" has no penalty: use solver="exact" with alpha, or alpha=0'
            raise ConfigError(msg)
        self._schedule()

    def _schedule(self) -> descent.Schedule | None:
        """Return the schedule of a descent, if that is the solver.  Raises ConfigError if no descent can follow it."""
        if self.solver != "sgd":
            return None
        settings: tuple[tuple[str, type, str], ...] = (
            ("epochs", Integral, "whole number"),
            ("batch_size", Integral, "whole number"),
            ("learning_rate", Real, "number"),
        )
        for name, kind, what in settings:
            if not isinstance(getattr(self, name), kind):
                msg = f"{name}={getattr(self, name)!r} must be a {what}"
                raise ConfigError(msg)
        return descent.check(descent.Schedule(self.epochs, self.batch_size, self.learning_rate))

    async def _solve(self, s: Session, X: Any, y: Any, names: tuple[str, ...]) -> Fitted:  # noqa: N803
        # With split columns, every party has names of its own.
        shown = (names, column_names(y)) if self.split == "rows" else ()
        options = least_squares.Options(float(self.alpha), self.fit_intercept, *shown)
        step = self._schedule()
        if self.split == "shared":
            return await fitting.on_shares(s, *features.as_shares(X, y), options, step)
        x, target = features.as_table(X, features.needed(y, self.split))
        await blockwise.locally(features.check_finite, x, target, names)
        labels = names or [f"x{number}" for number in range(x.shape[1])]
        if self.split == "rows" and self.moments == "secret":
            return await fitting.on_hidden_rows(s, x, target, options, labels)
        if self.split == "rows":
            return await fitting.on_rows(s, x, target, options, step, labels)
        return await fitting.on_columns(s, x, target, options, step, labels, await self._records(X, y))

    async def _records(self, *data: Any) -> tuple[str, ...]:
        """Return the labels that an index of `data` gives the records, if these are common to all parties."""
        return await row_labels(*data) if self.split == "columns" else ()

    # -- use ---------------------------------------------------------------------------------------------------

    @overload
    def predict(self, first: ArrayLike, /) -> Floats: ...
    @overload
    def predict(self, first: Session, x: Any, /) -> Coroutine[Any, Any, Floats]: ...
    def predict(self, first: Any, x: Any = None, /) -> Any:
        """Predictions (n,): local for a full-width X alone; joint for a session and what each party has, to be awaited.  Joint,
        split="rows": each party gets the predictions of its own rows; if not everyone has the coefficients, everyone learns how many rows
        each party predicts.  Joint, split="columns": everyone gets the predictions of the common rows.  If everyone has the coefficients,
        each of two parties thereby learns what the other's columns add to each prediction; if not, everyone learns the power of two of y's
        standard deviation.
        """
        if isinstance(first, Session):
            self._fit_result()
            return self._joint_predictions(first, self._own_rows(x, full=self.split != "columns"), x)
        if x is not None:
            check_session(first, "model.predict")
        coefficients, intercept = self._public()
        return self._own_rows(first, full=True) @ coefficients + intercept

    async def _joint_predictions(self, s: Session, own: Floats, x: Any) -> Floats:
        return await self._fit_result().predictions(s, own, self._revealed(), await self._records(x))

    @overload
    def score(self, first: ArrayLike, second: ArrayLike, /) -> float: ...
    @overload
    def score(self, first: Session, second: Any, y: Any, /) -> Coroutine[Any, Any, float]: ...
    def score(self, first: Any, second: Any, y: Any = None, /) -> Any:
        """R²: local for X and y; joint, over everyone's rows, for a session, own X and own y (None at a party that has no y), to be
        awaited.  A joint score reveals to everyone the number of rows, the mean of y, the sums of squares about it and of the errors, what
        a joint `predict` reveals, and for split="columns" who has y, everyone's number of columns, and a print of 32 bits of the records'
        labels in an index.
        """
        if isinstance(first, Session):
            return self._joint_score(first, second, y)
        if y is not None:
            check_session(first, "model.score")
        observed = features.observed(second, first)
        if not len(observed) or not np.ptp(observed):
            msg = "y is the same in all of these rows, or there are none: R² compares with how y varies, so score rows in which it does"
            raise ConfigError(msg)
        apart = np.square(observed - observed.mean()).sum()
        return float(1.0 - np.square(observed - self.predict(first)).sum() / apart)

    async def _joint_score(self, s: Session, x: Any, y: Any) -> float:
        fitted, apart = self._fit_result(), self.split == "columns"
        mine = np.zeros(0) if features.needed(y, self.split) is None else features.observed(y, x)
        own = self._own_rows(x, full=not apart)
        records = await self._records(x, y)
        if apart:
            await layout.column_layout(s, *own.shape, has_target=y is not None, records=records, lacks="no score")
        predicted = await fitted.predictions(s, own, self._revealed(), records)
        # In units of y's standard deviation, in which the sums are encoded.
        unit = fitted.unit
        # With split columns, only one party has y and its name.
        names = () if apart else column_names(y)
        return await prediction.r_squared(s, (predicted if y is not None else mine) / unit, mine / unit, names)

    def _own_rows(self, x: Any, *, full: bool) -> Floats:
        """Return X as `own_table` does.  Raises ConfigError unless X has the names of the fit's columns in their order, if it has names,
        and their number, if it must be `full`.
        """
        names, known = column_names(x), getattr(self, "_names", ())
        mine = getattr(self, "own_columns_", None)
        if full and mine is not None:
            # With split columns, a party knows the names of its own columns only.
            names = names[mine] if len(names) == self.n_features_in_ else ()
        if names and known and names != known:
            msg = f"X has the columns {', '.join(names)}, and the fit had {', '.join(known)}: pass these, in this order"
            raise ConfigError(msg)
        table = features.own_table(x)
        if full and table.shape[1] != self.n_features_in_:
            msg = f"X has {table.shape[1]} columns, and the fit had {self.n_features_in_}: pass these, in this order"
            if mine is not None:
                msg = (
                    f"X has {table.shape[1]} columns, and the fit had {self.n_features_in_}, of which this party has "
                    f"{mine.stop - mine.start}: for its own columns, await predict(s, X) or score(s, X, y)"
                )
            raise ConfigError(msg)
        return table

    def _fit_result(self) -> Fitted:
        fitted: Fitted | None = getattr(self, "_fitted", None)
        if fitted is None:
            msg = "this LinearRegression is not fitted yet: await fit(s, X, y) first"
            if hasattr(self, "coef_"):
                msg = (
                    "this LinearRegression is a copy without its shares, which never leave their session: only "
                    "predict(X) and score(X, y) are left"
                )
            raise ProgramError(msg)
        return fitted

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy, or a file, has: all but the shares, which never leave their session.

        Raises ProgramError if the coefficients are shares.
        """
        return {name: value for name, value in vars(self).items() if name != "_fitted"}

    def _revealed(self) -> tuple[Floats, float] | None:
        """Return the coefficients if every party has them: a joint call may then use them."""
        return (self.coef_, float(self.intercept_ or 0.0)) if self._known_to_all else None

    def _public(self) -> tuple[Floats, float]:
        if not hasattr(self, "coef_"):
            self._fit_result()
        if self.intercept_ is None:
            msg = "the coefficients are shared, or went to other parties (reveal=False, to=): await predict(s, X_mine)"
            raise ProgramError(msg)
        return self.coef_, self.intercept_
