"""Estimators by name, those of `schemas.kinds.ESTIMATORS`. A new one is a file here, a line below and one there."""

from schemas.loop_file import Loop
from trainer.rewards.calibrated import Calibrated
from trainer.rewards.calibration import CALIBRATIONS
from trainer.rewards.din import DinEstimator
from trainer.rewards.ensemble import Ensemble
from trainer.rewards.estimator import EstimatorFactory, RewardEstimator
from trainer.rewards.fm import FmEstimator
from trainer.rewards.mean import MeanEstimator
from trainer.rewards.mlp import MlpEstimator

ESTIMATORS: dict[str, EstimatorFactory] = {
    "mlp": MlpEstimator,
    "fm": FmEstimator,
    "din": DinEstimator,
    "mean": MeanEstimator,
}


def make_estimator(loop: Loop) -> RewardEstimator:
    """The one that the loop file names, an ensemble of it and calibrated where it asks for that."""
    settings, make = loop.learner, ESTIMATORS[loop.learner.estimator]
    size = settings.ensemble_size
    estimator = Ensemble([make(loop) for _ in range(size)]) if size > 1 else make(loop)
    if settings.calibration == "none":
        return estimator
    return Calibrated(estimator, CALIBRATIONS[settings.calibration])
