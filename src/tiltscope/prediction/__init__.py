"""What training will change, said beforehand, and how well that was said.

In:  what the pairs and the starting model's own answers show of every concept; later, answers before and after.
Out: forecasts per unit and predictor; a prediction card: squared correlation, interval, ceiling, nulls.
Refuses: to score a training that did not move the model. Numpy, scipy and scikit-learn only.
"""

from __future__ import annotations

from tiltscope.prediction.card import Card, Observed, prediction_card
from tiltscope.prediction.local import DECLARED_LOCAL, LocalShown, local_forecasts, local_swapped
from tiltscope.prediction.predictors import DECLARED, PREDICTORS, Objective, forecasts, swapped
from tiltscope.prediction.traits import TraitForecast, forecast_traits
from tiltscope.prediction.units import Shown, Units, make_units

__all__ = [
    "DECLARED",
    "DECLARED_LOCAL",
    "PREDICTORS",
    "Card",
    "LocalShown",
    "Objective",
    "Observed",
    "Shown",
    "TraitForecast",
    "Units",
    "forecast_traits",
    "forecasts",
    "local_forecasts",
    "local_swapped",
    "make_units",
    "prediction_card",
    "swapped",
]
