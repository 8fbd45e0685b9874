"""bench score and bench data export: what others made is judged as our own, and they get what they need for it."""

import csv
import json

import numpy as np
import pandas as pd
import pytest

import harness
from harness.cli import cli
from harness.data import categories, exporting
from harness.data.rankings import Rankings
from harness.errors import BenchError
from harness.runs import finished
from harness.runs.run_directory import RunDirectory
from tests.baselines.running import run
from tests.data.test_prepare import ROWS, as_csv
from tests.data.test_prepare import run as prepare


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A prepared category with ids of its own, and a run of markov on it."""
    folder = tmp_path_factory.mktemp("mine")
    assert prepare(as_csv(folder / "a.csv"), "--name", "Mine", "--output", folder).exit_code == 0
    return folder


@pytest.fixture(scope="module")
def dataset(plugins, mine):
    return categories.read(plugins, "Mine", str(mine), {})


@pytest.fixture(scope="module")
def ours(plugins, mine, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ours")
    found = run(plugins, "markov", folder, ["decoder.k=10"], "Mine", str(mine))
    rankings = Rankings.read(RunDirectory(folder / "markov-0").rankings("markov"), None, found.dataset.test)
    return found, rankings


def table(dataset, rankings, k=10):
    """The rows of a file: user, item, rank, score."""
    return [
        (user, dataset.items.ids[item], rank, score)
        for user, ids, scores in zip(
            dataset.test.users.tolist(), rankings.ids.tolist(), rankings.scores.tolist(), strict=True
        )
        for rank, (item, score) in enumerate(zip(ids[:k], scores, strict=False), start=1)
    ]


def write(path, rows, dataset):
    ending = path.suffix
    if ending == ".csv":
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows([("user_id", "item_id", "rank", "score"), *rows])
    elif ending == ".parquet":
        pd.DataFrame(rows, columns=["user", "item", "rank", "score"]).to_parquet(path)
    elif ending == ".trec":
        path.write_text("".join(f"{u} Q0 {i} {r} {s!r} tag\n" for u, i, r, s in rows))
    else:
        lists = {}
        for user, item, _, score in rows:
            entry = lists.setdefault(user, {"user": user, "items": [], "scores": []})
            entry["items"].append(item)
            entry["scores"].append(score)
        path.write_text("".join(json.dumps(entry) + "\n" for entry in lists.values()))
    return path


def score(path, mine, folder, **more):
    return harness.score(path, "Mine", "Their system", data_dir=str(mine), runs=folder / "runs", **more)


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".trec", ".jsonl"])
def test_the_rankings_of_a_run_have_its_numbers(ending, mine, dataset, ours, tmp_path):
    found, rankings = ours
    rows = table(dataset, rankings)
    np.random.default_rng(0).shuffle(rows) if ending == ".csv" else None  # the order of the rows means nothing
    rows = [tuple(row) for row in rows]
    rows = [(u, i, int(r), float(s)) for u, i, r, s in rows]
    done = score(write(tmp_path / f"a{ending}", rows, dataset), mine, tmp_path)
    metrics = done.result["stages"]["external"]["item"]
    for name, value in found.item.items():  # but for who was cut among ties, which a file does not say
        if not isinstance(value, dict):
            assert metrics[name] == pytest.approx(value, abs=0.02), name
    assert done.manifest["method"] == "external-their-system"
    assert (done.directory / "report.md").exists()
    folder = RunDirectory(done.directory)
    assert finished.configuration(folder)["stages"][0]["file"] == f"a{ending}"
    again = score(tmp_path / f"a{ending}", mine, tmp_path)
    assert again.directory == done.directory


def test_its_record_stands_on_the_leaderboard(mine, dataset, ours, tmp_path, plugins):
    from click.testing import CliRunner

    path = write(tmp_path / "a.csv", table(dataset, ours[1]), dataset)
    words = ["score", str(path), "--category", "Mine", "--name", "Their system", "--data-dir", str(mine)]
    done = CliRunner().invoke(cli, [*words, "--runs", str(tmp_path / "runs"), "--no-mlflow"], catch_exceptions=False)
    assert done.exit_code == 0
    directory = next((tmp_path / "runs").rglob("config.yaml")).parent
    for words in (
        [
            "results",
            "export",
            str(directory),
            "--output",
            str(tmp_path / "results"),
            "--label",
            "Their system",
            "--with-rankings",
        ],
        ["results", "verify", str(tmp_path / "results"), "--data-dir", str(mine)],
        [
            "leaderboard",
            "--results",
            str(tmp_path / "results"),
            "--output",
            str(tmp_path / "BOARD.md"),
        ],
    ):
        done = CliRunner().invoke(cli, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert "Their system" in (tmp_path / "BOARD.md").read_text()


def test_any_number_of_candidates_in_lists_of_unequal_length(mine, dataset, tmp_path):
    lines = [
        json.dumps(
            {"sample": number, "items": [dataset.items.ids[target]] if number % 2 else [dataset.items.ids[0]] * 1}
        )
        for number, target in enumerate(exporting.in_file_order(dataset.test).targets.tolist())
    ]
    lines[0] = json.dumps({"sample": 0, "items": dataset.items.ids[:7]})
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines))
    metrics = score(path, mine, tmp_path).result["stages"]["external"]["item"]
    assert metrics["HR@1"] == pytest.approx(np.mean([n % 2 for n in range(len(dataset.test))]), abs=0.2)
    assert metrics["HR@1"] >= sum(n % 2 for n in range(len(dataset.test))) / len(dataset.test)


def test_sids_are_ranked_too(plugins, tmp_path):
    from harness.data import foreign

    data = categories.read(plugins, "Synthetic", None, {"items": 60, "users": 80})
    strings = data.given.strings
    path = tmp_path / "a.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sample", "sid", "rank"])
        for number in range(len(data.test)):
            writer.writerows((number, sid, rank) for rank, sid in enumerate(strings[:5], start=1))
    found = foreign.read(path, data, data.given)
    assert found.kind == "sid"
    assert found.ids.tolist() == [[0, 1, 2, 3, 4]] * len(data.test)


def broken(dataset, rankings):
    rows = table(dataset, rankings)
    user, item, rank, value = rows[3]
    return {
        "an unknown item": (
            [*rows[:3], (user, "nothing", rank, value), *rows[4:]],
            "row 4: item 'nothing' is none of Mine's",
        ),
        "an unknown user": ([*rows[:3], ("nobody", item, rank, value), *rows[4:]], "row 4: user 'nobody' is none of"),
        "a candidate twice": (
            [*rows[:3], (user, rows[2][1], rank, value), *rows[4:]],
            "ranks a candidate a second time",
        ),
        "rising scores": ([*rows[:3], (user, item, rank, 99.0), *rows[4:]], "row 4: scores rise"),
        "a missing sample": (rows[10:], "no ranking for 1 of 30 test samples, such as that of user"),
        "a gap": ([*rows[:3], (user, "", rank, value), *rows[4:]], "row 4 has a gap"),
        "a rank in words": (
            [*rows[:3], (user, item, "third", value), *rows[4:]],
            "row 4: rank 'third' is no finite number",
        ),
        "an endless score": (
            [*rows[:3], (user, item, rank, "inf"), *rows[4:]],
            "row 4: score 'inf' is no finite number",
        ),
    }


@pytest.mark.parametrize("kind", list(range(8)))
def test_what_does_not_fit_is_one_line_and_leaves_nothing(kind, mine, dataset, ours, tmp_path):
    rows, what = list(broken(dataset, ours[1]).values())[kind]
    with pytest.raises(BenchError) as caught:
        score(write(tmp_path / "a.csv", rows, dataset), mine, tmp_path)
    assert what in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "runs").rglob("*.json")) if (tmp_path / "runs").exists() else True


def test_wrong_files_are_one_line(mine, tmp_path):
    for name, content, what in (
        ("a.txt", "x", "has the ending '.txt'"), ("a.csv", "", "cannot be read"),
        ("a.csv", "user,item\nu,i\n", "neither rank"),
        ("a.parquet", "PAR1", "cannot be read"), ("a.jsonl", "[1]\n", "row 1 is no object"),
        ("a.csv", "who,what\n1,2\n", "has no column user"),
    ):  # fmt: skip
        (tmp_path / name).write_text(content)
        with pytest.raises(BenchError, match=what):
            score(tmp_path / name, mine, tmp_path)
    with pytest.raises(BenchError, match="does not exist"):
        score(tmp_path / "none.csv", mine, tmp_path)


def test_tables_of_another_encoding_or_of_uneven_rows_are_named_or_read(mine, dataset, ours, tmp_path):
    path = write(tmp_path / "a.csv", table(dataset, ours[1]), dataset)
    text = path.read_text()
    right = score(path, mine, tmp_path).result
    path.write_bytes(text.encode("utf-16"))
    assert score(path, mine, tmp_path).result["stages"] == right["stages"]
    lines = text.splitlines()
    lines[40] += ",7"
    for content, what in (
        ("\n".join(lines).encode(), "line 41 has 5 cells, the header 4 columns"),
        ((text + "é,x,1,1\n").encode("latin-1"), f"line {len(lines) + 1} is not UTF-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(BenchError, match=what):
            score(path, mine, tmp_path)


def test_under_drop_what_was_bought_is_refused(mine, dataset, ours, tmp_path):
    rows = [
        (user, dataset.items.ids[history[-1]], 1, 1.0)
        for user, history in zip(dataset.test.users.tolist(), dataset.test.histories.lists(), strict=True)
    ]
    path = write(tmp_path / "a.csv", rows, dataset)
    assert score(path, mine, tmp_path).result["stages"]["external"]["item"]["HR@1"] >= 0
    with pytest.raises(BenchError, match="recommend to user u0 what the user bought before"):
        score(path, mine, tmp_path, seen="drop")


# ---- export


@pytest.mark.parametrize("form", exporting.FORMS)
def test_every_form_is_written_whole(form, mine, dataset, tmp_path):
    words = ["data", "export", "Mine", "--format", form, "--output", str(tmp_path / "out"), "--data-dir", str(mine)]
    cli.main([*words, "--set", "max_history=50"], standalone_mode=False)
    with pytest.raises(BenchError, match="there already"):
        cli.main(words, standalone_mode=False)
    assert any((tmp_path / "out").rglob("*"))


def test_minionerecs_csv_is_read_again_as_the_same_data(plugins, tiny, tmp_path):
    folder = tmp_path / "Tiny"
    folder.mkdir()
    exporting.minionerec(tiny, folder)
    again = categories.read(plugins, "Synthetic" if False else tiny.category, str(tmp_path), {})
    assert again.layout == "minionerec"
    assert again.fingerprint == tiny.fingerprint
    assert np.array_equal(again.given.codes, tiny.given.codes)


def test_s3recs_text_prepares_to_the_same_split(mine, plugins, tmp_path):
    whole = categories.read(plugins, "Mine", str(mine), {"max_history": 50})
    exporting.s3rec(whole, tmp_path)
    called = json.loads((tmp_path / "Mine.names.json").read_text())
    sequences = {
        called["users"][int(user) - 1]: [called["items"][int(item) - 1] for item in items]
        for user, *items in (line.split() for line in (tmp_path / "Mine.txt").read_text().splitlines())
    }
    for user, history, target in zip(
        whole.test.users.tolist(), whole.test.histories.lists(), whole.test.targets.tolist(), strict=True
    ):
        assert sequences[user] == [whole.items.ids[i] for i in [*history, target]]
    with pytest.raises(BenchError, match=r"do not follow|not split leave-one-out"):
        exporting.s3rec(categories.read(plugins, "Synthetic", None, {"items": 60, "users": 80}), tmp_path)


def test_parquet_and_atomic_files_hold_the_samples_by_number(mine, dataset, tmp_path):
    import pyarrow.parquet as pq

    exporting.parquet(dataset, tmp_path)
    test = pq.read_table(tmp_path / "test.parquet").to_pydict()
    part = exporting.in_file_order(dataset.test)
    assert test["sample"] == list(range(len(part)))
    assert test["history"] == part.histories.lists()
    assert test["target"] == part.targets.tolist()
    exporting.recbole(dataset, tmp_path)
    header, first = (tmp_path / "Mine.test.inter").read_text().splitlines()[:2]
    assert header.split("\t") == ["user_id:token", "item_id_list:token_seq", "item_id:token"]
    assert first.split("\t")[2] == dataset.items.ids[part.targets[0]]


# ---- a model


def test_a_model_that_was_trained_elsewhere_is_decoded_as_our_own(plugins, tmp_path):
    """The folder of a trained stage stands for a published checkpoint: it has the numbers of its own run."""
    from tests.conftest import TINY_SETTINGS

    small = [s for s in TINY_SETTINGS if not s.startswith(("grpo", "sft.tasks"))]
    folder = tmp_path / "runs"
    settings = [*small, "prompts=compact", "sft.packed=true", "sft.epochs=1", "probe.samples=20", "decoder.beams=10"]
    recipe = dict(plugins.get("method", "minionerec"))
    recipe = {**recipe, "stages": recipe["stages"][:1], "name": "sft-only"}
    first = harness.run(recipe, "Synthetic", settings=settings, runs=folder)
    model = next(first.directory.rglob("model/config.json")).parent
    words = ["score", "--model", str(model), "--category", "Synthetic", "--name", "Theirs", "--runs", str(folder)]
    data = [s for s in settings if s.startswith("dataset")]
    sets = [*data, "checkpoint.prompts=compact", "decoder.beams=10", "probe.samples=20", "probe.beams=10"]
    cli.main([*words, "--no-mlflow", "--quiet", *(x for s in sets for x in ("--set", s))], standalone_mode=False)
    second = harness.load_run(next((folder / "Synthetic" / "external-theirs").glob("seed*")))
    assert second.result["stages"]["checkpoint"]["sid"] == first.result["stages"]["sft"]["sid"]
    assert "checkpoint" in second.manifest["components"]["stage checkpoint"]["name"]
    other = [s if not s.startswith("dataset.items") else "dataset.items=90" for s in sets]
    with pytest.raises(BenchError, match=r"its tokenizer lacks .* SID tokens"):
        cli.main([*words, "--no-mlflow", "--quiet", *(x for s in other for x in ("--set", s))], standalone_mode=False)
    words[2] = str(tmp_path / "nothing")
    with pytest.raises(BenchError, match="no model in Hugging Face form"):
        cli.main([*words, "--no-mlflow", "--quiet", *(x for s in sets for x in ("--set", s))], standalone_mode=False)

    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    words[2] = str(model)
    with pytest.raises(BenchError, match=r"the weights in .*model are damaged"):
        cli.main([*words, "--no-mlflow", "--quiet", *(x for s in sets for x in ("--set", s))], standalone_mode=False)
    model.joinpath("tokenizer.json").unlink()
    words[2] = str(model)
    with pytest.raises(BenchError, match="holds no text tokenizer"):
        cli.main([*words, "--no-mlflow", "--quiet", *(x for s in sets for x in ("--set", s))], standalone_mode=False)


def test_rows_that_say_two_things_are_named(mine, dataset, tmp_path):
    from harness.data import foreign

    part = exporting.in_file_order(dataset.test)
    rows = [
        {"sample": n, "user": u, "item": dataset.items.ids[t], "number": t, "rank": 1}
        for n, (u, t) in enumerate(zip(part.users.tolist(), part.targets.tolist(), strict=True))
    ]
    path = tmp_path / "r.csv"

    def read(*wanted, **changed):
        table = pd.DataFrame([row | (changed if n == 3 else {}) for n, row in enumerate(rows)])
        table[list(wanted)].to_csv(path, index=False)
        return foreign.read(path, dataset, None)

    assert (read("sample", "user", "item", "number", "rank").ids[:, 0] == dataset.test.targets).all()
    with pytest.raises(BenchError, match=r"row 4: sample '3' is user '.*', and the row says 'nobody'"):
        read("sample", "user", "item", "rank", user="nobody")
    with pytest.raises(BenchError, match=r"row 4: item '.*' is number '\d+', and the row says '99'"):
        read("sample", "item", "number", "rank", number=99)
    path.write_text("user,item,item,rank\nu1,i1,i2,1\n")
    with pytest.raises(BenchError, match="has the column 'item' twice"):
        foreign.read(path, dataset, None)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"user": None, "items": ["i1"]}, "row 2: user is null"),
        ({"user": "u1", "items": "i1 i2"}, "row 2: items is 'i1 i2'; write a list"),
        ({"user": "u1", "items": ["i1"], "scores": [1.0]}, "row 2 has scores besides"),
        ({"user": "u1", "item": "i1", "rank": 1}, "row 2 lacks items"),
    ],
)
def test_a_json_line_that_differs_is_named(line, said, dataset, tmp_path):
    from harness.data import foreign

    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({"user": "u0", "items": ["i1", "i2"]}) + "\n" + json.dumps(line) + "\n")
    with pytest.raises(BenchError, match=said):
        foreign.read(path, dataset, None)


def test_names_of_systems_are_what_tables_show(mine, dataset, ours, tmp_path):
    from leaderboard.board import boards
    from leaderboard.overview import trained_here
    from leaderboard.record import Record

    records = []
    for k, name in enumerate(("Their system", "THEIR-system", "日本")):
        path = write(tmp_path / f"{k}.csv", table(dataset, ours[1], k=10 - k), dataset)
        done = harness.score(path, "Mine", name, data_dir=str(mine), runs=tmp_path / "runs")
        records.append(Record.of_run(done.directory))
    assert [record.label for record in records] == ["Their system", "THEIR-system", "日本"]
    assert len({record.content["method"] for record in records}) == 2  # folders of one name, rows of two
    [board] = boards(records, ["item"])
    assert len(board.tables[0].rows) == 3 and not trained_here(board.tables[0])


def test_ids_that_look_like_numbers_are_ids_and_numbers_say_so(plugins, tmp_path):
    from harness.data import foreign

    rows = [(u, str(100 - int(i[1:])), t, r) for u, i, t, r in ROWS]  # ids 84 to 100, in another order than numbers
    assert prepare(as_csv(tmp_path / "a.csv", rows), "--name", "Digits", "--output", tmp_path).exit_code == 0
    data = categories.read(plugins, "Digits", str(tmp_path), {})
    part = exporting.in_file_order(data.test)
    for column, names in (("item", data.items.ids), ("number", list(range(len(data.items))))):
        lines = [f"{sample},{names[target]},1" for sample, target in enumerate(part.targets.tolist())]
        (tmp_path / "r.csv").write_text("\n".join([f"sample,{column},rank", *lines]) + "\n")
        found = foreign.read(tmp_path / "r.csv", data, None)
        assert (found.ids[:, 0] == data.test.targets).all(), column
    (tmp_path / "r.csv").write_text("sample,item,rank\n0,5,1\n")
    with pytest.raises(BenchError, match="row 1: item '5' is none of"):
        (tmp_path / "r.csv").write_text("\n".join(["sample,item,rank", *(f"{n},5,1" for n in range(len(part)))]) + "\n")
        foreign.read(tmp_path / "r.csv", data, None)


def test_ids_with_blanks_are_refused_where_blanks_part_lists(plugins, tmp_path):
    rows = [(u, i.replace("i", "p "), t, r) for u, i, t, r in ROWS]
    prepare(as_csv(tmp_path / "a.csv", rows), "--name", "Blank", "--output", tmp_path)
    with pytest.raises(BenchError, match="holds a blank"):
        exporting.recbole(categories.read(plugins, "Blank", str(tmp_path), {}), tmp_path)
