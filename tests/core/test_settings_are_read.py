"""What a setting says happens, or it is refused: every setting of every shipped method is changed, or seen read."""

import dataclasses
import sys
import typing

import pytest

from harness.data import categories
from harness.errors import BenchError
from harness.progress import Progress
from harness.runs import chosen, pipeline
from harness.runs import config as config_module
from harness.runs.config import resolve
from harness.runs.run_directory import RunDirectory
from harness.runs.tracking import Tracker
from tests.metamorphic.category import SIZES
from tests.metamorphic.test_same_numbers import COUNTING, LANGUAGE, NETWORKS, SETTINGS

COSTS_ONLY = {
    "batch_tokens", "rollout_tokens", "compile", "log_every", "deepspeed", "gradient_checkpointing", "decoder.batch",
    "tokenizer.optional", "chunk",
}  # fmt: skip
"""They change time, memory, files or logs, and by design no number."""
FIXED = {
    "eval_every": 4, "patience": 1, "max_grad_norm": 0.01, "popularity": 0.5, "decoder.k": 20, "negatives": 7,
    "recency.popularity": 5.0, "recency.decay": 0.9, "itemknn.neighbours": 3, "tfidf.sublinear": True,
    "calibration": 0.1, "start": "tfidf",
}  # fmt: skip
"""A changed value where the one made up below says the same."""


@pytest.fixture(scope="module")
def small(plugins):
    data = categories.read(plugins, "Synthetic", None, SIZES)
    titles = [f"{title} {title.split()[0]}" for title in data.items.titles]  # a word twice: its count has a say
    return dataclasses.replace(data, items=dataclasses.replace(data.items, titles=titles))


