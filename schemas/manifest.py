"""The policy manifest: what a policy folder says of itself (DESIGN §8)."""

from pydantic import BaseModel, ConfigDict

WEIGHTS_FILE = "weights.safetensors"
GOLDEN_FILE = "golden.safetensors"
INDEX_FILE = "index.safetensors"
"""Item vectors and their index, where the catalogue is large."""
MANIFEST_FILE = "manifest.json"


class PolicyManifest(BaseModel):
    """`manifest.json`. `sha256` holds every other file of the folder by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    parent: str | None
    loop_hash: str
    created_at: float
    """Seconds since the epoch."""
    sha256: dict[str, str]
    metrics: dict[str, float]
    """What the learner knew of it: losses, the noise meter, the gate's figures."""
    revision: int
    """The replay watermark: the last revision of `rewards` that it had learned from."""
    final_at: list[float]
    """When the rewards first trained in this version became final: up to 256 evenly spaced quantiles, sorted.
    The ranker measures its freshness with them."""
