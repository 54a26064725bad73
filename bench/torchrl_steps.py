"""The peer of `bench.learner`: the same update over TorchRL's loss modules, target update and replay buffer.

Embeddings, heads and sizes are this project's own modules; all else is written as TorchRL's examples write it. Left
out, to the peer's advantage: the L2 penalties on the actor's output and on ids, and the figures for people.
"""

import logging

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import Tensor, nn
from torch.nn import functional
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.modules import ValueOperator
from torchrl.objectives import DDPGLoss, SoftUpdate, TD3Loss, ValueEstimators

from schemas.loop_file import Loop
from schemas.sections import WeightsAction
from trainer.networks import ActorHead, Embeddings, Mlp
from trainer.replay.batch import TransitionBatch

_MAX_REWARD = 10.0

logging.getLogger("torchrl").setLevel(logging.WARNING)  # it tells of every buffer


class TorchRlStep:
    """Calling it makes one update. An agent of SRS2 sees the features of the estimator's encoder, without gradients;
    else actor and critics have an encoder each, since the loss modules detach what they are given.
    """

    def __init__(self, loop: Loop, transitions: TransitionBatch) -> None:
        """With new weights, and a buffer of these transitions."""
        torch.manual_seed(0)
        settings = loop.learner
        self._buffer = _filled(transitions, settings.batch_size)
        self._estimator = None if settings.stabilizer == "raw" else _Estimator(loop)
        self._is_shared = settings.stabilizer == "srs2"
        self._actor_delay, self._num_updates = settings.actor_delay if settings.agent == "td3" else 1, 0
        agent = _ddpg_loss if settings.agent == "ddpg" else _td3_loss
        self._loss = agent(_actor(loop, self._is_shared), _critic(loop, self._is_shared))
        self._loss.make_value_estimator(ValueEstimators.TD0, gamma=settings.discount)
        self._updater = SoftUpdate(self._loss, tau=settings.polyak)
        of_actor = [*self._loss.actor_network_params.flatten_keys().values()]
        is_of_actor = {id(parameter) for parameter in of_actor}
        of_critic = [each for each in self._loss.parameters() if id(each) not in is_of_actor]
        rate = settings.learning_rate
        self._actor_optimizer = torch.optim.Adam(of_actor, rate, fused=True)
        self._critic_optimizer = torch.optim.Adam(of_critic, settings.critic_learning_rate or rate, fused=True)

    def __call__(self) -> None:
        batch = self._buffer.sample()
        if self._estimator is not None:
            self._estimator.update(batch)
            self._estimator.stabilize(batch, see_next=self._is_shared)
        self._num_updates += 1
        is_ddpg = isinstance(self._loss, DDPGLoss)
        value_loss, actor_loss = (
            (self._loss.loss_value, self._loss.loss_actor)
            if is_ddpg
            else (self._loss.value_loss, self._loss.actor_loss)
        )
        _descend(self._critic_optimizer, value_loss(batch)[0])
        if self._num_updates % self._actor_delay == 0:
            _descend(self._actor_optimizer, actor_loss(batch)[0])
            self._updater.step()


class _Encoder(nn.Module):
    """Features [B, Fs] of states with slots [B, S] and numbers [B, G]."""

    def __init__(self, embeddings: Embeddings) -> None:
        super().__init__()
        self._embeddings = embeddings

    def forward(self, slots: Tensor, numbers: Tensor) -> Tensor:
        return self._embeddings.state(slots, numbers)


class _Concatenated(nn.Module):
    """A network of state features and action."""

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        assert isinstance(loop.action, WeightsAction), "its agents are for weights"
        shape = loop.network
        dim = Embeddings(loop).state_dim + loop.action.dim
        self._mlp = Mlp(dim, shape.hidden, 1, layer_norm=shape.layer_norm)

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        """[B, 1]"""
        output: Tensor = self._mlp(torch.cat([features, action], dim=-1))
        return output


class _Estimator:
    """Click shares of pages by cross-entropy, as `trainer.rewards` fits them."""

    def __init__(self, loop: Loop) -> None:
        self._encoder = _encoder(Embeddings(loop))
        head = TensorDictModule(_Concatenated(loop), in_keys=["features", "action"], out_keys=["logit"])
        self._network = TensorDictSequential(self._encoder, head)
        self._head = head
        rate = loop.learner.estimator_learning_rate
        self._optimizer = torch.optim.Adam(self._network.parameters(), rate, fused=True)

    def update(self, batch: TensorDict) -> None:
        logit = self._network(batch.select("slots", "numbers", "action"))["logit"]
        label = batch["next", "reward"] / _MAX_REWARD
        _descend(self._optimizer, functional.binary_cross_entropy_with_logits(logit, label))

    @torch.no_grad()
    def stabilize(self, batch: TensorDict, *, see_next: bool) -> None:
        """Puts the estimate in the reward's place, and the encoder's features beside the states."""
        self._network(batch)
        batch["next", "reward"] = _MAX_REWARD * torch.sigmoid(batch["logit"])
        if see_next:
            self._encoder(batch["next"])


def _encoder(embeddings: Embeddings) -> TensorDictModule:
    return TensorDictModule(_Encoder(embeddings), in_keys=["slots", "numbers"], out_keys=["features"])


def _with_encoder(loop: Loop, module: TensorDictModule, *, is_shared: bool) -> TensorDictModule:
    """The module behind an encoder of its own, unless features are given to it."""
    return module if is_shared else TensorDictSequential(_encoder(Embeddings(loop)), module)


def _actor(loop: Loop, is_shared: bool) -> TensorDictModule:
    head = nn.Sequential(ActorHead(loop, Embeddings(loop).state_dim), nn.Tanh())
    return _with_encoder(loop, TensorDictModule(head, ["features"], ["action"]), is_shared=is_shared)


def _critic(loop: Loop, is_shared: bool) -> TensorDictModule:
    head = ValueOperator(_Concatenated(loop), in_keys=["features", "action"])
    return _with_encoder(loop, head, is_shared=is_shared)


def _ddpg_loss(actor: TensorDictModule, critic: TensorDictModule) -> DDPGLoss:
    return DDPGLoss(actor, critic, delay_actor=True, loss_function="l2")


def _td3_loss(actor: TensorDictModule, critic: TensorDictModule) -> TD3Loss:
    """Both critics at once, by `vmap`: one after the other takes a tenth longer."""
    return TD3Loss(actor, critic, bounds=(-1.0, 1.0), loss_function="l2")


def _filled(batch: TransitionBatch, batch_size: int) -> TensorDictReplayBuffer:
    done = batch.terminated.unsqueeze(1)
    transitions = TensorDict(
        {
            "slots": batch.state_slots,
            "numbers": batch.state_numbers,
            "action": batch.action,
            "next": {
                "slots": batch.next_state_slots,
                "numbers": batch.next_state_numbers,
                "reward": batch.reward.unsqueeze(1),
                "done": done,
                "terminated": done,
            },
        },
        [len(done)],
    )
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(len(done)), batch_size=batch_size)
    buffer.extend(transitions)
    return buffer


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
    optimizer.step()
    optimizer.zero_grad()
