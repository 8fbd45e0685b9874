"""Making semantic IDs: the tokenizer of a configuration, what it may see, the vectors it asks for, and the repair.

Valid and test samples are taken out before a tokenizer or an embedder sees anything.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness.components import OF_TOKENIZER, ItemContext
from harness.data import categories
from harness.data.content_cache import ContentCache
from harness.data.dataset import Dataset
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError, ContractError
from harness.plugins import Plugins
from harness.progress import Progress
from harness.quantising.collisions import repair
from harness.quantising.quality import pictures, quality
from harness.quantising.quantisers import unit
from harness.runs import code, identity
from harness.runs.chosen import Component, SidSettings, named
from harness.runs.contract import checked_sids
from harness.runs.run_directory import append_log

LARGEST = 1e15
"""Above it squares sum to more than float32 holds."""


@dataclasses.dataclass(frozen=True)
class Tokenized:
    """Semantic IDs and how they came about.

    Attributes:
        facts: for the record.
    """

    semantic_ids: SemanticIds | None
    facts: dict[str, Any]


def train_only(dataset: Dataset) -> Dataset:
    """The dataset as tokenizers and embedders may see it: no valid sample, no test sample, no oracle."""
    nobody = np.arange(0)
    return dataclasses.replace(dataset, valid=dataset.valid.take(nobody), test=dataset.test.take(nobody), oracle=None)


def tokenized(
    component: Component, sids: SidSettings, seed: int, dataset: Dataset, plugins: Plugins, device: str,
    directory: Path, progress: Progress, made: Any = None,
) -> Tokenized:  # fmt: skip
    """The semantic IDs that a tokenizer makes of a category.

    Args:
        sids: what is done with them once they are made.
        made: the tokenizer, where it is made already.
        directory: a folder for the tokenizer's checkpoints and its log; it is made where it is needed.

    Raises:
        BenchError: it cannot be; a tokenizer's or embedder's own words.
        ContractError: what it gave is none.
    """
    tokenizer = component.make(plugins) if made is None else made
    started = time.monotonic()
    source = Vectors(dataset, plugins, seed, device, directory, progress)
    semantic_ids = made_by(tokenizer, component.name, source.context)
    facts: dict[str, Any] = {}
    if sids.repair != "none":
        if semantic_ids is None:
            raise BenchError("tokenizer.repair mends semantic IDs, and this method has none; leave it out")
        done = repair(semantic_ids, sids.repair, source.first, int(getattr(component.settings, "codes", 0) or 0))
        progress.say(f"repair {sids.repair}: {done.told}")
        semantic_ids, facts["repair"] = done.semantic_ids, done.as_dict()
    facts["seconds"] = round(time.monotonic() - started, 1)
    if semantic_ids is not None and not getattr(component.settings, "optional", False):
        vectors = source.of(sids.figures) if sids.figures else source.first
        facts |= {"quality": quality(semantic_ids, dataset.items, vectors), **pictures(semantic_ids, vectors)}
    return Tokenized(semantic_ids, facts)


def vectors_of_tokenizer(component: Component | None) -> tuple[Any, dict[str, Any]]:
    """The embedder that a tokenizer's settings name, and its defaults.

    Raises:
        BenchError: there is no such tokenizer.
    """
    settings = component.settings if component is not None else None
    embedder = getattr(settings, "embedder", "")
    if not embedder:
        who = f"tokenizer {component.name}" if component is not None else "a method without semantic IDs"
        raise BenchError(
            f"{OF_TOKENIZER} are those that the tokenizer was made of, and {who} has none; name an embedder, such as "
            "sentence, or npy:PATH"
        )
    return embedder, {key: getattr(settings, key) for key in ("text", "dimensions") if hasattr(settings, key)}


def made_by(tokenizer: Any, name: str, context: ItemContext) -> SemanticIds | None:
    """What a tokenizer makes, held to its contract.

    Raises:
        ContractError: it gave no semantic IDs, or not one for each item.
    """
    return checked_sids(tokenizer.tokenize(*_arguments(tokenizer.tokenize, context)), len(context.items), name)


def _arguments(tokenize: Any, context: ItemContext) -> tuple[Any, ...]:
    """``tokenize(context)``, or ``tokenize(dataset, seed, progress)`` as it was first."""
    try:
        taken = [p for p in inspect.signature(tokenize).parameters.values() if p.default is p.empty]
    except (TypeError, ValueError):
        return (context,)
    return (context,) if len(taken) == 1 else (context.dataset, context.seed, context.progress)


class Vectors:
    """What embedders make of a catalogue.

    Attributes:
        first: what was asked for first: the vectors that a tokenizer quantises; None: nothing was.
    """

    def __init__(
        self, dataset: Dataset, plugins: Plugins, seed: int, device: str, directory: Path, progress: Progress
    ):  # fmt: skip
        self.plugins = plugins
        self.first: np.ndarray | None = None
        self.context = ItemContext(
            train_only(dataset),
            dataset.fingerprint,
            seed,
            device,
            directory,
            progress,
            self._log,
            self.of,
            self._tokenized,
        )
        self._kept = ContentCache(categories.roots(None)[-1], "vectors")

    def of(self, given: Any, **defaults: Any) -> np.ndarray:
        """The vectors of an embedder; several are brought to length 1 each, weighed, and put side by side.

        Raises:
            BenchError: there is none of that name, or it fails in its own words.
            ContractError: what it gave are no vectors of this catalogue.
        """
        found = named("embedder", "embedder", given, self.plugins)
        if not found:
            raise BenchError(f"no embedder is named; name one of {', '.join(self.plugins.registry('embedder'))}")
        parts = []
        for name, component in found.items():
            assert component is not None
            own = given.get(name) if isinstance(given, dict) else None
            weight = own.get("weight", 1.0) if isinstance(own, dict) else own if own is not None else 1.0
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not weight > 0:
                raise BenchError(f"embedder {name}: its weight is {weight!r}; give a number above 0")
            said = own if isinstance(own, dict) else {}
            settings = {k: v for k, v in defaults.items() if hasattr(component.settings, k) and k not in said}
            chosen = dataclasses.replace(component, settings=dataclasses.replace(component.settings, **settings))
            parts.append((self._one(chosen), float(weight)))
        made = parts[0][0]
        if len(parts) > 1:
            made = np.concatenate([unit(part) * np.float32(weight) for part, weight in parts], axis=1)
        self.first = made if self.first is None else self.first
        return made

    def _one(self, component: Component) -> np.ndarray:
        factory = self.plugins.get("embedder", component.name)
        key: Any = None
        if getattr(factory, "slow", False):
            local = Path(component.location) if component.location else None
            key = [
                component.as_dict(), identity.content(local) if local is not None and local.exists() else "",
                _texts(self.context.dataset) if getattr(factory, "texts_only", False) else self.context.data,
                self.context.seed,
                code.of_component("embedder", component.name, self.plugins).sha256,
            ]  # fmt: skip
            kept = self._kept.get(key)
            if kept is not None:
                return kept
        made = component.make(self.plugins).embed(self.context)
        vectors = checked_vectors(made, len(self.context.items), component)
        if key is not None:
            self._kept.keep(key, vectors)
        return vectors

    def _log(self, numbers: dict[str, float], step: int) -> None:
        self.context.directory.mkdir(parents=True, exist_ok=True)
        append_log(self.context.directory, numbers, step)

    def _tokenized(self, given: Any) -> SemanticIds | None:
        found = named("tokenizer", "tokenizer", given, self.plugins)
        if len(found) != 1:
            raise BenchError(f"a tokenizer builds on one other, and {given!r:.80} names {len(found)}; name one")
        component = next(iter(found.values()))
        assert component is not None
        return made_by(component.make(self.plugins), component.name, self.context)


def _texts(dataset: Dataset) -> str:
    """The hash of a catalogue's texts."""
    texts = [dataset.items.titles, dataset.items.descriptions, dataset.items.brands, dataset.items.categories]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def checked_vectors(made: Any, n_items: int, component: Component) -> np.ndarray:
    """What an embedder gave, held to its contract, as float32.

    Raises:
        ContractError: it is no array of numbers, or not one row for each item, or holds NaN or infinity.
    """
    who = f"embedder {component.name}" + (f":{component.location}" if component.location else "")
    if not isinstance(made, np.ndarray) or made.ndim != 2 or made.dtype.kind not in "fiu":
        what = f"an array of {made.dtype} {list(made.shape)}" if isinstance(made, np.ndarray) else type(made).__name__
        raise ContractError(f"{who} gave {what}; it must give an array of numbers [items, width]")
    if len(made) != n_items or not made.shape[1]:
        raise ContractError(
            f"{who} gave vectors of {len(made):,} × {made.shape[1]:,} for {n_items:,} items; it must give one for each"
        )
    bad = ~np.isfinite(made).all(axis=1)
    if bad.any():
        raise ContractError(f"{who}: the vector of item {int(bad.argmax())} holds NaN or infinity; mend it")
    large = np.abs(made).max(initial=0)
    if large > LARGEST:
        raise ContractError(
            f"{who} gave {large:.3g}; numbers above {LARGEST:g} have no distances in float32: scale them"
        )
    return np.ascontiguousarray(made, dtype=np.float32)
