"""Estimators by name, those of `schemas.loop_file.ESTIMATORS`. A new one is a file here, a line below and one there."""

from trainer.rewards.estimator import EstimatorFactory
from trainer.rewards.fm import FmEstimator
from trainer.rewards.mlp import MlpEstimator

ESTIMATORS: dict[str, EstimatorFactory] = {"mlp": MlpEstimator, "fm": FmEstimator}
