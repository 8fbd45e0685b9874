"""The protocols that plugins fulfil, and the values that pass between them.

Every component is a class with a ``Settings`` dataclass (see :func:`~harness.settings.setting`) and is made as
``Component(settings)``; the harness validates the settings against that dataclass before it does.
Nothing here knows a concrete method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from harness.errors import BenchError
from harness.evaluation.measure import Evaluated
from harness.settings import NoSettings, setting

if TYPE_CHECKING:
    import numpy as np

    from harness.data.dataset import Dataset, Histories, Items, Samples
    from harness.data.rankings import Rankings
    from harness.data.semantic_ids import SemanticIds
    from harness.progress import Progress

__all__ = [
    "Backbone", "Context", "DatasetReader", "Decoder", "Embedder", "Evaluated", "ItemContext", "ItemScorer", "Metric",
    "NoSettings", "Part", "Parts", "RunInfo", "Tokenizer", "Trainer", "setting",
]  # fmt: skip


@dataclass(frozen=True)
class RunInfo:
    """What lifecycle hooks see of a run.

    Attributes:
        figures: whether its report is to have figures.
    """

    method: str
    category: str
    seed: int
    directory: Path
    config: dict[str, Any]
    figures: bool = True


class Part(Protocol):
    """What a stage's recipe names under ``parts``, as the stage gets it: another method's trainer, or a recorded run.

    Attributes:
        name: the method, trainer or run that it is.
        recorded: whether it is a finished run, whose model is there before anything is trained.
    """

    @property
    def name(self) -> str:
        """The method, trainer or run that it is."""
        ...

    @property
    def recorded(self) -> bool:
        """Whether it is a finished run."""
        ...

    def check(self, context: Context) -> None:
        """Let it refuse settings that do not fit the data."""
        ...

    def fit(self, context: Context, probe: Callable[[Any], dict[str, float]] | None = None) -> dict[str, Any]:
        """Train it in a folder of its own within the stage's; a recorded run is trained already.

        Args:
            probe: its own valid metric, in place of the stage's.
        """
        ...

    def load(self, context: Context) -> Any:
        """Its model."""
        ...

    def anew(self, context: Context) -> Part:
        """The same method, to be trained on other samples: a recorded run's too.

        Raises:
            BenchError: a recorded run's last stage goes on from another, so that it cannot be trained by itself.
        """
        ...


class Parts(Protocol):
    """The parts of a stage, by the keys that its recipe gives them."""

    def __getitem__(self, key: str) -> Part: ...

    def __contains__(self, key: object) -> bool: ...

    def __iter__(self) -> Iterator[str]: ...

    def made(self, setting: str) -> Mapping[str, Any]:
        """The components that a setting names, made with their own settings (``components=`` of the setting)."""
        ...

    def recorded(self, directory: str | Path, context: Context) -> Any:
        """The model of the last stage of a finished run on the same data, as its own decoder takes it."""
        ...


class _Seen:
    """What every context shows of its dataset."""

    dataset: Dataset

    @property
    def items(self) -> Items:
        """The catalogue."""
        return self.dataset.items

    @property
    def train(self) -> Samples:
        """The train samples."""
        return self.dataset.train


NO_VECTORS, OF_TOKENIZER = "none", "vectors"
"""In place of an embedder's name: nothing; the vectors that the run's tokenizer was made of."""


def _no_vectors(embedder: Any, **settings: Any) -> np.ndarray:
    raise BenchError(f"no embedder can be asked for vectors here ({embedder!r:.40})")


@dataclass(frozen=True)
class Context(_Seen):
    """All that a stage may see: train and valid samples, never a test sample.

    Attributes:
        dataset: the category, without its test samples.
        semantic_ids: those of the run, or None.
        backbone: the causal-LM builder of the recipe, or None.
        parts: what the stage's recipe names for it to build on.
        prompts: the prompt style of the recipe, shared by all stages and the test.
        directory: the stage's own directory, where it keeps checkpoints and leaves its model; it holds
            another run's checkpoints where that run is continued (``--from-run``).
        previous: the directory of the stage before, or None.
        probe: decodes valid samples with the recipe's decoder and returns its metrics,
            e.g. ``{"HR@10": .1, "NDCG@10": .05}`` (SID protocol).
        log: records numbers at a step (to MLflow and the terminal).
        progress: the terminal's progress bars.
        vectors: ``vectors(embedder)`` → ``[n_items, d]`` float32: what an embedder makes of the items, as in
            :class:`ItemContext`; ``vectors("vectors")``: what the run's tokenizer was made of. With ``quick=True`` None
            in place of what takes long.
        stage: its name in the recipe.
        earlier: the settings of the stages before, by name, the first first.
        strict: whether what cannot be done as the settings say is an error, where a stage could do without.
        rebound: the probe and the vectors over another dataset; :meth:`over` is what a stage calls.
    """

    dataset: Dataset
    semantic_ids: SemanticIds | None
    backbone: Backbone | None
    parts: Parts
    prompts: str
    directory: Path
    previous: Path | None
    seed: int
    device: str
    probe: Callable[[Any], dict[str, float]]
    log: Callable[[dict[str, float], int], None]
    progress: Progress
    vectors: Callable[..., Any] = _no_vectors
    strict: bool = False
    stage: str = ""
    earlier: Mapping[str, Any] = field(default_factory=dict)
    rebound: Callable[[Dataset, Path], tuple[Callable[..., Any], Callable[..., Any]]] | None = None

    @property
    def valid(self) -> Samples:
        """The valid samples."""
        return self.dataset.valid

    @property
    def plugins(self) -> Any:
        """Gone: a stage that builds on another component names it in its recipe."""
        raise BenchError(
            "context.plugins is gone: name what the stage builds on under its parts in the recipe, such as "
            "parts: {assistant: sasrec}, and use context.parts['assistant'] (docs/plugins.md)"
        )

    def within(self, part: str) -> Context:
        """The context of a part of the stage: a folder of its own, and no stage before."""
        folder = self.directory / part
        folder.mkdir(parents=True, exist_ok=True)
        return replace(self, directory=folder, previous=None)

    def on(self, rows: np.ndarray, part: str) -> Context:
        """As :meth:`over`, in a folder of its own, and unlogged."""
        return replace(self.within(part).over(rows), log=lambda numbers, step: None)

    def over(self, rows: np.ndarray) -> Context:
        """The context over some of the train samples, as if there were no others.

        Users are numbered anew, as the users of a dataset are; probe and vectors are those of these samples.
        """
        dataset = self.dataset
        train, valid, test = (
            replace(samples, histories=replace(samples.histories, users=None))
            for samples in (dataset.train.take(rows), dataset.valid, dataset.test)
        )
        of_these = replace(dataset, train=train, valid=valid, test=test)
        if self.rebound is None:
            return replace(self, dataset=of_these)
        probe, vectors = self.rebound(of_these, self.directory)
        return replace(self, dataset=of_these, probe=probe, vectors=vectors)

    def needs_semantic_ids(self, who: str) -> SemanticIds:
        """The semantic IDs, or the error that says how to get them."""
        if self.semantic_ids is None:
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
        """The dataset; what is wrong with the files is added to `problems` (:mod:`harness.data.problems`)."""
        ...


@dataclass(frozen=True)
class ItemContext(_Seen):
    """All that an embedder or a tokenizer may see: the catalogue and train, no valid sample and no test sample.

    Attributes:
        dataset: the category; its valid and test samples are empty.
        data: the fingerprint of the whole data, which a recorded run must be of.
        device: a torch device.
        directory: a folder of its own, for checkpoints: the same run, killed and started again, finds them there.
        log: records numbers at a step.
        vectors: ``vectors(embedder, **settings)`` → ``[n_items, d]`` float32: what an embedder makes of the items. It
            takes what a setting with ``components="embedder"`` holds; `settings` are defaults of those embedders that
            have such settings.
        tokenized: ``tokenized({"rqkmeans": {"codes": 64}})``: the semantic IDs of another tokenizer.
    """

    dataset: Dataset
    data: str
    seed: int
    device: str
    directory: Path
    progress: Progress
    log: Callable[[dict[str, float], int], None]
    vectors: Callable[..., np.ndarray]
    tokenized: Callable[[Any], SemanticIds | None]


class Embedder(Protocol):
    """Items → vectors, from their texts, from train, from a file.

    Class attributes: ``slow = True``: what it gives is kept by content and settings, and computed once. ``located =
    True``: it is nothing without a location. ``texts_only = True``: what it gives hangs on the items' texts alone.
    """

    Settings: ClassVar[type]

    def __init__(self, settings: Any, location: str | None) -> None: ...

    def embed(self, context: ItemContext) -> np.ndarray:
        """``[n_items, d]`` finite numbers; `location` is what stands behind the colon, as in ``npy:PATH``."""
        ...


class Tokenizer(Protocol):
    """Items → semantic IDs (not to be confused with the text tokenizer of a language model)."""

    Settings: ClassVar[type]

    def __init__(self, settings: Any) -> None: ...

    def tokenize(self, context: ItemContext) -> SemanticIds | None:
        """Codes ``[n_items, n_levels]`` for every item, -1 beyond a shorter SID's end; None: the method does without.

        It may also be written ``tokenize(self, dataset, seed, progress)``, which gets those of the context.
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
    ``small``, a dict of its settings, makes it small enough for the dry pass (:mod:`harness.runs.rehearsal`).
    ``distributed`` says what it does where a run has several processes (:mod:`harness.world`): True, all of them call
    ``fit`` and share the work; False, the main one does and the others wait. Without it such a run is refused.
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

        A :class:`~harness.decoding.generator.GenerativeModel`, an :class:`ItemScorer`, or what its decoder wants.
        """
        ...


class ItemScorer(Protocol):
    """A model that scores the whole catalogue."""

    def score(self, histories: Histories) -> np.ndarray:
        """Scores ``[batch, n_items]`` (float32 or float64, ranked as they are; higher is better)."""
        ...


class Decoder(Protocol):
    """A trained model and histories → the top candidates of each.

    A decoder may have ``check(items, semantic_ids)``, called before anything trains, and a class attribute
    ``probe_settings``: numbers that settings are lowered to where valid is decoded (``{"k": 10}``). Valid metrics look
    at ten candidates, so a decoder whose first ten are the same for any k has nothing to lose. With ``shares_work =
    True`` every process of a run calls ``decode`` and they share the batches; else the main one does it.
    """

    Settings: ClassVar[type]

    def __init__(self, settings: Any) -> None: ...

    def decode(
        self, model: Any, histories: Histories, semantic_ids: SemanticIds | None, device: str, progress: Progress
    ) -> Rankings:
        """Exactly k distinct candidates a sample, best first, scores non-increasing, all in the catalogue."""
        ...


Metric = Callable[[Evaluated], "dict[str, Any] | float | int | None"]
"""``metric(evaluated)`` → an entry of the stage's record in ``metrics.json``; None where there is nothing to say."""
