"""Per-level analysis of SID predictions: where along the levels decoding goes wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.components import Evaluated
from harness.evaluation.levels import drop_off
from harness.evaluation.target_ranks import CUTOFFS, cut_members, scored_sids


def levels(evaluated: Evaluated) -> dict[str, Any] | None:
    """Independent, cumulative and drop-off accuracy; None where there are no SIDs.

    *independent*: any of the top K matches level l, each level by itself, and *exact* all at once.
    *cumulative*: some single prediction of the top K matches levels 1 … l.
    Where SIDs are of unequal length, level l by itself is of the samples whose target has one, and a chain that goes
    beyond a target's last level is the target's whole SID.
    *drop-off* (top 1): the accuracy of level 1, then the share retained from levels 1 … l to 1 … l+1.

    Equal scores stand in any order: where a group of them is cut at K, a match is as likely as that one of its
    matching members is drawn among those inside (hypergeometric).
    """
    semantic_ids, targets = evaluated.semantic_ids, evaluated.targets
    if semantic_ids is None:
        return None
    sids, scores = scored_sids(evaluated.rankings, semantic_ids)
    own = semantic_ids.codes[targets]
    same = (semantic_ids.distinct[sids] == own[:, None]) & (sids >= 0)[..., None]
    n_levels = semantic_ids.n_levels
    matches = np.concatenate([same, same.cumprod(axis=2).astype(bool)], axis=2)  # [n, k, by itself and from the first]
    cut = np.zeros((len(sids), 1 + 2 * n_levels), dtype=np.int64)  # how many were cut, and how many of them match
    for rows, open_ in cut_members(evaluated.rankings, semantic_ids, "sid"):
        cut[rows, 0] = open_.sum(axis=1)
        prefix = open_
        for level in range(n_levels):
            like = semantic_ids.distinct[None, :, level] == own[rows, level, None]
            prefix = prefix & like
            cut[rows, 1 + level], cut[rows, 1 + n_levels + level] = (open_ & like).sum(axis=1), prefix.sum(axis=1)
    names = [f"L{level + 1}" for level in range(n_levels)]
    chains = ["+".join(names[: level + 1]) for level in range(n_levels)]
    independent, cumulative = {}, {}
    last = evaluated.rankings.scores[:, -1]
    for k in (k for k in CUTOFFS if k <= sids.shape[1]):
        inside = _inside(matches, scores, cut, last, k)
        by_itself = [float(inside[has, level].mean()) if has.any() else 0.0 for level, has in enumerate(own.T >= 0)]
        chained = inside[:, n_levels:].mean(axis=0).tolist()
        independent[str(k)] = dict(zip(names, by_itself, strict=True)) | {"exact": chained[-1]}
        cumulative[str(k)] = dict(zip(chains, chained, strict=True))
    return {"independent": independent, "cumulative": cumulative, "drop-off": drop_off(cumulative["1"])}


def _inside(matches: np.ndarray, scores: np.ndarray, cut: np.ndarray, last: np.ndarray, k: int) -> np.ndarray:
    """The probability that some match is among the first k ``[n, kinds]``.

    Args:
        matches: ``[n, candidates, kinds]``.
        scores: ``[n, candidates]``, best first; -inf is no candidate.
        cut: ``[n, 1 + kinds]`` how many were cut that score as `last`, and of them the matches.
        last: ``[n]``.
    """
    at_k = scores[:, k - 1]
    threshold = np.where(np.isneginf(at_k) & (cut[:, 0] > 0), last, at_k)[:, None]
    above, level = scores > threshold, scores == threshold
    ends = (threshold[:, 0] == last)[:, None]
    group = level.sum(axis=1, keepdims=True) + np.where(ends, cut[:, :1], 0)
    wanted = np.einsum("nc,nck->nk", level, matches, dtype=np.int64) + np.where(ends, cut[:, 1:], 0)
    places = k - above.sum(axis=1, keepdims=True)
    some = (matches & above[..., None]).any(axis=1)
    return np.where(some, 1.0, 1.0 - _none(group, wanted, places))


def _none(group: np.ndarray, wanted: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The probability that none of `wanted` members of a group is among those drawn for `places`."""
    from scipy.special import gammaln

    group, places = np.broadcast_to(group, wanted.shape), np.broadcast_to(places, wanted.shape)
    others = group - wanted
    possible = others >= places
    safe = np.where(possible, others, places)
    logs = gammaln(safe + 1) - gammaln(safe - places + 1) - gammaln(group + 1) + gammaln(group - places + 1)
    with np.errstate(invalid="ignore"):
        return np.where(wanted == 0, 1.0, np.where(possible, np.exp(logs), 0.0))
