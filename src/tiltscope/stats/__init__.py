"""Arrays become numbers.

In: arrays of disparities, activities, lengths and group labels, one row per pair. Out: effects, standard errors,
degrees of freedom, p and q values, intervals, and the random draws of both nulls. Refuses: to know what a pair or a
concept is (numpy and scipy only), to read files, and to guess: what cannot be estimated is nan, never 0 or 1.

Everything that speaks of uncertainty takes groups of pairs, because pairs of one group are one witness. The variance
is CR2 (Bell and McCaffrey 2002) with Satterthwaite degrees of freedom under the working model of independent errors
of equal variance, as in clubSandwich and Pustejovsky and Tipton (2018).
"""

from __future__ import annotations

from tiltscope.stats.changes import Changes, change_test
from tiltscope.stats.estimates import Bounds, Estimates
from tiltscope.stats.exact import FewGroups, flip_p
from tiltscope.stats.flips import flip_regression
from tiltscope.stats.groups import Clusters, explore_mask, half_mask, rademacher
from tiltscope.stats.length import spline_basis_difference
from tiltscope.stats.lists import q_of_lists
from tiltscope.stats.means import tau_flips, tau_test
from tiltscope.stats.regression import RegressionCR2
from tiltscope.stats.sources import DyadicSE, dyadic_se
from tiltscope.stats.summaries import (
    Share,
    SplitHalf,
    Welch,
    benjamini_hochberg,
    share_with_interval,
    split_half,
    welch,
    wilson,
)

__all__ = [
    "Bounds",
    "Changes",
    "Clusters",
    "DyadicSE",
    "Estimates",
    "FewGroups",
    "RegressionCR2",
    "Share",
    "SplitHalf",
    "Welch",
    "benjamini_hochberg",
    "change_test",
    "dyadic_se",
    "explore_mask",
    "flip_p",
    "flip_regression",
    "half_mask",
    "q_of_lists",
    "rademacher",
    "share_with_interval",
    "spline_basis_difference",
    "split_half",
    "tau_flips",
    "tau_test",
    "welch",
    "wilson",
]
