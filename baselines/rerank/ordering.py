"""Boosted trees that order candidates: LambdaMART of LightGBM where it is installed, scikit-learn's otherwise.

LambdaMART (Burges 2010) learns pairs within a history, weighed by what swapping them does to NDCG. scikit-learn has no
such loss: its trees learn which candidate is the target, each by itself.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from annotated_types import Ge, Gt, Le
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from harness import files
from harness.checks.schemas import Schema
from harness.errors import BenchError
from harness.settings import setting

LIGHTGBM, ARRAYS, SAID = "trees.txt", "trees.safetensors", "trees.json"
Engine = Literal["auto", "lightgbm", "scikit-learn"]
CELLS = 2**20
"""Candidates whose path through a tree is followed at once."""


class Said(Schema):
    """``trees.json``."""

    engine: Literal["lightgbm", "scikit-learn"]
    sha256: str


@dataclass(frozen=True)
class TreeSettings:
    """Settings of the trees."""

    engine: Engine = setting("auto", "lightgbm (LambdaMART, extra rank), scikit-learn; auto: what is installed")
    trees: Annotated[int, Ge(1)] = setting(600, "trees at most; valid says how many are kept")
    patience: Annotated[int, Ge(1)] = setting(60, "trees without a better valid NDCG@10 before stopping")
    learning_rate: Annotated[float, Gt(0), Le(1)] = setting(0.05, "share of a tree that is taken")
    leaves: Annotated[int, Ge(2), Le(4096)] = setting(15, "leaves of a tree")
    least: Annotated[int, Ge(1)] = setting(100, "candidates in a leaf, at least")
    share: Annotated[float, Gt(0), Le(1)] = setting(0.5, "share of the features that a tree (a split) may use")
    ridge: Annotated[float, Ge(0)] = setting(1.0, "penalty of squared leaf values")

    def __post_init__(self) -> None:
        """The two engines are two methods: what runs is what a record says."""
        if self.engine == "auto":
            object.__setattr__(self, "engine", "lightgbm" if _installed() else "scikit-learn")


@dataclass(frozen=True)
class Table:
    """Candidates with their features.

    Attributes:
        features: ``[n, features]`` float32.
        target: ``[n]`` whether each is its history's target.
        sizes: candidates of each history, one history after another.
        rows: how many histories there are, those whose target is no candidate counted.
    """

    features: np.ndarray
    target: np.ndarray
    sizes: np.ndarray
    rows: int

    def ndcg(self, scores: np.ndarray) -> float:
        """The mean NDCG@10 of one relevant item a history, when candidates are ordered by scores ``[n]``."""
        group = np.repeat(np.arange(len(self.sizes)), self.sizes)
        own = np.full(len(self.sizes), np.inf)
        own[group[self.target]] = scores[self.target]
        above = np.bincount(group, scores > own[group], len(self.sizes))[np.isfinite(own)]
        tied = np.bincount(group, scores == own[group], len(self.sizes))[np.isfinite(own)]
        place = above + (tied - 1) / 2  # the middle of those that are equal
        return float((1 / np.log2(place[place < 10] + 2)).sum() / max(1, self.rows))


class Trees(Protocol):
    """Fitted trees."""

    def scores(self, features: np.ndarray) -> np.ndarray:
        """``[n]`` of features ``[n, features]``; higher is better."""
        ...

    @property
    def count(self) -> int:
        """How many trees there are."""
        ...


def _installed() -> bool:
    return importlib.util.find_spec("lightgbm") is not None


def check_engine(engine: Engine) -> None:
    """Refuse an engine that is not installed.

    Raises:
        BenchError: it is not.
    """
    if engine == "lightgbm" and not _installed():
        raise BenchError("rerank.engine = lightgbm needs the extra: pip install 'genrec-bench[rank]'")


def fit(
    train: Table, valid: Table, settings: TreeSettings, seed: int, names: list[str]
) -> tuple[Trees, dict[str, Any]]:
    """Trees, and for each feature the share of the loss that splits on it took (empty where the engine does not say).

    Args:
        valid: says after how many trees to stop, and nothing else.
    """
    learn = _lightgbm if settings.engine == "lightgbm" else _sklearn
    return learn(train, valid, settings, seed, names)


@dataclass(frozen=True)
class LambdaMart:
    """Trees of LightGBM."""

    booster: Any
    text: str

    @classmethod
    def of(cls, text: str, width: int) -> LambdaMart:
        """From LightGBM's own text form.

        Raises:
            ValueError: it is none, or of another number of features.
        """
        import lightgbm

        try:
            booster = lightgbm.Booster(model_str=text)
        except lightgbm.basic.LightGBMError as error:
            raise ValueError(str(error)) from None
        if booster.num_feature() != width:
            raise ValueError(f"it has {booster.num_feature()} features, not {width}")
        return cls(booster, text)

    def scores(self, features: np.ndarray) -> np.ndarray:
        """``[n]``."""
        return np.asarray(self.booster.predict(features, num_threads=_threads()))

    @property
    def count(self) -> int:
        """How many trees there are."""
        return int(self.booster.num_trees())


@dataclass(frozen=True)
class PlainTrees:
    """Trees as arrays ``[trees, nodes]``: a node's feature, threshold, children (itself in a leaf) and value."""

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray

    def scores(self, features: np.ndarray) -> np.ndarray:
        """``[n]``."""
        found = np.zeros(len(features))
        for start in range(0, len(features), CELLS):
            part = features[start : start + CELLS]
            rows = np.arange(len(part))
            for feature, threshold, left, right, value in zip(
                self.feature, self.threshold, self.left, self.right, self.value, strict=True
            ):
                at = np.zeros(len(part), dtype=np.int64)
                while (left[at] != at).any():
                    at = np.where(part[rows, feature[at]] <= threshold[at], left[at], right[at])
                found[start : start + CELLS] += value[at]
        return found

    @property
    def count(self) -> int:
        """How many trees there are."""
        return len(self.value)


