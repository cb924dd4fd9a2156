"""CR2 with Satterthwaite degrees of freedom the slow, literal way: n x n matrices, one group at a time.

Bell and McCaffrey (2002); Pustejovsky and Tipton (2018), section 2, identity working model. Shares no code with
`tiltscope.stats`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class DenseCR2:
    """Effect, standard error, degrees of freedom and t of one coefficient."""

    effect: float
    se: float
    df: float
    t: float


def inverse_square_root(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The symmetric inverse square root of a positive semidefinite matrix; directions without size stay at zero."""
    values, vectors = np.linalg.eigh(matrix)
    powers = np.array([value**-0.5 if value > 1e-10 else 0.0 for value in values])
    return vectors @ np.diag(powers) @ vectors.T


def dense_cr2(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], groups: npt.NDArray[np.int64], tested: int
) -> DenseCR2:
    """Fit y on x by least squares and test column `tested`, groups being the clusters."""
    n = len(y)
    bread = np.linalg.pinv(x.T @ x, hermitian=True, rcond=1e-12)
    hat = x @ bread @ x.T
    annihilator = np.eye(n) - hat
    coefficients, residuals = bread @ x.T @ y, annihilator @ y
    variance, columns = 0.0, []
    for label in np.unique(groups):
        rows = np.flatnonzero(groups == label)
        adjustment = inverse_square_root(annihilator[np.ix_(rows, rows)])
        weights = adjustment @ x[rows] @ bread[:, tested]
        variance += float(weights @ residuals[rows]) ** 2
        columns.append(annihilator[:, rows] @ weights)
    p = np.column_stack(columns)
    product = p.T @ p
    df = np.trace(product) ** 2 / np.trace(product @ product)
    se = variance**0.5
    return DenseCR2(float(coefficients[tested]), se, float(df), float(coefficients[tested]) / se)
