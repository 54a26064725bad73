"""`virtualtb`: Virtual Taobao, customers whose clicks were learned from those of a real shop (Shi et al., AAAI 2019).

A recommender answers each page with 27 weights in [-1, 1]; the customer clicks 0 to 10 of the page's items and turns
the page, or leaves. The weights of the three networks come from a folder: they are data of the public project
eyounx/VirtualTaobao (arXiv 1805.10000), and no part of this one.

The action moves neither leaving nor the next customer: this is a contextual bandit. Its clicks are nearly
deterministic. Two variants make them noisy: `bern30` pays 30 · Bernoulli(E[clicks] / 30), which keeps the expected
reward; `soft1000` divides the logits by 1,000, which does not.
"""

import itertools
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from schemas.loop_file import Loop, read_loop
from schemas.messages import Candidate, Recommendation, RecommendRequest
from simulators.world import Actions, Event, Floats, Ints, Outcome, State, WorldError

Variant: TypeAlias = Literal["native", "bern30", "soft1000"]
_Floats32: TypeAlias = NDArray[np.float32]

USER_FEATURES = (8, 8, 11, 11, 11, 11, 2, 2, 3, 18, 3)
NUM_USER_DIMS = sum(USER_FEATURES)
NUM_WEIGHTS = 27
PAGE_SIZE = 10
MAX_CLICKS = 10
MAX_INDEX = 9
MAX_PAGE = 100
BERN_REWARD = 30.0

_LOOP = Path(__file__).with_name("virtualtb.toml")
_OFFSETS = np.concatenate(([0], np.cumsum(USER_FEATURES)[:-1]))
_NOISE_DIM = 128
_LAYERS: dict[str, tuple[int, ...]] = {
    "generator_model.pt": (_NOISE_DIM, 128, NUM_USER_DIMS),
    "leave_model.pt": (NUM_USER_DIMS, 128, 256, MAX_PAGE + 1),
    "action_model.pt": (NUM_USER_DIMS + 1 + NUM_WEIGHTS, 128, 256, MAX_CLICKS + 1 + MAX_INDEX + 1),
}


class Mlp:
    """Linear layers with LeakyReLU(0.01) between them; layer i of the state dict is number 2 i."""

    def __init__(self, tensors: Mapping[str, _Floats32]) -> None:
        names = range(0, len(tensors), 2)
        self._layers = [(np.ascontiguousarray(tensors[f"{i}.weight"].T), tensors[f"{i}.bias"]) for i in names]

    def __call__(self, x: _Floats32) -> _Floats32:
        """[n, in] → [n, out]"""
        *hidden, (last_weight, last_bias) = self._layers
        for weight, bias in hidden:
            x = x @ weight + bias
            x = np.maximum(x, np.float32(0.01) * x)
        return x @ last_weight + last_bias


@dataclass(frozen=True, slots=True)
class Networks:
    """Who comes, how long they stay, and what they click."""

    generator: Mlp
    leave: Mlp
    action: Mlp


def check_folder(folder: Path) -> None:
    """Raises `WorldError`, which names the path, unless the folder has the three files."""
    if not folder.is_dir():
        raise WorldError(f"virtualtb: {folder} is no folder; it should hold {', '.join(_LAYERS)}")
    for name in _LAYERS:
        if not (folder / name).is_file():
            raise WorldError(f"virtualtb: {folder} has no file {name}; it should hold {', '.join(_LAYERS)}")


def load_networks(folder: Path) -> Networks:
    """The three networks of a folder; raises `WorldError` where a file is missing, broken or of another shape."""
    check_folder(folder)
    generator, leave, action = (Mlp(_read_tensors(folder / name, sizes)) for name, sizes in _LAYERS.items())
    return Networks(generator, leave, action)


def _read_tensors(path: Path, sizes: Sequence[int]) -> dict[str, _Floats32]:
    import torch  # noqa: PLC0415  the worlds without it, and their shoppers, start three seconds sooner

    expected: dict[str, tuple[int, ...]] = {}
    for i, (num_in, num_out) in enumerate(itertools.pairwise(sizes)):
        expected |= {f"{2 * i}.weight": (num_out, num_in), f"{2 * i}.bias": (num_out,)}
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise WorldError(f"virtualtb: {path} is not a file of PyTorch weights: {error}") from error
    found = {k: tuple(v.shape) for k, v in loaded.items()} if isinstance(loaded, dict) else type(loaded).__name__
    if found != expected:
        raise WorldError(f"virtualtb: {path} has the tensors {found}; expected {expected}")
    return {name: np.asarray(tensor.numpy(), np.float32) for name, tensor in loaded.items()}


