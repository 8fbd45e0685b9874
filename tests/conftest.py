"""Fixtures: plugins, a tiny generated category, a tiny model, and the real data where it is there."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from harness import plugins as plugin_manager
from harness.data import categories

TINY_DATA = {"items": 80, "users": 150, "mean_length": 6, "collisions": 0.1}
TINY_SETTINGS = [
    *(f"dataset.{key}={value}" for key, value in TINY_DATA.items()),
    "backbone.hidden=32", "backbone.layers=2", "backbone.heads=2", "backbone.intermediate=64",
    "backbone.text_vocabulary=300", "decoder.beams=50", "probe.beams=10",
    "sft.epochs=3", "sft.batch=32", "sft.eval_every=0.25", "sft.tasks={next_sid: 1.0}",
    "grpo.batch=64", "grpo.generations=8", "grpo.eval_every=0.25", "grpo.epochs=1",
]  # fmt: skip


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow")


def pytest_collection_modifyitems(config, items):
    real = os.environ.get("BENCH_DATA")
    for item in items:
        if item.get_closest_marker("slow") and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
        if item.get_closest_marker("data") and not (real and Path(real, "amazon18").is_dir()):
            item.add_marker(pytest.mark.skip(reason="BENCH_DATA names no folder with the real data"))


@pytest.fixture(autouse=True)
def _no_outside(monkeypatch):
    """Tests see no plugin and no tracking server of the machine they run on."""
    monkeypatch.delenv("BENCH_PLUGINS", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("BENCH_READ_CACHE", "0")


@pytest.fixture(autouse=True, scope="module")
def _no_tracking_server():
    """MLflow leaves the last run's tracking server in the environment; a module's own fixtures must not see it."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(autouse=True, scope="module")
def _libraries_are_no_garbage():
    """A trainer collects garbage as it ends; the 300,000 objects of the libraries need not be looked at each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def plugins():
    return plugin_manager.load()


@pytest.fixture(scope="session")
def tiny(plugins):
    return categories.read(plugins, "Synthetic", None, TINY_DATA)


@pytest.fixture(scope="session")
def industrial(plugins):
    return categories.read(plugins, "Industrial_and_Scientific", os.environ["BENCH_DATA"], {})


@pytest.fixture(scope="session")
def tiny_lm(tiny):
    """A random nano model over the tiny category: (model, text tokenizer, prompts)."""
    from harness.language.prompts import Prompts
    from plugins.backbones.nano import NanoBackbone, Settings

    prompts = Prompts("compact", tiny.items, tiny.given)
    backbone = NanoBackbone(Settings(hidden=32, layers=2, heads=2, intermediate=64, text_vocabulary=300), None)
    model, text_tokenizer = backbone.build(tiny.given.tokens, prompts.special_tokens, tiny.items.titles, 1)
    model.get_input_embeddings().weight.data.mul_(12)  # far from uniform, so that rankings mean something
    return model.eval(), text_tokenizer, prompts