def save(trees: Trees, directory: Path) -> None:
    """Write trees as plain text or arrays, with their hash."""
    if isinstance(trees, LambdaMart):
        name = LIGHTGBM
        files.write_text(directory / name, trees.text)
    else:
        assert isinstance(trees, PlainTrees)
        name = ARRAYS
        with files.replace_file(directory / name) as path:
            save_file({key: np.ascontiguousarray(getattr(trees, key)) for key in PlainTrees.__annotations__}, path)
    engine = "lightgbm" if name == LIGHTGBM else "scikit-learn"
    files.write_json(directory / SAID, {"engine": engine, "sha256": files.sha256(directory / name)})


def load(directory: Path, width: int) -> Trees:
    """Read what :func:`save` wrote, for so many features.

    Raises:
        BenchError: it is missing, not what was written, or of other features.
    """
    said = files.read_json(directory / SAID, schema=Said)
    path = directory / (LIGHTGBM if said["engine"] == "lightgbm" else ARRAYS)
    try:
        if files.sha256(path) != said["sha256"]:
            raise ValueError("it is not what was written")
        if path.name == ARRAYS:
            return _checked(PlainTrees(**load_file(path)), width)
        check_engine("lightgbm")
        return LambdaMart.of(path.read_text(encoding="utf-8"), width)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise BenchError(f"{path} cannot be loaded ({str(error)[:80]}); run the method again") from None


