"""Our agents beside those of Stable-Baselines3 on gymnasium's standard tasks: whether the baselines are weak."""

import warnings
from typing import Any

import gymnasium
import numpy as np
import torch

from studies.batched import BatchedRun
from studies.gym_worlds import CartPole, Pendulum
from studies.online import changed
from studies.plots import grid, learning_curves
from studies.statistics import final, told
from studies.study import Cell, Report, Result, Results, Study

OURS, THEIRS = "ours", "Stable-Baselines3"
NUM_POINTS = 10
NUM_EVALUATED = 10
TASKS: dict[str, tuple[str, type[CartPole | Pendulum]]] = {
    "CartPole": ("CartPole-v1", CartPole),
    "Pendulum": ("Pendulum-v1", Pendulum),
}
_OFF_POLICY = {"learning_rate": 1e-3, "discount": 0.98, "batch_size": 256, "decisions_per_update": 1.0}
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    # Theirs are those of their own zoo for the task, where it has some, else their defaults.
    "CartPole, dqn": {
        OURS: {"learning_rate": 2.3e-3, "discount": 0.99, "batch_size": 64, "decisions_per_update": 2.0},
        THEIRS: {
            "learning_rate": 2.3e-3,
            "batch_size": 64,
            "buffer_size": 100_000,
            "learning_starts": 1_000,
            "gamma": 0.99,
            "target_update_interval": 10,
            "train_freq": 256,
            "gradient_steps": 128,
            "exploration_fraction": 0.16,
            "exploration_final_eps": 0.04,
            "policy_kwargs": {"net_arch": [256, 256]},
        },
    },
    "Pendulum, ddpg": {OURS: _OFF_POLICY, THEIRS: {"learning_rate": 1e-3, "gamma": 0.98}},
    "Pendulum, td3": {OURS: _OFF_POLICY, THEIRS: {"learning_rate": 1e-3, "gamma": 0.98}},
    "Pendulum, sac": {OURS: _OFF_POLICY, THEIRS: {"learning_rate": 1e-3, "gamma": 0.98}},
}
CELLS = [
    Cell(f"{name}, {side}", {"task": name, "side": side, "settings": settings})
    for name, sides in SETTINGS.items()
    for side, settings in sides.items()
]


def run(cell: Cell, seed: int, num_decisions: int) -> Result:
    """returns: of a session without exploration, the mean of 10, at 10 points."""
    task, agent = cell.settings["task"].split(", ")
    train = _train_ours if cell.settings["side"] == OURS else _train_theirs
    return {"returns": train(task, agent, dict(cell.settings["settings"]), seed, num_decisions)}


def _train_ours(task: str, agent: str, settings: dict[str, Any], seed: int, num_decisions: int) -> list[float]:
    world = TASKS[task][1]()
    loop = changed(world.loop, learner={"agent": agent} | settings)
    run = BatchedRun(world, loop, seed, num_decisions, num_sessions=1)
    return [float(mean) for mean in run.run(NUM_POINTS, NUM_EVALUATED).reward]


def _train_theirs(task: str, agent: str, settings: dict[str, Any], seed: int, num_decisions: int) -> list[float]:
    import stable_baselines3  # noqa: PLC0415  seconds, which only these cells need
    from stable_baselines3.common.evaluation import evaluate_policy  # noqa: PLC0415

    name = TASKS[task][0]
    make = getattr(stable_baselines3, agent.upper())
    torch.set_num_threads(1)
    model = make("MlpPolicy", name, seed=seed, device="cpu", **settings)
    evaluation = gymnasium.make(name)
    returns = []
    for _ in range(NUM_POINTS):
        model.learn(num_decisions // NUM_POINTS, reset_num_timesteps=False)
        evaluation.reset(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that the task has no monitor, which nothing here needs
            mean, _ = evaluate_policy(model, evaluation, NUM_EVALUATED, deterministic=True)
        returns.append(float(np.mean(mean)))
    return returns


def report(results: Results) -> Report:
    rows = ["| | ours | Stable-Baselines3 |", "| --- | --- | --- |"]
    figure, panels = grid(len(SETTINGS))
    for name, panel in zip(SETTINGS, panels, strict=True):
        curves = {side: [result["returns"] for result in results[f"{name}, {side}"]] for side in (OURS, THEIRS)}
        rows.append(f"| {name} | {told(final(curves[OURS]), 1)} | {told(final(curves[THEIRS]), 1)} |")
        learning_curves(panel, curves, STUDY.num_decisions, "return")
        panel.set_title(name)
        panel.legend(fontsize="small")
    return Report(f"{_WORDS}\n\n" + "\n".join(rows), {"": figure})


_WORDS = (
    "The return of a session without exploration, mean of the last two of 10 points, each the mean of 10 sessions, "
    "after the same number of steps. Stable-Baselines3 has the settings of its own zoo for CartPole, and on Pendulum "
    "the learning rate and discount of ours. CartPole: at most 500; Pendulum: about −150 is solved, a random policy "
    "has −1,200."
)

STUDY = Study(
    name="agents-in-tune",
    title="Agents beside Stable-Baselines3",
    question="Are our agents as good as well-known ones on tasks that everyone knows?",
    cells=CELLS,
    run=run,
    report=report,
    num_seeds=5,
    num_decisions=10_000,
    quick_decisions=400,
)
