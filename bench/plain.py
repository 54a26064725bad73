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
from torch import Tensor, nn

from bench.echo import run
from bench.rankers import STATE_DIM, Workload, champion
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
        loop = read_loop(settings.loop)
        assert isinstance(loop.action, SlateAction)
        assert isinstance(loop.exploration, SoftmaxExploration)
        self.version = champion(settings)
        policy = read_policy(settings.policies_folder / self.version, loop)
        assert isinstance(policy, SlatePolicy)
        self._size, self._exploration = loop.action.size, loop.exploration
        encoder, workload = ItemEncoder(loop), Workload()
        encoded = [encoder.encode(f"i{number}", workload.features(number)) for number in range(workload.num_items)]
        items = policy.item_vectors(encoded)
        self._vectors = torch.from_numpy(items.vectors.T.copy())  # [N, D]
        self._biases = torch.from_numpy(items.biases)  # [N]
        self._rows = {f"i{number}": number for number in range(workload.num_items)}
        self._tower = _tower(load_file(settings.policies_folder / self.version / WEIGHTS_FILE))

    @torch.inference_mode()
    def slate(self, user: list[float], candidates: list[str]) -> list[Item]:
        """Drawn as the ranker draws: by position, softmax by Gumbel noise, with probability epsilon uniform."""
        rows = torch.tensor([self._rows[item_id] for item_id in candidates])
        scores = self._vectors[rows] @ self._tower(torch.tensor(user)) + self._biases[rows]  # [N]
        drawn = self._drawn(scores)
        propensities = self._propensities(scores, drawn)
        chosen = zip(drawn.tolist(), scores[drawn].tolist(), propensities.tolist(), strict=True)
        return [Item(item_id=candidates[i], score=score, propensity=p) for i, score, p in chosen]

    def _drawn(self, scores: Tensor) -> Tensor:
        keys = scores / self._exploration.temperature - torch.empty_like(scores).exponential_().log()
        by_chance = torch.rand(self._size) < self._exploration.epsilon
        if not by_chance.any():
            return torch.topk(keys, self._size).indices  # [K]
        drawn = []
        for is_by_chance in by_chance.tolist():
            drawn.append(int(torch.multinomial(keys.isfinite().float(), 1) if is_by_chance else keys.argmax()))
            keys[drawn[-1]] = -torch.inf
        return torch.tensor(drawn)

    def _propensities(self, scores: Tensor, drawn: Tensor) -> Tensor:
        shares = torch.softmax(scores.double() / self._exploration.temperature, 0)
        of_drawn = shares[drawn]
        before = torch.cumsum(of_drawn, 0) - of_drawn
        n, epsilon = len(scores), self._exploration.epsilon
        num_left = n - torch.arange(len(drawn))
        return (1 - epsilon) * of_drawn / (1 - before).clamp(min=1e-12) + epsilon / num_left


def _tower(tensors: Tensors) -> nn.Module:
    """The state's, with one hidden layer, from numbers, which a policy that learned nothing does not scale."""
    layers: list[nn.Module] = []
    for name in ("head.state_tower.hidden.0", "head.state_tower.out"):
        weight = torch.from_numpy(tensors[f"{name}.weight"].copy())
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.load_state_dict({"weight": weight, "bias": torch.from_numpy(tensors[f"{name}.bias"].copy())})
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


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
