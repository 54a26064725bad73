"""The plain alternative: FastAPI as its tutorial has it, and torch, with the ranker's network and the ranker's work.

`python -m bench.plain PORT FOLDER` serves the slate policy of a folder that `bench.rankers.prepare` made. It is given
what a good engineer would give it: one thread, `inference_mode`, item vectors made once, an endpoint on the event loop.
It logs nothing.
"""

import sys
import time
import uuid
from pathlib import Path
from typing import Annotated

import torch
from fastapi import FastAPI
from pydantic import BaseModel, Field
from safetensors.numpy import load_file
from torch import Tensor

from bench.echo import run
from bench.rankers import STATE_DIM, Workload, champion
from bench.torch_slates import Slates, TorchPolicy
from policies.features import ItemEncoder
from policies.files import read_policy
from policies.networks import Tensors
from policies.policy import SlatePolicy
from schemas.loop_file import read_loop
from schemas.manifest import WEIGHTS_FILE
from schemas.sections import SlateAction, SoftmaxExploration
from schemas.settings import Settings


class Context(BaseModel):
    user: Annotated[list[float], Field(min_length=STATE_DIM, max_length=STATE_DIM)]


class Question(BaseModel):
    user_id: str
    context: Context
    candidates: Annotated[list[str], Field(min_length=1, max_length=10_000)]


class Item(BaseModel):
    item_id: str
    score: float
    propensity: float


class Acting(BaseModel):
    version: str
    age_seconds: float


class Answer(BaseModel):
    decision_id: str
    items: list[Item]
    policy: Acting
    mode: str


class Model:
    """Scores and slates, in torch."""

    def __init__(self, settings: Settings) -> None:
        policy = torch_policy(settings)
        self.version, self._slates = policy.version, Slates(policy)

    def slate(self, user: list[float], candidates: list[str]) -> list[Item]:
        drawn = self._slates.slate(user, candidates)
        return [Item(item_id=item_id, score=score, propensity=propensity) for item_id, score, propensity in drawn]


def torch_policy(settings: Settings) -> TorchPolicy:
    """The champion's numbers; item vectors are made once."""
    loop, version = read_loop(settings.loop), champion(settings)
    assert isinstance(loop.action, SlateAction)
    assert isinstance(loop.exploration, SoftmaxExploration)
    policy = read_policy(settings.policies_folder / version, loop)
    assert isinstance(policy, SlatePolicy)
    encoder, workload = ItemEncoder(loop), Workload()
    item_ids = [f"i{number}" for number in range(workload.num_items)]
    encoded = [encoder.encode(item_id, workload.features(number)) for number, item_id in enumerate(item_ids)]
    items = policy.item_vectors(encoded)
    return TorchPolicy(
        version,
        item_ids,
        torch.from_numpy(items.vectors.T.copy()),  # [N, D]
        torch.from_numpy(items.biases),  # [N]
        _layers(load_file(settings.policies_folder / version / WEIGHTS_FILE)),
        loop.action.size,
        loop.exploration.temperature,
        loop.exploration.epsilon,
    )


def _layers(tensors: Tensors) -> list[tuple[Tensor, Tensor]]:
    """The state's, with one hidden layer, from numbers, which a policy that learned nothing does not scale."""
    layers = ("head.state_tower.hidden.0", "head.state_tower.out")
    numbers = ([torch.from_numpy(tensors[f"{layer}.{kind}"].copy()) for kind in ("weight", "bias")] for layer in layers)
    return [(weight, bias) for weight, bias in numbers]


def make_app(model: Model) -> FastAPI:
    app, started = FastAPI(), time.time()

    @app.post("/recommend")
    async def recommend(question: Question) -> Answer:
        items = model.slate(question.context.user, question.candidates)
        acting = Acting(version=model.version, age_seconds=time.time() - started)
        return Answer(decision_id=uuid.uuid4().hex, items=items, policy=acting, mode="learned")

    return app


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[2])
    settings = Settings(data=folder / "data", loop=folder / "loop.toml")
    run(make_app(Model(settings)), int(sys.argv[1]), has_lifespan=False)