def another(name, field, value, kinds):
    """A value that differs, of the same type and within its bounds."""
    for key in (name, name.rpartition(".")[2]):
        if key in FIXED:
            return FIXED[key]
    choices = typing.get_args(kinds[field.name])
    texts = [choice for choice in choices if isinstance(choice, str)]
    if texts:
        return next(choice for choice in texts if choice != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1 if value < 2 else value // 2
    if isinstance(value, float):
        return 0.3 if value == 0 else value * 0.5
    raise AssertionError(f"{name} has no other value; give it one in FIXED")


def result(plugins, small, folder, config):
    """What a run leaves that numbers hang on: weights and rankings, scores included."""
    run = pipeline.Run(
        config, small, plugins, RunDirectory(folder), Progress(quiet=True), "cpu", Tracker(folder, False), figures=False
    )
    stages = pipeline.execute(run)["stages"]
    return {
        "weights": [path.read_bytes() for path in sorted(folder.glob("stages/**/*.safetensors"))],
        "rankings": [path.read_bytes() for path in sorted(folder.glob("rankings/*.parquet"))],
        "valid": [stage["valid"] for stage in stages.values()],
        "epochs": [stage["train"].get("epochs") for stage in stages.values()],
        "probes": [log.read_text().count("eval_NDCG@10") for log in sorted(folder.glob("stages/*/log.jsonl"))],
    }


def grounds(method, stage):
    """Settings to change others on: networks train gently, so that more is better, or wildly, so that it is not."""
    if method not in NETWORKS:
        return [SETTINGS[method]]
    return [[f"{stage}.epochs=4"], [f"{stage}.epochs=6", f"{stage}.learning_rate=0.05"]]


@pytest.mark.parametrize("method", [*COUNTING, *NETWORKS])
def test_each_setting_changes_something_or_is_refused(method, plugins, small, tmp_path):
    recipe = plugins.get("method", method)
    bases = []
    for number, sets in enumerate(grounds(method, recipe["stages"][0]["name"])):
        config = resolve(recipe, "Synthetic", 1, sets, plugins)
        bases.append((sets, config, result(plugins, small, tmp_path / f"base{number}", config)))
    silent = []
    parts = {stage.name: stage.trainer for stage in bases[0][1].stages} | {"decoder": bases[0][1].decoder}
    for label, component in parts.items():
        kinds = typing.get_type_hints(type(component.settings))
        for field in dataclasses.fields(component.settings):
            name = f"{label}.{field.name}"
            if {name, field.name} & COSTS_ONLY:
                continue
            value = another(name, field, getattr(component.settings, field.name), kinds)
            for number, (sets, _, expected) in enumerate(bases):
                try:
                    changed = resolve(recipe, "Synthetic", 1, [*sets, f"{name}={value}"], plugins)
                except BenchError as error:
                    assert "is read only where" in error.message
                    break
                if result(plugins, small, tmp_path / f"{name}{number}", changed) != expected:
                    break
            else:
                silent.append(f"{name}={value}")
    assert not silent


class Seen:
    """Settings that note which of them are read, but for the writing of ``config.yaml``."""

    def __init__(self, monkeypatch):
        self.read, self.known = set(), {}
        plain = config_module.settings

        def noted(factory, values, where):
            made = plain(factory, values, where)
            names = {field.name for field in dataclasses.fields(made)}
            seen, key = self.read, type(made)
            self.known[key] = names

            class Noted(key):
                def __getattribute__(self, name):
                    caller = sys._getframe(1).f_code.co_filename
                    if name in names and not caller.endswith(("dataclasses.py", "/runs/config.py", "/runs/chosen.py")):
                        seen.add((key, name))
                    return super().__getattribute__(name)

            object.__setattr__(made, "__class__", Noted)
            return made

        for module in (config_module, chosen):
            monkeypatch.setattr(module, "settings", noted)


@pytest.mark.parametrize("method", [*LANGUAGE, "tiger", "rerank"])
def test_each_setting_of_a_language_model_is_read_or_refused(method, plugins, small, tmp_path, monkeypatch):
    seen = Seen(monkeypatch)
    recipe = plugins.get("method", method)
    config = resolve(recipe, "Synthetic", 1, SETTINGS[method], plugins)
    result(plugins, small, tmp_path, config)
    unread = []
    parts = {"tokenizer": config.tokenizer, "backbone": config.backbone, "decoder": config.decoder}
    for label, component in (parts | {stage.name: stage.trainer for stage in config.stages}).items():
        kind = type(component.settings).__mro__[1] if component is not None else None
        for field in dataclasses.fields(component.settings) if component is not None else ():
            name = f"{label}.{field.name}"
            only = field.metadata.get("only")
            refused = only is not None and not only[1](component.settings)
            if (kind, field.name) not in seen.read and not refused and not {name, field.name} & COSTS_ONLY:
                unread.append(name)
    assert not unread


@pytest.mark.parametrize(
    ("method", "override", "message"),
    [
        ("sasrec", "sasrec.negatives=5", "is read only where loss is not full"),
        ("sasrec", "probe.beams=5", "is read only where the decoder has beams"),
        ("sasrec", "prompts=compact", "is read only where the method has a backbone"),
        ("minionerec", "grpo.sibling_share=0.2", "is read only where advantage is sibling"),
        ("minionerec", "grpo.sync_steps=3", "is read only where sync_reference is true"),
        ("minionerec", "sft.text_characters=9", "is read only where a task is about descriptions"),
        ("minionerec-memory", "memory.temperatures=[1.0]", "is read only where combine is mixture"),
        ("minionerec", "sft.eval_every=0", "sft.eval_every"),
        ("minionerec", "grpo.eval_every=1.5", "grpo.eval_every"),
    ],
)
def test_what_nothing_reads_or_no_range_holds_is_one_line(method, override, message, plugins):
    with pytest.raises(BenchError, match=message) as error:
        resolve(plugins.get("method", method), "-", 1, [override], plugins)
    assert "\n" not in error.value.message


def test_a_recorded_configuration_with_such_a_setting_is_still_read(plugins):
    """The check is of what is set now: older runs, and trials of a search, keep theirs."""
    recipe = plugins.get("method", "sasrec") | {"stages": [{"name": "sasrec", "negatives": 5}]}
    assert resolve(recipe, "-", 1, [], plugins).stages[0].trainer.settings.negatives == 5
    assert resolve(recipe, "-", 1, ["sasrec.negatives=6"], plugins, strict=False)


@pytest.mark.parametrize(
    ("overrides", "source"),
    [
        ([], "search"), (["dataset.max_history=20", "protocol.seen=drop"], "search"), (["sasrec.hidden=32"], "choice"),
        (["sasrec.hidden=96"], "search"),
    ],
)  # fmt: skip
def test_another_setting_than_the_one_that_was_searched_is_a_choice(plugins, overrides, source):
    found = resolve(plugins.get("method", "sasrec"), "-", 1, overrides, plugins)
    assert found.about["settings_from"] == source
    assert "searched" in found.about
