"""Methods that write titles: BIGRec's grounding, D3's search and its closed form, and what they do with odd titles."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.data.dataset import Histories, Items, Samples
from harness.decoding.beam import beam_search
from harness.decoding.item_scores import group_probabilities
from harness.decoding.padding import pad_left
from harness.decoding.trie import Trie
from harness.errors import BenchError
from harness.language.packing import packed_title_rows
from harness.language.prompts import Prompts
from harness.language.titles import TitleModel, Titles, grounded, ranked_items
from harness.language.training_rows import IGNORED
from harness.progress import Progress
from plugins.backbones.nano import NanoBackbone, Settings
from plugins.d3.assistant import AssistedTitles
from plugins.d3.decoder import Mixer, TitleBeamDecoder
from tests.commands import bench_run, only_run, run_whole
from tests.conftest import TINY_SETTINGS

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def writer(tiny):
    """A random title writer over the tiny category, sharp enough that rankings mean something."""
    prompts = Prompts("compact", tiny.items, None)
    backbone = NanoBackbone(Settings(hidden=32, layers=2, heads=2, intermediate=64, text_vocabulary=400), None)
    model, text_tokenizer = backbone.build([], prompts.special_tokens, tiny.items.titles, 1)
    model.get_input_embeddings().weight.data.mul_(12)
    return prompts.titled(model.eval(), text_tokenizer, 256)


class Assistant:
    """Scores of items that depend on the history's last item."""

    def __init__(self, n_items):
        self.table = np.random.default_rng(0).normal(size=(n_items, n_items)).astype(np.float32) * 2

    def score(self, histories):
        return self.table[histories.last()]


def teacher_forced(writer, histories, renormalise):
    """log p_LM of every title for each history, one title and one token at a time."""
    allowed: dict[tuple, set] = {}
    rows = [row[: (row != writer.end).sum() + 1].tolist() for row in writer.tokens]
    for row in rows:
        for depth, token in enumerate(row):
            allowed.setdefault(tuple(row[:depth]), set()).add(token)
    found = np.zeros((len(histories), len(rows)))
    for number, prompt in enumerate(writer.encode(histories)):
        for title, row in enumerate(rows):
            with torch.no_grad():
                logits = writer.model(input_ids=torch.tensor([prompt + row])).logits[0, len(prompt) - 1 : -1]
            for depth, token in enumerate(row):
                legal = sorted(allowed[tuple(row[:depth])]) if renormalise else slice(None)
                found[number, title] += (logits[depth, token] - logits[depth, legal].logsumexp(0)).item()
    return found


@pytest.mark.parametrize("renormalise", [False, True])
@pytest.mark.parametrize("alpha", [1.0, 0.6, 0.0])
def test_wide_beams_give_the_closed_form_of_the_mixture(tiny, writer, renormalise, alpha):
    """α · log p_LM(title) + (1 − α) · log p_TF(title), for every title: the per-step scores telescope."""
    histories = tiny.test.take(np.arange(3)).histories
    n = len(writer.titles.texts)
    trie = Trie(writer.tokens, end=writer.end)
    ids, mask = pad_left(writer.encode(histories), writer.pad, "cpu")
    model = AssistedTitles(writer, Assistant(len(tiny.items)), alpha, 1.0)
    by_title = group_probabilities(model.scores(histories), writer.titles.of_item, n)
    mix = Mixer(trie, torch.from_numpy(by_title), alpha)
    found = beam_search(writer.model, ids, mask, trie, n, renormalise, mix=mix)
    expected = alpha * teacher_forced(writer, histories, renormalise) + (1 - alpha) * np.log(by_title)
    assert (found.leaves.sort(1).values == torch.arange(n)).all()
    np.testing.assert_allclose(found.scores.numpy(), np.take_along_axis(expected, found.leaves.numpy(), 1), atol=2e-3)


def test_the_assistant_s_mass_is_shared_out_among_the_children_of_every_node(tiny, writer):
    n = len(writer.titles.texts)
    trie = Trie(writer.tokens, end=writer.end)
    by_title = np.random.default_rng(0).dirichlet(np.ones(n), size=2)
    mixer = Mixer(trie, torch.from_numpy(by_title), 0.0)
    nodes_above = 1
    for step, level in enumerate(trie.levels):
        nodes = torch.arange(nodes_above).expand(2, -1)
        _, exists = level.children(nodes)
        entries = level.entry(nodes[..., None], torch.arange(level.width))
        shares = mixer(step, nodes, entries, torch.zeros(entries.shape)).exp() * exists
        torch.testing.assert_close(shares.sum(-1), torch.ones(2, nodes_above), atol=1e-4, rtol=1e-4)
        nodes_above = len(level.columns)


