"""What embeddings hold: those that SRS2 shares, those of stabilized rewards, and those of raw ones."""

import numpy as np

from policies.features import ItemEncoder
from simulators.shop import NUM_ITEM_CATEGORIES, Dials, Shop
from simulators.world import Floats, Ints
from studies.ablation import RAW, VARIANTS
from studies.batched import BatchedRun
from studies.online import changed
from studies.plots import grid
from studies.shop_cells import shop_cell
from studies.statistics import paired, told
from studies.study import Cell, Report, Result, Results, Study

CELLS = [
    shop_cell(variant, {"click_rate": 0.2}, VARIANTS[variant]) for variant in (RAW, "srs", "srs2", "srs2-residual")
]
_NUM_NEIGHBOURS = 10
_NAMES = ("purity", "taste", "quality", "rank")


def run(cell: Cell, seed: int, num_decisions: int) -> Result:
    """The measures of the item vectors that the policy holds, before and after, and their plane after (first seeds)."""
    shop = Shop(seed, Dials(**cell.settings["dials"]))
    run = BatchedRun(shop, changed(shop.loop, **cell.settings["loop"]), seed, num_decisions)
    before = item_vectors(run, shop)
    run.run(1, 10)
    after = item_vectors(run, shop)
    categories = shop.truth.item_categories
    return {
        "before": dict(zip(_NAMES, measures(before, shop), strict=True)),
        "after": dict(zip(_NAMES, measures(after, shop), strict=True)),
        "plane": plane(after).round(3).tolist(),
        "categories": categories.tolist(),
    }


def item_vectors(run: BatchedRun, shop: Shop) -> Floats:
    """[500, d] what the policy knows of each item: the sum of the rows of its id and of its category."""
    tensors = run.learner.policy_tensors()
    encoder = ItemEncoder(shop.loop)
    encoded = [encoder.encode(item.item_id, item.features) for item in shop.catalogue()]
    slots = np.array([item.slots for item in encoded])  # [500, 2]: id, category
    ids, categories = (tensors[f"embeddings.item.{name}"] for name in ("id", "category"))
    vectors: Floats = (ids[slots[:, 0]] + categories[slots[:, 1]]).astype(np.float64)
    return vectors


def measures(vectors: Floats, shop: Shop) -> tuple[float, float, float, float]:
    """Of item vectors [N, d]: purity, taste, quality, rank.

    purity: the mean share of an item's 10 nearest by cosine that are of its category. taste and quality: R² of the
    linear regression on them of the users' mean affinity, and of what an item does to satisfaction. rank: the
    effective rank (Roy and Vetterli 2007), 1 where all have collapsed to a line, d where they use all dimensions.
    """
    appeal, delight = shop.truth.appeal.mean(axis=0), shop.truth.delight.mean(axis=0)
    purity = neighbour_purity(vectors, shop.truth.item_categories)
    return purity, explained(vectors, appeal), explained(vectors, delight), effective_rank(vectors)


def neighbour_purity(vectors: Floats, labels: Ints) -> float:
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, -np.inf)
    nearest = np.argsort(-likeness, axis=1)[:, :_NUM_NEIGHBOURS]
    return float((labels[nearest] == labels[:, None]).mean())


def explained(vectors: Floats, target: Floats) -> float:
    """R² of the least squares of `target` [N] on vectors [N, d] and a constant."""
    design = np.column_stack([vectors, np.ones(len(vectors))])
    fitted = design @ np.linalg.lstsq(design, target, rcond=None)[0]
    return 1.0 - float(((target - fitted) ** 2).sum() / ((target - target.mean()) ** 2).sum())


def effective_rank(vectors: Floats) -> float:
    values = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False)
    share = values / values.sum()
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def plane(vectors: Floats) -> Floats:
    """[N, 2] the first two principal components."""
    centred = vectors - vectors.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    projected: Floats = centred @ axes[:2].T
    return projected


def report(results: Results) -> Report:
    rows = [f"| | {' | '.join(_NAMES)} | purity over raw |", f"|{' --- |' * (len(_NAMES) + 2)}"]
    purity = {name: [result["after"]["purity"] for result in of_seeds] for name, of_seeds in results.items()}
    for name, of_seeds in results.items():
        for when in ("before", "after"):
            cells = [told([result[when][measure] for result in of_seeds], 2) for measure in _NAMES]
            against = str(paired(purity[name], purity[RAW])) if when == "after" and name != RAW else ""
            rows.append(f"| {name}, {when} | {' | '.join(cells)} | {against} |")
    figure, panels = grid(len(results))
    for (name, of_seeds), panel in zip(results.items(), panels, strict=True):
        points = np.array(of_seeds[0]["plane"])
        panel.scatter(points[:, 0], points[:, 1], c=of_seeds[0]["categories"], cmap="tab20", s=10)
        panel.set_title(f"{name}: items by category, first seed")
        panel.set_xlabel("first principal component")
        panel.set_ylabel("second")
    return Report(f"{_WORDS}\n\n" + "\n".join(rows), {"": figure})


_WORDS = (
    "20 % clicks, DQN. The vector of an item is the sum of the rows of its id and its category, as the policy holds "
    f"them. purity: the mean share of its {_NUM_NEIGHBOURS} nearest by cosine that are of its category (by chance "
    f"{1 / NUM_ITEM_CATEGORIES:.2f}). taste, quality: R² on the vectors of an item's mean appeal and of its mean "
    "effect on satisfaction. rank: the effective rank, of 8 dimensions; 1 is a collapse to a line."
)

STUDY = Study(
    name="embeddings",
    title="What embeddings hold",
    question="What do shared embeddings hold that an agent's own do not?",
    cells=CELLS,
    run=run,
    report=report,
    num_seeds=5,
)
