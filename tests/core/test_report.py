"""The report: the replication log's tables from its own numbers, observations that follow the numbers, figures."""

import dataclasses

import pytest

from harness.errors import BenchError
from harness.evaluation.levels import drop_off
from harness.runs import run_directory
from leaderboard import reported
from leaderboard.record import Record
from leaderboard.report import document, figures, observations
from leaderboard.report.systems import recipes, systems
from tests.recorded import make_record

LOG = {row.method: row for row in reported.rows("Industrial_and_Scientific") if row.source == "replication-zlhe0"}
SFT, RL = LOG["MiniOneRec SFT"], LOG["MiniOneRec RL (2 epochs)"]


@pytest.fixture(scope="module")
def record(tiny, tmp_path_factory):
    return make_record(tmp_path_factory.mktemp("runs"), tiny, reported="MiniOneRec")


@pytest.fixture
def replication(record):
    """The replication log's own numbers as a recorded run: what its report must say is in the log."""
    stages = {}
    for name, row in (("sft", SFT), ("grpo", RL)):
        entry = {k: v for k, v in record.stages[name].items() if k not in ("item", "ranks", "segments", "intervals")}
        stages[name] = entry | {"sid": row.metrics | {"MRR": 0.08}, "levels": row.levels, "invalid": 0}
    content = record.content | {"stages": stages, "category": "Industrial_and_Scientific"}
    return Record(content, record.place / "none")


def test_the_analysis_reproduces_the_replication_logs_drop_off_table():
    """As it prints them; a ratio of its four-digit numbers is known to half a digit of each, 0.03 % here."""
    table = {"SFT": [0.2440, 0.4873, 0.5213], "RL": [0.2645, 0.4979, 0.5343]}
    for name, row in (("SFT", SFT), ("RL", RL)):
        found = list(drop_off(row.levels["cumulative"]["1"]).values())
        assert found == pytest.approx(table[name], abs=3e-4)
        assert row.levels["drop-off"] == drop_off(row.levels["cumulative"]["1"])


def test_the_report_of_the_replications_numbers_is_the_replication_log(replication):
    found = recipes([replication])
    text = document.markdown(found, document.reported_pairs(systems(found)), set())
    lines = {" ".join(line.replace("|", " ").split()) for line in text.splitlines()}
    for line in (
        "SFT 0.0620 0.0900 0.1059 0.1379 0.1719 0.2285 0.0620 0.0783 0.0848 0.0951 0.1037 0.1149 0.0800",
        "GRPO 0.0704 0.0966 0.1116 0.1396 0.1749 0.2303 0.0704 0.0855 0.0917 0.1007 0.1096 0.1205 0.0800",
        "50 0.4814 0.3735 0.3997 0.2303",
        "20 0.4756 0.2394 0.1719",
        "HR@10 0.1586 0.1396 -0.0190 -12.0% —",
        "NDCG@3 0.1011 0.0855 -0.0156 -15.4% —",
        "L1 accuracy 24.40% 26.45% 24.40% 26.45%",  # here, and as the source is reported beside
        "L1 → L1+L2 retention 48.73% 49.79% 48.73% 49.79%",
    ):
        assert line in lines, line
    assert "### GRPO against MiniOneRec (minionerec-paper)" in text
    assert "Cannot be true as printed" in text and "HSTU" in text


def test_observations_follow_the_numbers(replication):
    sft, grpo = systems(recipes([replication]))
    assert "the first level loses most: 73.6% of top-1 predictions have it wrong" in observations.bottleneck(grpo)[0]
    assert "keeps 49.8%" in observations.bottleneck(grpo)[0]
    gains = observations.level_gain(sft, grpo)[0]
    assert "K = 1: L1 +2.05, L1+L2 +1.28, L1+L2+L3 +0.84" in gains
    assert "K = 50: L1 -9.81" in gains  # what the log's own prose ("improves all levels") passes over
    assert "keep what they kept" in observations.retention(sft, grpo)[0]
    assert "L1+L2+L3 7.0% → 23.0% (3.3×)" in observations.top_k(grpo)[0]
    paper = next(r for r in reported.rows("Industrial_and_Scientific") if r.method == "MiniOneRec")
    line = observations.discrepancy(grpo, paper)[0]
    assert "is below the reported scores, by -16.5% (NDCG@3) to -12.0% (HR@10)" in line or "-15.5%" in line