def test_the_decoder_ranks_items_batch_by_batch_as_alone(tiny, writer):
    model = AssistedTitles(writer, Assistant(len(tiny.items)), 0.7, 1.0)
    histories = tiny.test.take(np.arange(12)).histories
    options = TitleBeamDecoder.Settings(beams=20, k=20)
    together = TitleBeamDecoder(options).decode(model, histories, None, "cpu", QUIET)
    together.check(len(tiny.items))
    for row in range(12):
        one = Histories(histories.items[row : row + 1], histories.lengths[row : row + 1])
        alone = TitleBeamDecoder(replace(options, batch_tokens=1)).decode(model, one, None, "cpu", QUIET)
        assert np.array_equal(alone.ids[0], together.ids[row])
    assert all(len(set(row)) == 20 for row in together.ids.tolist())


def test_each_remedy_can_be_switched_off(tiny, writer):
    model = AssistedTitles(writer, Assistant(len(tiny.items)), 0.5, 1.0)
    histories = tiny.test.take(np.arange(8)).histories

    def ranked(**changes):
        settings = TitleBeamDecoder.Settings(beams=20, k=20, **changes)
        return TitleBeamDecoder(settings).decode(model, histories, None, "cpu", QUIET).ids

    plain = ranked(assistant=False)
    alone = TitleBeamDecoder(TitleBeamDecoder.Settings(beams=20, k=20)).decode(writer, histories, None, "cpu", QUIET)
    assert np.array_equal(plain, alone.ids)
    for other in (ranked(), ranked(length_penalty=1.0), ranked(renormalise=False)):
        assert not np.array_equal(other, plain)


def test_a_forced_token_costs_nothing_with_no_length_penalty_and_pays_with_one(writer):
    """D3's ghost token: what is certain neither adds nor divides; divided by length, longer titles are inflated."""
    end = writer.end
    short = np.array([[5, end, end, end], [6, end, end, end]])
    ghost = np.array([[5, 7, 8, end], [6, end, end, end]])  # 7 and 8 are forced after 5
    ids, mask = pad_left(writer.encode(Histories.of([[1, 2]])), writer.pad, "cpu")
    one = beam_search(writer.model, ids, mask, Trie(short, end=end), 2, True)
    two = beam_search(writer.model, ids, mask, Trie(ghost, end=end), 2, True)
    assert one.leaves.tolist() == two.leaves.tolist()
    torch.testing.assert_close(one.scores, two.scores)
    lengths = torch.tensor([4.0, 2.0])  # tokens of the longer and of the shorter title
    inflated = two.scores[0] / lengths[two.leaves[0]]
    plain = one.scores[0] / 2
    assert inflated[two.leaves[0] == 0] > plain[one.leaves[0] == 0]


def test_titles_shared_by_items_and_missing_ones():
    items = Items(["Nut", "Bolt", "Nut", " ", "Nut"], [""] * 5, [""] * 5, [""] * 5)
    titles = Titles.of(items)
    assert titles.texts == ["Bolt", "Nut"] and titles.of_item.tolist() == [1, 0, 1, -1, 1] and titles.nameless == 1
    assert [group.tolist() for group in titles.items] == [[1], [0, 2, 4]]
    found, scores = np.array([[1, 0]]), np.array([[-0.5, -1.0]], dtype=np.float32)
    ids, values = ranked_items(found, scores, titles, 4, np.array([[0.1, 0.0, 0.9, 5.0, 0.5]]))
    assert ids.tolist() == [[2, 4, 0, 1]] and (np.diff(values[0]) < 0).all()  # ordered on purpose: no tie
    np.testing.assert_allclose(values, [[-0.5, -0.5, -0.5, -1.0]], atol=1e-6)
    assert ranked_items(found, scores, titles, 2, None)[0].tolist() == [[0, 2]]
    with pytest.raises(BenchError, match="no item has a title"):
        Titles.of(Items(["", " "], [""] * 2, [""] * 2, [""] * 2))
    mass = group_probabilities(np.log(np.array([[0.1, 0.2, 0.3, 0.3, 0.1]])), titles.of_item, 2)
    np.testing.assert_allclose(mass, [[0.2 / 0.7, 0.5 / 0.7]])


