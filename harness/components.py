"""The protocols that plugins fulfil, and the values that pass between them.

Every component is a class with a ``Settings`` dataclass (see :func:`setting`) and is made as
``Component(settings)``; the harness validates the settings against that dataclass before it does.
Nothing here knows a concrete method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import numpy as np

    from harness.data.dataset import Dataset, Histories, Items, Samples
    from harness.plugins import Plugins
    from harness.progress import Progress
    from harness.rankings import Rankings
    from harness.semantic_ids import SemanticIds


def setting(default: Any, help: str, only: tuple[str, Callable[[Any], bool]] | None = None) -> Any:
    """A field of a ``Settings`` dataclass: its default and one line on its meaning (units, source).

    Args:
        only: when it is read at all, in words and as a test of the settings, such as
            ``("loss is not full", lambda s: s.loss != "full")``. Setting it otherwise is an error.
    """
    metadata: dict[str, Any] = {"help": help} | ({"only": only} if only else {})
    if isinstance(default, (dict, list)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def needs_probed(probe: Callable[[Any], dict[str, float]], name: str, who: str) -> None:
    """Refuse a choice by a valid metric for which the decoder gives too few candidates.

    Raises:
        BenchError: names who chooses, the metric and the settings to raise.
    """
    if name not in getattr(probe, "gives", (name,)):
        from harness.errors import BenchError

        raise BenchError(
            f"{who} chooses by valid {name}, and the probe has fewer than {name.partition('@')[2]} candidates; "
            "raise decoder.beams and probe.beams, or decoder.k"
        )


@dataclass(frozen=True)
class NoSettings:
    """For a component without settings."""


@dataclass(frozen=True)
class RunInfo:
    """What lifecycle hooks see of a run."""

    method: str
    category: str
    seed: int
    directory: Path
    config: dict[str, Any]


@dataclass(frozen=True)
class Context:
    """All that a stage may see: train and valid samples, never a test sample.

    Attributes:
        directory: the stage's own directory, where it keeps checkpoints and leaves its model; it holds
            another run's checkpoints where that run is continued (``--from-run``).
        previous: the directory of the stage before, or None.
        backbone: the causal-LM builder of the recipe, or None.
        prompts: the prompt style of the recipe, shared by all stages and the test.
        probe: decodes valid samples with the recipe's decoder and returns its metrics,
            e.g. ``{"HR@10": .1, "NDCG@10": .05}`` (SID protocol).
        log: records numbers at a step (to MLflow and the terminal).
        progress: the terminal's progress bars.
        plugins: the registry, for stages that build on other components (rewards, another method's trainer).
        data: the fingerprint of the dataset.
    """

    items: Items
    train: Samples
    valid: Samples
    semantic_ids: SemanticIds | None
    backbone: Backbone | None
    prompts: str
    directory: Path
    previous: Path | None
    seed: int
    device: str
    probe: Callable[[Any], dict[str, float]]
    log: Callable[[dict[str, float], int], None]
    progress: Progress
    plugins: Plugins
    data: str

    def within(self, part: str) -> Context:
        """The context of a part of the stage: a folder of its own, and no stage before."""
        folder = self.directory / part
        folder.mkdir(parents=True, exist_ok=True)
        return replace(self, directory=folder, previous=None)

    def needs_semantic_ids(self, who: str) -> SemanticIds:
        """The semantic IDs, or the error that says how to get them."""
        if self.semantic_ids is None:
            from harness.errors import BenchError

            raise BenchError(f"{who} needs semantic IDs and has none; give --tokenizer given or --tokenizer rqkmeans")
        return self.semantic_ids


class DatasetReader(Protocol):
    """Reads the categories of one file layout."""

    Settings: ClassVar[type]

    def __init__(self, settings: Any) -> None: ...

    @staticmethod
    def categories(root: Path | None) -> list[str]:
        """The categories found under a data directory (None: those that need no files)."""
        ...

    def read(self, root: Path | None, category: str, problems: Any) -> Dataset:
        """The dataset; what is wrong with the files is added to `problems`."""
        ...


class Tokenizer(Protocol):
    """Items → semantic IDs (not to be confused with the text tokenizer of a language model)."""

    Settings: ClassVar[type]

    def __init__(self, settings: Any) -> None: ...

    def tokenize(self, dataset: Dataset, seed: int, progress: Progress) -> SemanticIds | None:
        """Codes ``[n_items, n_levels]`` for every item; None: the method does without.

        `dataset.test` is empty: a tokenizer sees no test sample.
        """
        ...


class Backbone(Protocol):
    """Builds a causal language model whose vocabulary holds the SID tokens.

    A backbone may have ``loading``, a dict of ``from_pretrained``'s arguments with which every stage loads its model
    again, and ``restrict(model, text_tokenizer, tokens, seed)``, which gives a model of which only a part is trained
    (the tokens' rows, adapters); a later stage trains what it gives.
    """

    Settings: ClassVar[type]

    def __init__(self, settings: Any, location: str | None) -> None: ...

    def build(self, sid_tokens: list[str], special_tokens: list[str], texts: list[str], seed: int) -> tuple[Any, Any]:
        """``(model, text tokenizer)`` for those extra tokens; `texts` may train a text vocabulary."""
        ...


class Trainer(Protocol):
    """One stage of a method.

    A trainer may have ``check(context)``: it raises a :class:`~harness.errors.BenchError` for settings
    that do not fit the data, and is called for every stage before the first one trains. It may have ``continues``,
    the names of settings that may differ where a stage goes on from its checkpoint (``--from-run``): every step after
    it must read them, and ``epochs`` must be more. Without it every change trains the stage from its beginning.
    """

    Settings: ClassVar[type]

    def __init__(self, settings: Any) -> None: ...

    def fit(self, context: Context) -> dict[str, Any]:
        """Train, and leave the model in ``context.directory``.

        A checkpoint found there is resumed from. Returns facts of the training for the record
        (steps, best step, best valid metric). A stage that is fitted on valid gives ``valid out of sample`` among
        them, metrics of valid samples it was not fitted on: what runs are chosen by.
        """
        ...

    def load(self, context: Context) -> Any:
        """The trained model of ``context.directory``, as the recipe's decoder takes it.

        A :class:`~harness.generative.GenerativeModel`, an :class:`ItemScorer`, or what a plugin's decoder wants.
        """
        ...


class ItemScorer(Protocol):
    """A model that scores the whole catalogue."""

    def score(self, histories: Histories) -> np.ndarray:
        """Scores ``[batch, n_items]`` (float32 or float64, ranked as they are; higher is better)."""
        ...


class Decoder(Protocol):
    """A trained model and histories → the top candidates of each.

    A decoder may have ``check(items, semantic_ids)``, called before anything trains.
    """

    Settings: ClassVar[type]

    def __init__(self, settings: Any) -> None: ...

    def decode(
        self, model: Any, histories: Histories, semantic_ids: SemanticIds | None, device: str, progress: Progress
    ) -> Rankings:
        """Exactly k distinct candidates a sample, best first, scores non-increasing, all in the catalogue."""
        ...


Metric = Callable[["Rankings", "np.ndarray", "SemanticIds | None"], dict[str, Any]]
"""``metric(rankings, targets [n] item ids, semantic_ids)`` → entries of the stage's record in ``metrics.json``."""

Analysis = Callable[["Rankings", "Dataset", "SemanticIds | None"], "dict[str, Any] | None"]
"""``analysis(rankings, dataset, semantic_ids)`` → an entry of the stage's record, once the rankings are made."""
