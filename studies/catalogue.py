"""The studies by name. A module here is imported when its study is asked for."""

from importlib import import_module

from studies.study import Study

MODULES: dict[str, str] = {
    "ablation": "studies.ablation",
    "stochastic-vs-deterministic": "studies.stochastic",
    "noise": "studies.noise",
    "bad-estimator": "studies.bad_estimator",
    "calibration": "studies.calibration",
    "embeddings": "studies.embeddings",
    "exploration": "studies.exploration",
    "agents-in-tune": "studies.agents_in_tune",
    "virtual-taobao": "studies.virtual_taobao",
    "shop-recipe": "studies.shop_recipe",
}


def find_study(name: str) -> Study:
    """Raises KeyError."""
    study: Study = import_module(MODULES[name]).STUDY
    return study
