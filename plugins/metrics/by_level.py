"""Per-level analysis of SID predictions: where along the levels decoding goes wrong."""

from __future__ import annotations

from typing import Any

from harness.components import Evaluated
from harness.evaluation.levels import drop_off
from harness.evaluation.target_ranks import CUTOFFS, distinct_sids


def levels(evaluated: Evaluated) -> dict[str, Any] | None:
    """Independent, cumulative and drop-off accuracy; None where there are no SIDs.

    *independent*: any of the top K matches level l, each level by itself, and *exact* all at once.
    *cumulative*: some single prediction of the top K matches levels 1 … l.
    *drop-off* (top 1): the accuracy of level 1, then the share retained from levels 1 … l to 1 … l+1.
    """
    semantic_ids, targets = evaluated.semantic_ids, evaluated.targets
    if semantic_ids is None:
        return None
    sids = distinct_sids(evaluated.rankings, semantic_ids)
    codes = semantic_ids.distinct[sids]  # [n, k, levels]; -1 is masked below
    same = (codes == semantic_ids.codes[targets][:, None]) & (sids >= 0)[..., None]
    depth = same.cumprod(axis=2).sum(axis=2)  # [n, k] leading levels that match
    names = [f"L{level + 1}" for level in range(semantic_ids.n_levels)]
    chains = ["+".join(names[: level + 1]) for level in range(semantic_ids.n_levels)]
    independent, cumulative = {}, {}
    for k in (k for k in CUTOFFS if k <= sids.shape[1]):
        any_level = same[:, :k].any(axis=1).mean(axis=0)
        best = depth[:, :k].max(axis=1)
        exact = float((best == semantic_ids.n_levels).mean())
        independent[str(k)] = dict(zip(names, any_level.tolist(), strict=True)) | {"exact": exact}
        cumulative[str(k)] = {c: float((best > level).mean()) for level, c in enumerate(chains)}
    return {"independent": independent, "cumulative": cumulative, "drop-off": drop_off(cumulative["1"])}
