"""JSON and YAML come in strict and bounded: what is no plain value is refused in words, and nothing crashes."""

import json

import pytest

from harness import files
from harness.checks import schemas
from harness.errors import BenchError
from harness.runs.run_files import Metrics
from harness.text.parsing import DEEPEST, check_plain, decode, parse_json, parse_yaml


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "'a' stands twice"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ('{"a": -Infinity}', "-Infinity is no JSON number"),
        ('{"a": 1e999}', "too large"),
        ('{"a": 12345678901234567890}', "beyond 64 bits"),
        ('{"a": ' + "9" * 5000 + "}", "thousands of digits"),
        ("[" * 90_000, "nested deeper"),
        ("[" * 100 + "]" * 100, f"nested deeper than {DEEPEST}"),
        ('{"a": "\\ud83d"}', "half a character"),
        ('{"a": 1', "Expecting"),
    ],
)
def test_json_that_is_no_plain_value_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 80_000, "nested deeper"),
        ("- " * 80_000 + "x", "nested deeper"),
        ("{a: " * 80_000, "nested deeper"),
        ("a: 1\nb: 2\na: 3", "'a' stands twice"),
        ("a: .inf", "not finite"),
        ("3: x", "is no text"),
        ("a: !!int many", "not valid YAML"),
        ("a: !!timestamp soon", "not valid YAML"),
        ("a: !!python/name:os.system", "not valid YAML"),
        ("a: !!set {x, y}", "no plain value"),
        ("a: &x [*x]", "inside what it names"),
        ("a: [1, 2", "not valid YAML"),
        ("a: 99999999999999999999999", "beyond 64 bits"),
    ],
)
def test_yaml_that_is_no_plain_value_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        parse_yaml(text)


def test_aliases_that_multiply_are_counted_before_anything_is_built():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]" for i in range(1, 12)]
    with pytest.raises(ValueError, match="more than"):
        parse_yaml("\n".join(lines))


def test_a_date_is_a_text_and_merged_keys_stay():
    assert parse_yaml("day: 2026-11-25") == {"day": "2026-11-25"}
    assert parse_yaml("base: &b {x: 1}\nmore: {<<: *b, y: 2}")["more"] == {"x": 1, "y": 2}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_with_a_mark_are_read(encoding):
    assert decode("Käse ☕".encode(encoding)) == "Käse ☕"


def test_another_encoding_is_named_with_its_line():
    with pytest.raises(ValueError, match=r"line 3 is not UTF-8 \(byte 0xe4\); it may be Latin-1"):
        decode("a\nb\nKäse".encode("latin-1"))


def test_values_from_python_are_held_to_the_same():
    for value in ({"a": float("nan")}, {"a": object()}, {1: 2}, {"a": (1, 2)}, {"a": 2**70}):
        with pytest.raises(ValueError):
            check_plain(value)
    check_plain({"a": [1, 2.5, None, True, "x", {"b": []}]})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "'stages' is missing"),
        ({"stages": {}}, "stages must have 1 or more entries"),
        ({"stages": {"../x": {}}}, "is no name"),
        ({"stages": {"s": {"sid": {"HR@10": 1.5}}}}, r"sid\.HR@10 must be at most 1"),
        ({"stages": {"s": {"sid": {"HR@10": "0.5"}}}}, "must be a number"),
        ({"stages": {"s": {"intervals": {"sid": {"HR@10": [0.1]}}}}}, "must have 2 or more entries"),
    ],
)
def test_a_schema_says_place_fault_and_mend_in_one_line(tmp_path, content, words):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(content))
    with pytest.raises(BenchError, match=words) as caught:
        files.read_json(path, "measure again", Metrics)
    assert str(path) in caught.value.message and caught.value.message.endswith("; measure again")
    assert "\n" not in caught.value.format_message()


def test_a_file_that_is_none_or_too_large_is_one_line(tmp_path, monkeypatch):
    for path, words in ((tmp_path, "is no file"), (tmp_path / "absent", "is missing")):
        with pytest.raises(BenchError, match=words):
            files.read_json(path)
    monkeypatch.setattr(files, "MOST_YAML_BYTES", 10)
    (tmp_path / "long.yaml").write_text("a: " + "x" * 100)
    with pytest.raises(BenchError, match="the most allowed is 10"):
        files.read_yaml(tmp_path / "long.yaml")


def test_schemas_let_keys_of_newer_versions_through():
    assert schemas.check(Metrics, {"stages": {"s": {"decode": {}, "later": 1}}, "new": 2}, "file", "mend")
