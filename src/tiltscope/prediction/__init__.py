"""What training will change, said beforehand, and how well that was said.

In:  what the pairs and the starting model's own answers show of every concept; later, answers before and after.
Out: forecasts per unit and predictor; a prediction card: squared correlation, interval, ceiling, nulls.
Refuses: to score a training that did not move the model. Numpy, scipy and scikit-learn only.
"""

from __future__ import annotations

from tiltscope.prediction.card import Card, Observed, prediction_card
from tiltscope.prediction.predictors import PREDICTORS, PRIMARY, forecasts, swapped
from tiltscope.prediction.traits import TraitForecast, forecast_traits
from tiltscope.prediction.units import Shown, Units, make_units

__all__ = [
    "PREDICTORS",
    "PRIMARY",
    "Card",
    "Observed",
    "Shown",
    "TraitForecast",
    "Units",
    "forecast_traits",
    "forecasts",
    "make_units",
    "prediction_card",
    "swapped",
]
