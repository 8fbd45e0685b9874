"""Three small finished runs: counting, a network of item ids, a language model."""

import pytest

from harness.serving.recommender import Recommender
from tests.commands import run_whole
from tests.conftest import TINY_DATA, TINY_SETTINGS

DATA = [f"dataset.{key}={value}" for key, value in TINY_DATA.items()]
LANGUAGE = [s for s in TINY_SETTINGS if not s.startswith("grpo.") and s != "sft.epochs=3"]


@pytest.fixture(scope="session")
def counted(tmp_path_factory):
    """A run of ``hybrid``."""
    return run_whole(tmp_path_factory.mktemp("counted"), "hybrid", DATA)[0]


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """A run of ``gru4rec``: its lengths are packed, which no graph can do."""
    sets = [*DATA, "gru4rec.epochs=2", "gru4rec.hidden=16"]
    return run_whole(tmp_path_factory.mktemp("network"), "gru4rec", sets)[0]


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """A run of ``minionerec-sft``."""
    return run_whole(tmp_path_factory.mktemp("written"), "minionerec-sft", [*LANGUAGE, "sft.epochs=2"])[0]


@pytest.fixture(scope="session")
def counting(counted):
    """The counting model, ready."""
    return Recommender.load(counted)


@pytest.fixture(scope="session")
def writing(written):
    """The language model, ready."""
    return Recommender.load(written)
