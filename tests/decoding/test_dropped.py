"""``protocol.seen: drop``: what a user bought before is left out inside the decoder, and k others are found."""

import numpy as np
import pytest
from click.testing import CliRunner

from harness import api
from harness.cli import cli
from harness.data.dataset import Bought, Dataset, Items, Samples
from harness.data.earlier import with_bought, without_bought
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.data.ties import Tied
from harness.evaluation.target_ranks import TargetRanks
from harness.runs.run_directory import RunDirectory
from tests.commands import bench_run, run_whole

SIZES = ["dataset.items=60", "dataset.users=80"]
CARELESS = """
import numpy as np
from harness import hookimpl
from harness.components import NoSettings
from harness.data.rankings import Rankings


class Careless:
    Settings = NoSettings

    def __init__(self, settings):
        pass

    def decode(self, model, histories, semantic_ids, device, progress):
        scores = model.score(histories)
        ids = np.argsort(-scores, axis=1, kind="stable")[:, :20].astype(np.int32)
        return Rankings("item", ids, np.take_along_axis(scores, ids, 1))


@hookimpl
def bench_decoders():
    return {"careless": Careless}
"""


@pytest.fixture
def long_histories():
    """Users with many test samples and histories cut to 3 items: the cut ones must be remembered."""
    rng = np.random.default_rng(0)
    sequence = {f"u{n}": rng.permutation(30)[: rng.integers(6, 25)].tolist() for n in range(20)}
    parts = {name: ([], [], []) for name in ("train", "valid", "test")}
    for user, whole in sequence.items():
        for i in range(1, len(whole)):
            name = "train" if i < len(whole) // 2 else "valid" if i < 2 * len(whole) // 3 else "test"
            for column, value in zip(parts[name], (user, whole[:i], whole[i]), strict=True):
                column.append(value)
    built = {name: Samples.build(*columns, 3) for name, columns in parts.items()}
    items = Items([f"t{i}" for i in range(30)], [""] * 30, [""] * 30, [""] * 30)
    return Dataset("Long", items, built["train"], built["valid"], built["test"], "own"), sequence


def test_all_earlier_purchases_count_not_only_those_that_the_history_shows(long_histories):
    dataset, sequence = long_histories
    test = without_bought(dataset).test
    mask = test.histories.bought.items_mask(30)
    for row, (user, target) in enumerate(zip(test.users, test.targets, strict=True)):
        whole = sequence[user]
        assert set(np.flatnonzero(mask[row]).tolist()) == set(whole[: whole.index(target)])  # each is bought once
    assert mask.sum(axis=1).max() > 10
    taken = test.take(np.array([4, 1])).histories.bought.items_mask(30)
    np.testing.assert_array_equal(taken, mask[[4, 1]])


def samples_of(sequence, window, order=None):
    """A split of one user a sequence: every purchase but the first, its history cut to a window, in a file's order."""
    users, histories, targets, wanted = [], [], [], []
    for user, whole in enumerate(sequence):
        for i in range(1, len(whole)):
            for column, value in zip((users, histories, targets, wanted), (f"u{user}", whole[max(0, i - window) : i],
                                     whole[i], set(whole[:i])), strict=True):  # fmt: skip
                column.append(value)
    order = np.arange(len(users)) if order is None else order
    picked = [[column[i] for i in order] for column in (users, histories, targets, wanted)]
    return Samples.build(*picked[:3], window).in_order(), picked[3]


@pytest.mark.parametrize("window", [1, 2, 3, 8])
def test_purchases_that_recur_are_told_in_the_order_of_the_file(window):
    rng = np.random.default_rng(window)
    sequence = [[0, 1, 0, 2], [0, 0, 0, 0, 1, 0, 0, 0, 2], *(rng.integers(0, 3, 12).tolist() for _ in range(30))]
    samples, wanted = samples_of(sequence, window)
    found = with_bought(samples, {}).histories.bought
    for row in range(len(samples)):
        items = found.items[found.starts[row] : found.starts[row + 1]]
        assert set(items.tolist()) == wanted[samples.rows[row]], row


def test_where_the_histories_say_the_order_the_file_may_be_in_any():
    rng = np.random.default_rng(0)
    sequence = [rng.permutation(40)[:20].tolist() for _ in range(10)]
    samples, wanted = samples_of(sequence, 3, rng.permutation(190))
    found = with_bought(samples, {}).histories.bought
    for row in range(len(samples)):
        items = found.items[found.starts[row] : found.starts[row + 1]]
        assert set(items.tolist()) == wanted[samples.rows[row]]


def test_a_sid_goes_when_all_its_items_were_bought(long_histories):
    bought = without_bought(long_histories[0]).test.histories.bought
    of_item = np.arange(30) // 3
    mask, items = bought.mask(of_item, 10), bought.items_mask(30)
    assert mask.any()
    for row in range(len(mask)):
        assert mask[row].tolist() == [items[row, of_item == sid].all() for sid in range(10)]


