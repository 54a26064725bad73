"""The plain alternative does the ranker's work: the same scores, the same propensities."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.plain import Model
from bench.rankers import Workload, champion, prepare, request
from policies.features import ItemEncoder, StateEncoder
from policies.files import read_policy
from policies.policy import SlatePolicy
from policies.slates import slate_propensities
from schemas.sections import SoftmaxExploration


def test_scores_and_propensities_are_the_rankers(tmp_path: Path) -> None:
    workload = Workload(num_candidates=30)
    settings, loop = prepare(tmp_path, workload), workload.loop
    policy = read_policy(settings.policies_folder / champion(settings), loop)
    assert isinstance(policy, SlatePolicy)
    assert isinstance(loop.exploration, SoftmaxExploration)
    model, items = Model(settings), ItemEncoder(loop)
    for seed in range(10):
        body: Any = request(random.Random(seed), workload)
        ids, context = body["candidates"], body["context"]
        vectors = policy.item_vectors([items.encode(i, workload.features(int(i[1:]))) for i in ids])
        scores = policy.scores(policy.state_vectors([StateEncoder(loop).encode(context)])[0], vectors)
        slate = model.slate(context["user"], ids)
        drawn = [ids.index(item.item_id) for item in slate]
        assert len(set(drawn)) == 10
        assert [item.score for item in slate] == pytest.approx(scores[drawn].tolist(), abs=1e-5)
        propensities = slate_propensities(scores, drawn, loop.exploration)
        assert [item.propensity for item in slate] == pytest.approx(propensities, rel=1e-3)

    torch.manual_seed(0)
    firsts = Counter(ids.index(model.slate(context["user"], ids)[0].item_id) for _ in range(3_000))
    expected = [slate_propensities(scores, [i], loop.exploration)[0] for i in range(30)]
    assert [firsts[i] / 3_000 for i in range(30)] == pytest.approx(expected, abs=0.02)  # 3 sd of a share of .15
    # The tolerance and 3 sd of a share of 1/30: a sampler that ignores the scores would not pass.
    assert max(expected) > 1 / 30 + 0.02 + 0.01