@dataclass(frozen=True)
class VirtualTaobao:
    """Virtual Taobao V0; `load_networks` brings its networks."""

    networks: Networks
    variant: Variant = "native"
    page_size: int | None = PAGE_SIZE

    @property
    def name(self) -> str:
        return "virtualtb" if self.variant == "native" else f"virtualtb-{self.variant}"

    @cached_property
    def loop(self) -> Loop:
        return read_loop(_LOOP)

    def catalogue(self) -> list[Candidate]:
        return []

    def start(self, num_sessions: int, rng: np.random.Generator) -> State:
        """Columns `features` [n, 11]; `num_pages` seen, `clicks` and `index` of the page before, `leaves_at` [n]."""
        z = rng.random((num_sessions, _NOISE_DIM), np.float32)
        logits = self.networks.generator(z)
        parts = np.split(logits, _OFFSETS[1:], axis=1)
        features = np.stack([_sample(part, rng) for part in parts], axis=1)
        nothing = np.zeros(num_sessions, np.int64)
        return {
            "features": features,
            "num_pages": nothing,
            "clicks": nothing,
            "index": nothing,
            "leaves_at": _sample(self.networks.leave(one_hot(features)), rng),
        }

    def requests(self, state: State) -> list[RecommendRequest]:
        columns = (state[name].tolist() for name in ("features", "clicks", "index", "num_pages"))
        return [
            RecommendRequest(
                context={f"f{i}": v for i, v in enumerate(features)} | {"clicks": clicks, "index": index, "page": page}
            )
            for features, clicks, index, page in zip(*columns, strict=True)
        ]

    def actions(self, answers: Sequence[Recommendation]) -> Actions:
        actions = [answer.action for answer in answers]
        for action in actions:
            if action is None or len(action) != NUM_WEIGHTS:
                raise WorldError(f"virtualtb needs an action of {NUM_WEIGHTS} weights; the answer has {action}")
        return np.array(actions)

    def random_actions(self, state: State, rng: np.random.Generator) -> Actions:
        return rng.uniform(-1.0, 1.0, (len(state["num_pages"]), NUM_WEIGHTS))

    def oracle_reward(self, state: State, actions: Actions) -> Floats:
        """[n, 1] Σ i · softmax(click logits)ᵢ: exact, and equal for `native` and `bern30`."""
        return self._expected_clicks(self._click_and_index_logits(state, actions)[0])

    def step(self, state: State, actions: Actions, rng: np.random.Generator) -> Outcome:
        click_logits, index_logits = self._click_and_index_logits(state, actions)
        if self.variant == "bern30":
            share = self._expected_clicks(click_logits)[:, 0] / BERN_REWARD
            rewards = np.where(rng.random(len(share)) < share, BERN_REWARD, 0.0)
        else:
            rewards = np.asarray(_sample(click_logits, rng), np.float64)
        num_pages = state["num_pages"] + 1
        next_state = {
            "features": state["features"],
            "num_pages": num_pages,
            # What was rewarded, so that the noisy variants do not give the clean clicks away.
            "clicks": np.minimum(rewards, MAX_CLICKS).astype(np.int64),
            "index": _sample(index_logits, rng),
            "leaves_at": state["leaves_at"],
        }
        return Outcome(rewards[:, None], num_pages >= state["leaves_at"], next_state)

    def events(self, actions: Actions, outcome: Outcome) -> list[list[Event]]:
        rows = zip(actions, outcome.rewards[:, 0].tolist(), outcome.done.tolist(), strict=True)
        return [[Event("clicks", reward)] + [Event("leave")] * done for _, reward, done in rows]

    def _click_and_index_logits(self, state: State, actions: Actions) -> tuple[_Floats32, _Floats32]:
        """[n, 11] and [n, 10]"""
        page = state["num_pages"][:, None].astype(np.float32)
        logits = self.networks.action(np.hstack([one_hot(state["features"]), page, actions.astype(np.float32)]))
        if self.variant == "soft1000":
            logits = logits / np.float32(1000.0)
        return logits[:, : MAX_CLICKS + 1], logits[:, MAX_CLICKS + 1 :]

    @staticmethod
    def _expected_clicks(click_logits: _Floats32) -> Floats:
        return (_softmax(click_logits) @ np.arange(MAX_CLICKS + 1.0))[:, None]


def one_hot(features: Ints) -> _Floats32:
    """[n, 11] → [n, 88]"""
    dims = np.zeros((len(features), NUM_USER_DIMS), np.float32)
    dims[np.arange(len(features))[:, None], features + _OFFSETS] = 1.0
    return dims


def _softmax(logits: _Floats32) -> Floats:
    """[n, m] in float64: native logits have an sd of thousands."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def _sample(logits: _Floats32, rng: np.random.Generator) -> Ints:
    """[n, m] → [n] drawn from the softmax, by the Gumbel-max trick."""
    return np.asarray((logits + rng.gumbel(size=logits.shape)).argmax(axis=1), np.int64)