def test_a_sid_stands_for_those_of_its_items_alone_that_may_be_recommended():
    sids = SemanticIds(np.array([[0], [0], [1], [2], [2], [3]]))  # items 0 and 1 share one, 3 and 4 another
    ids = np.tile(np.array([[0, 1, 2]], np.int32), (4, 1))
    targets = np.array([4, 1, 0, 2])
    bought = Bought(np.array([0, 2, 4, 6, 6]), np.array([0, 3, 0, 3, 0, 3], np.int32))
    rankings = Rankings("sid", ids, np.tile(-np.arange(3.0), (4, 1)))
    found = TargetRanks.of(rankings, targets, sids, "item", bought)
    assert found.before.tolist() == [2, 0, np.inf, 2] and found.group.tolist() == [1, 1, 1, 1]
    whole = TargetRanks.of(rankings, targets, sids, "item")
    assert whole.before.tolist() == [3, 0, 0, 2] and whole.group.tolist() == [2, 2, 2, 1]
    assert TargetRanks.of(rankings, targets, sids, "sid", bought).before.tolist() == [2, 0, 0, 1]
    cut = Tied.of_cut(np.array([[False, False, True, True]]), ids[:1, :2])  # SIDs 2 and 3 score as the last one
    short = Rankings("sid", ids[:1, :2], np.array([[0.0, -1.0]]), tied=cut)
    one = TargetRanks.of(short, targets[:1], sids, "item", bought.take(np.array([0])))
    assert one.before.tolist() == [1] and one.group.tolist() == [3]  # items 2, 4, 5: 3 was bought


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("popularity", []),
        ("tiger", ["tiger.epochs=1", "decoder.beams=20"]),
        ("tiger", ["tiger.epochs=1", "decoder=exact", "decoder.beams=20"]),
        ("minionerec-memory", ["sft.epochs=1", "grpo.epochs=0.1", "decoder.beams=20", "memory.candidates=20"]),
        ("d3", ["sft.epochs=1", "decoder.beams=20", "decoder.k=20", "assistant.alphas=[0.5]"]),
    ],
)
def test_every_decoder_leaves_them_out_and_finds_others(method, more, tmp_path):
    folder, metrics = run_whole(tmp_path, method, [*SIZES, "protocol.seen=drop", *more])
    run = api.load_run(folder)
    dataset = without_bought(api.load_dataset("Synthetic", settings={"items": 60, "users": 80}))
    rankings, bought, sids = run.rankings().of(dataset.test, tmp_path), dataset.test.histories.bought, run.semantic_ids
    by_sid = rankings.kind == "sid"
    mask = bought.mask(sids.of_item, len(sids.distinct)) if by_sid else bought.items_mask(60)
    assert not (np.take_along_axis(mask, np.maximum(rankings.ids, 0), 1) & (rankings.ids >= 0)).any()
    assert ((rankings.ids >= 0).sum(axis=1) >= 20).all()
    repeats = bought.items_mask(60)[np.arange(len(dataset.test)), dataset.test.targets]
    assert repeats.any() and bought.items_mask(60).any(axis=1).all()
    if not by_sid:
        assert list(metrics.values())[-1]["item"]["HR@20"] <= 1 - repeats.mean()


def test_one_training_is_decoded_under_both(tmp_path):
    """A run taken over for the other protocol keeps the model, and neither its rankings nor its valid metrics."""
    sets = [*SIZES, "sasrec.epochs=2", "decoder.k=20"]
    first, kept = run_whole(tmp_path / "a", "sasrec", sets)
    second, dropped = run_whole(tmp_path / "b", "sasrec", [*sets, "protocol.seen=drop"], "--from-run", str(first))
    weights = [next(folder.glob("stages/1-sasrec/model.safetensors")).read_bytes() for folder in (first, second)]
    assert weights[0] == weights[1]
    dataset = without_bought(api.load_dataset("Synthetic", settings={"items": 60, "users": 80}))
    rankings = api.load_run(second).rankings().of(dataset.test, tmp_path)
    bought = dataset.test.histories.bought.items_mask(60)
    assert not (np.take_along_axis(bought, np.maximum(rankings.ids, 0), 1) & (rankings.ids >= 0)).any()
    assert kept["sasrec"]["item"] != dropped["sasrec"]["item"]
    valid = [RunDirectory(folder).finished("sasrec/decode")["valid"] for folder in (first, second)]
    assert valid[0] != valid[1]


def test_a_decoder_that_cannot_is_refused_before_anything_trains(tmp_path):
    done = bench_run(tmp_path, "minionerec", [*SIZES, "protocol.seen=drop", "decoder=hf-generate"])
    assert done.exit_code == 2 and "protocol.seen=drop" in done.output
    assert not list(tmp_path.glob("*/*/*"))


def test_a_community_decoder_that_does_not_is_named(tmp_path):
    plugin = tmp_path / "careless.py"
    plugin.write_text(CARELESS)
    sets = [*SIZES, "protocol.seen=drop", "decoder=careless"]
    done = bench_run(tmp_path / "runs", "popularity", sets, "--plugin", str(plugin))
    assert done.exit_code == 2 and "bought before" in done.output and "careless" in done.output


def test_two_values_never_stand_in_one_table(tmp_path):
    for value in ("keep", "drop"):
        done = bench_run(tmp_path, "popularity", [*SIZES, f"protocol.seen={value}"])
        assert done.exit_code == 0, done.output
    words = ["leaderboard", "--runs", str(tmp_path), "--category", "Synthetic"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0
    headings = [line for line in done.output.splitlines() if line.startswith("## ")]
    assert headings[-2:] == ["## Synthetic", "## Synthetic, bought items dropped"]
    wrong = bench_run(tmp_path, "popularity", ["protocol.seen=perhaps"])
    assert wrong.exit_code == 2 and "keep" in wrong.output