def _checked(trees: PlainTrees, width: int) -> PlainTrees:
    """Trees whose every path ends.

    Raises:
        ValueError: shapes differ, a child stands before its parent, or a feature is none.
    """
    itself = np.arange(trees.value.shape[-1])
    shapes = {getattr(trees, key).shape for key in PlainTrees.__annotations__}
    paths = all(((side >= itself) & (side < len(itself))).all() for side in (trees.left, trees.right))
    both = ((trees.left == itself) == (trees.right == itself)).all()
    if len(shapes) > 1 or trees.value.ndim != 2 or not paths or not both:
        raise ValueError("its trees are none")
    if not ((trees.feature >= 0) & (trees.feature < width)).all():
        raise ValueError(f"it has other features than {width}")
    return trees


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _lightgbm(
    train: Table, valid: Table, settings: TreeSettings, seed: int, names: list[str]
) -> tuple[Trees, dict[str, Any]]:
    import lightgbm

    rows = lightgbm.Dataset(train.features, train.target.astype(int), group=train.sizes, params={"verbosity": -1})
    probed = lightgbm.Dataset(valid.features, valid.target.astype(int), group=valid.sizes, reference=rows)
    booster = lightgbm.train(
        {
            "objective": "lambdarank", "lambdarank_truncation_level": 30, "metric": "None", "verbosity": -1,
            "learning_rate": settings.learning_rate, "num_leaves": settings.leaves, "min_data_in_leaf": settings.least,
            "feature_fraction": settings.share, "lambda_l2": settings.ridge, "seed": seed % 2**31,
            "num_threads": _threads(), "deterministic": True, "force_col_wise": True,
        },
        rows, settings.trees, valid_sets=[probed],
        feval=lambda scores, _: ("NDCG@10", valid.ndcg(scores), True),
        callbacks=[lightgbm.early_stopping(settings.patience, verbose=False)],
    )  # fmt: skip
    text = booster.model_to_string(num_iteration=booster.best_iteration)
    gain = booster.feature_importance("gain", iteration=booster.best_iteration)
    return LambdaMart.of(text, len(names)), dict(zip(names, (gain / max(gain.sum(), 1e-12)).tolist(), strict=True))


def _sklearn(
    train: Table, valid: Table, settings: TreeSettings, seed: int, names: list[str]
) -> tuple[Trees, dict[str, Any]]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        learning_rate=settings.learning_rate, max_iter=1, max_leaf_nodes=settings.leaves,
        min_samples_leaf=settings.least, max_features=settings.share, l2_regularization=settings.ridge,
        early_stopping=False, warm_start=True, random_state=seed % 2**31,
    )  # fmt: skip
    scores, best, kept = np.zeros(len(valid.target)), -1.0, 0
    gains = np.zeros(len(names))
    grown: list[tuple[PlainTrees, np.ndarray]] = []
    while len(grown) < settings.trees and len(grown) - kept < settings.patience:
        further = min(len(grown) + settings.patience, settings.trees)  # each call sorts the features into bins anew
        model.set_params(max_iter=further).fit(train.features, train.target)
        for (predictor,) in model._predictors[len(grown) :]:
            grown.append(_plain(predictor.nodes, len(names)))
            scores += grown[-1][0].scores(valid.features)
            if (value := valid.ndcg(scores)) > best:
                best, kept = value, len(grown)
    for _, gain in grown[:kept]:
        gains += gain
    trees = _together([tree for tree, _ in grown[:kept]])
    return trees, dict(zip(names, (gains / max(gains.sum(), 1e-12)).tolist(), strict=True))


def _plain(nodes: Any, n_features: int) -> tuple[PlainTrees, np.ndarray]:
    """A tree of scikit-learn as arrays, and the gain of each feature in it."""
    leaf, itself = nodes["is_leaf"].astype(bool), np.arange(len(nodes))
    feature = np.where(leaf, 0, nodes["feature_idx"])
    gain = np.bincount(feature[~leaf], nodes["gain"][~leaf], n_features)
    left, right = (np.where(leaf, itself, nodes[side]) for side in ("left", "right"))
    arrays = (feature, nodes["num_threshold"], left, right, np.where(leaf, nodes["value"], 0.0))
    return PlainTrees(
        *(array[None].astype(np.float64 if array.dtype.kind == "f" else np.int64) for array in arrays)
    ), gain


def _together(trees: list[PlainTrees]) -> PlainTrees:
    """Several trees as one set of arrays, padded with leaves."""
    most = max(tree.value.shape[1] for tree in trees)
    joined = {}
    for key in PlainTrees.__annotations__:
        rows = []
        for tree in trees:
            row = getattr(tree, key)[0]
            filler = np.arange(len(row), most) if key in ("left", "right") else np.zeros(most - len(row), row.dtype)
            rows.append(np.concatenate([row, filler]))
        joined[key] = np.stack(rows)
    return PlainTrees(**joined)
