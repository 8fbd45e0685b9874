"""The suite rl in a table: what is tested is chosen on valid, among the arms with the most seeds, by choice of rows."""

import pytest

from leaderboard import rl_table
from leaderboard.record import Record
from tests.recorded import make_record


@pytest.fixture(scope="module")
def records(tiny, tmp_path_factory):
    root = tmp_path_factory.mktemp("records")

    def of(method, stage, label, skill, valid, rows="held-out", seeds=(1, 2, 3)):
        made = []
        for seed in seeds:
            record = make_record(
                root / label, tiny, method, seed=seed, stages=("sft",) + (stage,) * (stage != "sft"), skill=skill
            )
            content = record.content | {"label": label}
            content["stages"][stage] |= {
                "valid": {"NDCG@10": valid}, "train": {"best step": 10 * seed, "steps": 1234, "seconds": 60.0},
            }  # fmt: skip
            content["settings"] = content["settings"] | {"stages": [{"name": "sft"}, {"name": stage, "rows": rows}]}
            made.append(Record(content, record.place))
        return made

    return [
        *of("minionerec-sft", "sft", "sft", 0.2, 0.2),
        *of("minionerec-sft", "sft", "sft, all rows", 0.65, 0.55, rows="all"),
        *of("minionerec-sft-more", "more", "more SFT, a", 0.25, 0.5),
        *of("minionerec-sft-more", "more", "more SFT, b", 0.6, 0.3),
        *of("minionerec", "grpo", "GRPO, good", 0.7, 0.6), *of("minionerec", "grpo", "GRPO, bad", 0.1, 0.1),
        *of("minionerec", "grpo", "GRPO, lucky", 0.1, 0.9, seeds=(1,)),
        *of("minionerec-sft-more", "more", "more SFT, same", 0.7, 0.5, rows="same"),
        *of("minionerec", "grpo", "GRPO, same", 0.1, 0.4, rows="same"),
    ]  # fmt: skip


def test_the_best_on_valid_with_all_seeds_are_held_against_each_other(records):
    said = rl_table.all_of([records])["says"].splitlines()
    assert any("Synthetic: GRPO, good over more SFT, a: +" in line and "beyond chance" in line for line in said)
    assert any("Synthetic: GRPO, good over sft: +" in line for line in said)
    assert any("Synthetic: more SFT, a over sft: +" in line for line in said)
    assert any("Synthetic: GRPO, good over sft, all rows: +" in line for line in said)
    assert any("Synthetic: GRPO, same over more SFT, same: -" in line for line in said)
    assert not any(name in line for line in said for name in ("lucky", "bad", "more SFT, b"))
    verdict = rl_table.all_of([records])["verdict"]
    assert "of 2 comparisons" in verdict and verdict.endswith("beyond chance above in 1 and below in 1.")


def test_every_arm_stands_in_the_table_the_best_on_valid_first(records):
    made = rl_table.all_of([records])
    [category] = [name for name in made if name not in ("says", "verdict")]
    lines = made[category].splitlines()
    arms = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert arms[0] == "arm"
    assert arms[1:] == [
        "GRPO, lucky",
        "GRPO, good",
        "sft, all rows",
        "more SFT, a",
        "more SFT, same",
        "GRPO, same",
        "more SFT, b",
        "sft",
        "GRPO, bad",
    ]
    assert "10 / 1,234, 20 / 1,234, 30 / 1,234" in made[category]
