import numpy as np
import pytest

from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds, parse_sid, parse_token
from harness.errors import BenchError

SIDS = SemanticIds(np.array([[0, 1], [2, 3], [4, 5], [4, 5]], dtype=np.int32))


def rankings(ids, scores, kind="sid"):
    return Rankings(kind, np.array(ids, dtype=np.int32), np.array(scores, dtype=np.float32))


@pytest.mark.parametrize("kind", ["sid", "item"])
def test_written_and_read_again(tmp_path, kind):
    original = rankings([[2, 0], [1, -1]], [[-0.5, -1.5], [-2.0, -np.inf]], kind)
    original.write(tmp_path / "r.parquet", SIDS)
    again = Rankings.read(tmp_path / "r.parquet", SIDS)
    assert again.kind == kind
    assert np.array_equal(again.ids, original.ids)
    assert np.array_equal(again.scores, original.scores)


def test_the_file_has_the_documented_columns(tmp_path):
    import pandas as pd

    rankings([[2, 0]], [[-0.5, -1.5]]).write(tmp_path / "r.parquet", SIDS)
    table = pd.read_parquet(tmp_path / "r.parquet")
    assert table.columns.tolist() == ["sample", "rank", "sid", "score", "tied"]
    assert table["rank"].tolist() == [1, 2]
    assert table["sid"].tolist() == ["<a_4><b_5>", "<a_0><b_1>"]


@pytest.mark.parametrize(
    ("ids", "scores", "message"),
    [
        ([[0, 0]], [[2, 1]], "twice"),
        ([[0, 1]], [[1, 2]], "rising"),
        ([[0, 9]], [[2, 1]], "ends at 2"),
        ([[0, 1]], [[2, np.nan]], "NaN"),
        ([[0, 1]], [[2]], "both must be"),
    ],
)
def test_broken_contracts_are_named(ids, scores, message):
    with pytest.raises(BenchError, match=message):
        rankings(ids, scores).check(3)


def test_a_damaged_file_is_one_clear_line(tmp_path):
    (tmp_path / "r.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(BenchError, match=r"r\.parquet cannot be read"):
        Rankings.read(tmp_path / "r.parquet", SIDS)


def test_semantic_ids_strings_groups_and_file():
    assert SIDS.strings == ["<a_0><b_1>", "<a_2><b_3>", "<a_4><b_5>"]
    assert SIDS.of_item.tolist() == [0, 1, 2, 2]
    assert SIDS.group_sizes.tolist() == [1, 1, 2]
    again = SemanticIds.from_json(SIDS.to_json())
    assert again.fingerprint == SIDS.fingerprint
    assert SIDS.report()["items on a shared SID"] == 2


def test_parsing_refuses_what_is_no_sid():
    assert parse_sid("<a_1><b_22>") == [1, 22]
    assert parse_token("<c_7>") == (2, 7)
    for bad in ("", "<a_1>x", "<b_1><a_2>", "<a_1><c_2>", "a_1"):
        with pytest.raises(ValueError, match="not of the form"):
            parse_sid(bad)
