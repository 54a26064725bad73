"""The ranker's network and the ranker's draws in torch, one request after another or several at once.

Other servers run it in environments of their own (`bench.peer_servers`), so it needs torch alone, and a file.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

FILE = "slates.pt"
Drawn = list[tuple[str, float, float]]
"""Of each item its id, its score and its propensity."""


@dataclass(frozen=True, slots=True)
class TorchPolicy:
    """What is served: the numbers of a policy and of its loop."""

    version: str
    item_ids: list[str]
    vectors: Tensor  # [N, D]
    biases: Tensor  # [N]
    tower: list[tuple[Tensor, Tensor]]
    """Weight and bias of each layer, with ReLU between them: the state's."""
    size: int
    temperature: float
    epsilon: float

    def write(self, folder: Path) -> None:
        torch.save(asdict(self), folder / FILE)

    @classmethod
    def read(cls, folder: Path) -> Self:
        return cls(**torch.load(folder / FILE, weights_only=True))


class Slates:
    """Scores and slates."""

    def __init__(self, policy: TorchPolicy) -> None:
        self._policy = policy
        self._rows = {item_id: row for row, item_id in enumerate(policy.item_ids)}
        self._tower = _tower(policy.tower)

    @torch.inference_mode()
    def slate(self, user: Sequence[float], candidates: Sequence[str]) -> Drawn:
        """Drawn as the ranker draws: by position, softmax by Gumbel noise, with probability epsilon uniform."""
        rows = torch.tensor([self._rows[item_id] for item_id in candidates])
        scores = self._policy.vectors[rows] @ self._tower(torch.tensor(user)) + self._policy.biases[rows]  # [N]
        drawn = self._drawn(scores)
        return _named(candidates, drawn, scores[drawn], self._propensities(scores, drawn))

    @torch.inference_mode()
    def slates(self, users: Sequence[Sequence[float]], candidates: Sequence[Sequence[str]]) -> list[Drawn]:
        """The same for B requests at once, all with as many candidates."""
        rows = torch.tensor([[self._rows[item_id] for item_id in named] for named in candidates])  # [B, N]
        states = self._tower(torch.tensor(users)).unsqueeze(2)  # [B, D, 1]
        scores = (self._policy.vectors[rows] @ states).squeeze(2) + self._policy.biases[rows]  # [B, N]
        drawn = self._drawn_together(scores)  # [B, K]
        columns = zip(candidates, drawn, scores.gather(1, drawn), self._propensities(scores, drawn), strict=True)
        return [_named(*each) for each in columns]

    def _drawn(self, scores: Tensor) -> Tensor:
        keys = self._keys(scores)
        by_chance = torch.rand(self._policy.size) < self._policy.epsilon
        if not by_chance.any():
            return torch.topk(keys, self._policy.size).indices  # [K]
        drawn = []
        for is_by_chance in by_chance.tolist():
            drawn.append(int(torch.multinomial(keys.isfinite().float(), 1) if is_by_chance else keys.argmax()))
            keys[drawn[-1]] = -torch.inf
        return torch.tensor(drawn)

    def _drawn_together(self, scores: Tensor) -> Tensor:
        """Position by position; what is left of a uniform order is in a uniform order."""
        keys, chances = self._keys(scores), torch.rand_like(scores)
        by_chance = torch.rand(len(scores), self._policy.size) < self._policy.epsilon  # [B, K]
        drawn = []
        for at in range(self._policy.size):
            best = torch.where(by_chance[:, at], chances.argmax(1), keys.argmax(1)).unsqueeze(1)  # [B, 1]
            drawn.append(best)
            keys.scatter_(1, best, -torch.inf)
            chances.scatter_(1, best, -torch.inf)
        return torch.cat(drawn, 1)

    def _keys(self, scores: Tensor) -> Tensor:
        return scores / self._policy.temperature - torch.empty_like(scores).exponential_().log()

    def _propensities(self, scores: Tensor, drawn: Tensor) -> Tensor:
        shares = torch.softmax(scores.double() / self._policy.temperature, -1)
        of_drawn = shares.gather(-1, drawn)
        before = torch.cumsum(of_drawn, -1) - of_drawn
        num_left = scores.shape[-1] - torch.arange(self._policy.size)
        epsilon = self._policy.epsilon
        return (1 - epsilon) * of_drawn / (1 - before).clamp(min=1e-12) + epsilon / num_left


class Answers:
    """Bodies of `POST /recommend`, as Python has them once JSON is read, and their answers; nothing is validated."""

    def __init__(self, folder: Path) -> None:
        """Of the policy that lies there; one thread, as servers with a worker a core have it."""
        torch.set_num_threads(1)
        policy = TorchPolicy.read(folder)
        self._version, self._slates, self._started = policy.version, Slates(policy), time.time()

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        return self._answer(self._slates.slate(question["context"]["user"], question["candidates"]))

    def answers(self, questions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """All of the benchmark's requests have as many candidates."""
        if len(questions) == 1:
            return [self.answer(questions[0])]
        users = [question["context"]["user"] for question in questions]
        return [self._answer(each) for each in self._slates.slates(users, [q["candidates"] for q in questions])]

    def _answer(self, drawn: Drawn) -> dict[str, Any]:
        return {
            "decision_id": uuid.uuid4().hex,
            "items": [{"item_id": item_id, "score": score, "propensity": p} for item_id, score, p in drawn],
            "policy": {"version": self._version, "age_seconds": time.time() - self._started},
            "mode": "learned",
        }


def _tower(layers: Sequence[tuple[Tensor, Tensor]]) -> nn.Module:
    modules: list[nn.Module] = []
    for weight, bias in layers:
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.load_state_dict({"weight": weight, "bias": bias})
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def _named(candidates: Sequence[str], drawn: Tensor, scores: Tensor, propensities: Tensor) -> Drawn:
    chosen = zip(drawn.tolist(), scores.tolist(), propensities.tolist(), strict=True)
    return [(candidates[i], score, propensity) for i, score, propensity in chosen]