def test_other_numbers_give_other_observations(replication):
    stages = {name: dict(stage) for name, stage in replication.stages.items()}
    top = {"L1": 0.9, "L1+L2": 0.2, "L1+L2+L3": 0.19}
    stages["grpo"]["levels"] = {"cumulative": {"1": top, "50": dict.fromkeys(top, 0.9)}, "drop-off": drop_off(top)}
    changed = dataclasses.replace(replication, content=replication.content | {"stages": stages})
    _, grpo = systems(recipes([changed]))
    assert "the step L1 → L1+L2 loses most: it keeps 22.2%" in observations.bottleneck(grpo)[0]
    stages["grpo"] = {k: v for k, v in stages["grpo"].items() if k != "levels"}
    bare = dataclasses.replace(replication, content=replication.content | {"stages": stages})
    assert observations.bottleneck(systems(recipes([bare]))[1]) == []


def test_a_stage_s_gain_is_tested_on_the_same_samples(record):
    sft, grpo = systems(recipes([record]))
    line = observations.stage_gain(sft, grpo)[0]
    assert line.startswith("**GRPO over SFT** (SID protocol): HR@10 +")
    worse = observations.stage_gain(grpo, sft)[0]
    assert "HR@10 -" in worse
    assert "within chance" in observations.stage_gain(sft, sft)[0]


def test_a_reported_gain_is_set_beside_the_one_here(replication):
    sft, grpo = systems(recipes([replication]))
    pairs = document.reported_pairs([sft, grpo])
    line = observations.pattern(sft, grpo, pairs)[0]
    assert "replication-zlhe0 +5.9%, replication-issue-35 +3.3%; here +5.9%" in line
    assert observations.pattern(sft, grpo, pairs[:1]) == []


def test_the_report_of_several_seeds_averages_them_and_says_so(tiny, tmp_path):
    records = [make_record(tmp_path, tiny, seed=seed) for seed in (1, 2)]
    [recipe] = recipes(records)
    document.write(records, tmp_path / "out", draw=False)
    text = (tmp_path / "out/report.md").read_text()
    assert "**GRPO, mean of 2**" in text and "GRPO, seed 2" in text and "seeds 1, 2" in text
    mean = systems([recipe])[1].metric("sid", "HR@10")
    assert mean == pytest.approx(sum(r.metrics("sid")["HR@10"] for r in records) / 2)
    assert f"{mean:.4f}" in text


def test_every_table_stands_on_named_ground(record, tmp_path):
    """Under each table: data, seed and code; reported rows say that they were not measured."""
    document.write([record], tmp_path, draw=False)
    blocks = (tmp_path / "report.md").read_text().split("\n\n")
    for number, block in enumerate(blocks):
        if block.startswith("|"):
            near = " ".join(blocks[max(0, number - 1) : number + 4])
            assert ("code abc123" in near and record.data[:12] in near) or "not measured here" in near, block[:200]


def test_figures_are_drawn_as_png_and_svg(tiny, tmp_path):
    records = [
        make_record(tmp_path, tiny, "model", reported="MiniOneRec"),
        make_record(tmp_path, tiny, "hybrid", stages=("hybrid",), group="floor", seconds=1.0, skill=0.2),
    ]
    written = document.write(records, tmp_path / "out")
    names = {path.stem for path in written if path.suffix == ".png"}
    assert names == {path.stem for path in written if path.suffix == ".svg"}
    assert names >= {
        "hit-rate-sid", "hit-rate-item", "levels", "segments-item", "cost-sid", "learning-model-sft",
        "rewards-model-grpo",
    }  # fmt: skip
    text = (tmp_path / "out/report.md").read_text()
    for path in written:
        assert path.stat().st_size > 2000 or path.suffix == ".md"
        if path.suffix == ".svg" and path.stem != "cost-item":
            assert f"figures/{path.name}" in text, path.name
    assert "Against the counting baseline hybrid" in text


def test_what_there_is_nothing_of_is_not_drawn(record):
    with figures.style():
        assert figures.learning("sft", {}) is None
        assert figures.rewards("sft", {"loss": [(0, 1.0)]}) is None
        assert figures.cost(systems(recipes([record])), "sid") is None
        assert figures.discrepancy([]) is None


def test_runs_of_different_categories_or_data_are_no_report(tiny, record, tmp_path):
    other = Record(record.content | {"fingerprints": {**record.content["fingerprints"], "data": "f" * 64}}, tmp_path)
    with pytest.raises(BenchError, match="different data"):
        document.write([record, other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_log_keeps_the_last_word_and_passes_a_torn_line_over(tmp_path):
    for step, loss in ((1, 2.0), (2, 1.5), (2, 1.4)):
        run_directory.append_log(tmp_path, {"loss": loss, "nan": float("nan")}, step)
    with open(tmp_path / run_directory.LOG, "a") as file:
        file.write('{"step": 3, "lo')
    assert run_directory.read_log(tmp_path) == {"loss": [(1, 2.0), (2, 1.4)]}