def test_a_written_catalogue_title_is_nearest_to_itself(writer):
    """Distance 0 and rank 1, alone or among others: padding and stripping are the same on both sides."""
    texts = [f" {text} " for text in writer.titles.texts[:30]]
    together, alone = writer.embed(texts), np.concatenate([writer.embed([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-4)
    gaps = np.linalg.norm(together[:, None] - writer.embeddings[None], axis=2)
    assert gaps.argmin(1).tolist() == list(range(30))
    assert gaps.min(1).max() < 1e-2
    assert (writer.embed(["", " "]) == 0).all()


def test_titles_written_exactly_stand_in_the_order_of_their_beams(tiny, writer, monkeypatch):
    texts = [writer.titles.texts[n] for n in (7, 3, 11, 5)]
    monkeypatch.setattr(TitleModel, "write", lambda self, histories, beams: [texts] * len(histories))
    found = writer.distances(tiny.test.take(np.arange(2)).histories, 4)
    assert np.argsort(found, axis=1)[:, :4].tolist() == [[7, 3, 11, 5]] * 2
    items = np.argsort(-writer.score(tiny.test.take(np.arange(1)).histories), axis=1, kind="stable")[0]
    assert writer.titles.of_item[items[0]] == 7


def test_grounding_is_the_published_formula():
    rng = np.random.default_rng(0)
    distances, popularity = rng.random((5, 7)), rng.integers(0, 9, 8).astype(float)
    titles = Titles([str(n) for n in range(7)], np.array([0, 1, 2, 3, 4, 5, 6, 6]))
    found = grounded(distances, titles, popularity, 3.0)
    low, high = distances.min(1)[:, None], distances.max(1)[:, None]
    weight = (popularity - popularity.min()) / (popularity.max() - popularity.min())
    by_hand = -((distances - low) / (high - low))[:, titles.of_item] * (1 + weight) ** -3.0
    np.testing.assert_allclose(found, by_hand, rtol=1e-5)
    order = np.argsort(-grounded(distances, titles, popularity, 0.0), kind="stable")
    assert np.array_equal(order, np.argsort(distances[:, titles.of_item], kind="stable"))
    more = popularity.copy()
    more[2] = popularity.max()  # raising one item's popularity never worsens its place
    place = (grounded(distances, titles, more, 3.0) > grounded(distances, titles, more, 3.0)[:, [2]]).sum(1)
    before = (found > found[:, [2]]).sum(1)
    assert (place <= before).all()


def test_a_row_of_chained_titles_asks_what_test_asks(tiny, writer):
    """Each target's tokens stand behind exactly the prompt that a decoder builds, and end as a title does."""
    prompts = Prompts("compact", tiny.items, None)
    few = tiny.train.take(np.arange(40))
    rows = packed_title_rows(few, prompts, writer.text_tokenizer, 4096)
    asked: dict[tuple, list] = {}
    for prompt, target in zip(writer.encode(few.histories), few.targets.tolist(), strict=True):
        title = writer.tokens[writer.titles.of_item[target]]
        asked.setdefault(tuple(prompt), []).append(title[: (title != writer.end).sum() + 1].tolist())
    edges = (writer.end, rows[0].tokens[0])
    for row in rows:
        for start in range(1, len(row.tokens)):
            if row.labels[start] != IGNORED and row.tokens[start - 1] in edges:
                stop = start + row.tokens[start:].index(writer.end) + 1
                asked[tuple(row.tokens[:start])].remove(row.labels[start:stop])
    assert not any(asked.values())  # every sample once


def test_the_golden_prompts_of_titles():
    items = Items(["Nut", "", "Bolt"], [""] * 3, [""] * 3, [""] * 3)
    compact = Prompts("compact", items, None)
    assert compact.next_title([[0, 1, 2]]) == ["<|history|>Nut<|then|>Bolt<|then|>"]
    assert compact.title_end == "<|then|>"
    words = Prompts("instruction", items, None)
    assert words.next_title([[0, 2]]) == [
        "Below are a task and its input. Answer the task for this input.\n\n"
        "### Instruction:\nName what the customer buys next from the titles bought so far.\n\n"
        '### User Input:\nTitles bought so far, oldest first: "Nut", "Bolt". '
        "What is the title of the item that comes next?\n\n### Response:\n"
    ]
    found = compact.examples({"next_title": 1.0}, Samples.build(["u"], [[0, 1]], [2], 10), 500, 0)["next_title"]
    assert (found[0].prompt, found[0].answer) == ("<|history|>Nut<|then|>", "Bolt")


def run(folder, method, *more):
    kept = [s for s in TINY_SETTINGS if s.startswith(("dataset.", "backbone."))]
    return bench_run(folder, method, [*kept, "sft.epochs=2", "sft.eval_every=0.5", "probe.samples=20", *more])


def test_bigrec_runs_whole_and_weighs_popularity_on_valid(tmp_path):
    done = run(tmp_path, "bigrec")
    assert done.exit_code == 0, done.output
    folder, stages = only_run(tmp_path)
    found = json.loads((folder / "stages/2-grounding/grounding.json").read_text())
    assert found["tried"][str(found["gamma"])] == max(found["tried"].values())
    assert list(stages) == ["sft", "grounding"] and stages["grounding"]["invalid"] == 0


def test_d3_runs_whole_with_an_assistant_of_its_own_or_a_recorded_one(tmp_path):
    beams = ["decoder.beams=40", "decoder.k=40", "assistant.samples=30", "assistant.alphas=[0.5, 1.0]"]
    done = run(tmp_path / "own", "d3", *beams)
    assert done.exit_code == 0, done.output
    _, stages = only_run(tmp_path / "own")
    assert list(stages) == ["sft", "assistant"]
    assert stages["assistant"]["train"]["assistant epochs"] > 0
    kept = [s for s in TINY_SETTINGS if s.startswith("dataset.")]
    recorded, _ = run_whole(tmp_path / "a", "markov", kept)
    done = run(tmp_path / "other", "d3", *beams, f"assistant.run={recorded}")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("method", "setting", "message"),
    [
        ("bigrec", "sft.softmax=catalogue", "title-sft answers with titles"),
        ("bigrec", "sft.tasks={next_title: 1, sid_to_title: 1}", "title-sft knows no semantic IDs"),
        ("bigrec", "grounding.gammas=[-1]", "weights of 0 or more"),
        ("d3", "decoder.beams=5000", "titles; set"),
        ("d3", "decoder.k=60", "must lie in"),
        ("d3", "assistant.alphas=[2]", "between 0 and 1"),
        ("d3", "assistant.run=/no/where", "not the directory of a finished run"),
        ("d3", "assistant.method=minionerec-memory", "one line"),
    ],
)
def test_bad_settings_are_one_line(tmp_path, method, setting, message):
    done = run(tmp_path, method, *(["decoder.beams=40", "decoder.k=40"] if method == "d3" and "decoder" not in setting
                                   else []), setting)  # fmt: skip
    assert done.exit_code == 2 and done.output.count("\n") == 1, done.output
    assert message in done.output or message == "one line", done.output


def write_category(root, titles, seed=0):
    """A category in the sequences layout, its items called as told."""
    rng = np.random.default_rng(seed)
    folder = root / "Odd"
    folder.mkdir(parents=True)
    users = {str(u): rng.integers(0, len(titles), 6).tolist() for u in range(40)}
    (folder / "Odd.inter.json").write_text(json.dumps(users))
    items = {str(n): {"title": title, "description": ""} for n, title in enumerate(titles)}
    (folder / "Odd.item.json").write_text(json.dumps(items))
    return root


def odd(tmp_path, method, titles, *more):
    write_category(tmp_path / "data", titles)
    small = ["backbone.hidden=32", "backbone.layers=1", "backbone.heads=2", "backbone.intermediate=64",
             "backbone.text_vocabulary=300", "sft.epochs=1", "sft.eval_every=1.0", "probe.samples=5",
             *more]  # fmt: skip
    return bench_run(tmp_path / "runs", method, small, "--data-dir", str(tmp_path / "data"), category="Odd")


def test_odd_titles_run_and_no_title_at_all_is_one_line(tmp_path):
    """Titles that are missing, shared, or far longer than any other."""
    titles = ["Nut", "", "Nut", "Bolt " * 200, *(f"Screw {n} mm" for n in range(12))]
    d3 = [
        "decoder.beams=12",
        "decoder.k=12",
        "assistant.method=markov",
        "assistant.samples=5",
        "assistant.alphas=[0.5]",
    ]
    for method, more in (("bigrec", ["decoder.k=12"]), ("d3", d3)):
        done = odd(tmp_path / method, method, titles, *more)
        assert done.exit_code == 0, (done.output, done.exception)
        folder, stages = only_run(tmp_path / method / "runs")
        assert stages[list(stages)[-1]]["invalid"] == 0
        facts = json.loads((folder / "manifest.json").read_text())["done"]["sft/fit"]
        assert facts["items without a title"] == 1 and facts["targets without a title"] > 0
    done = odd(tmp_path / "none", "bigrec", [""] * 8, "decoder.k=8")
    assert done.exit_code == 2 and "no item has a title" in done.output and done.output.count("\n") == 1


def test_a_long_prompt_loses_its_beginning(tiny, writer):
    long = replace(writer, max_prompt=7)
    histories = tiny.test.take(np.flatnonzero(tiny.test.histories.lengths > 3)[:3]).histories
    for whole, cut in zip(writer.encode(histories), long.encode(histories), strict=True):
        assert len(whole) > 7 and cut == whole[-7:]


def test_an_assistant_of_another_category_is_one_line(tmp_path):
    other, _ = run_whole(tmp_path / "a", "markov", ["dataset.items=60", "dataset.users=40"])
    done = run(tmp_path / "d3", "d3", "decoder.beams=40", "decoder.k=40", f"assistant.run={other}")
    assert done.exit_code == 2 and "is a run on other data" in done.output and done.output.count("\n") == 1
