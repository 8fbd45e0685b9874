"""Names become paths by one rule; free text is one harmless line wherever it goes; secrets are never shown."""

import pytest

from harness.checks import names
from harness.errors import BenchError
from harness.text import plain

GOOD = ("sasrec", "my.method", "a_b-c", "2nd", "straße")
EVIL = (
    "",
    ".",
    "..",
    ".hidden",
    "-x",
    "a/b",
    "a\\b",
    "/abs",
    "../../x",
    "a\x00b",
    "a\nb",
    "\x1b[31m",
    "a b",
    "x" * 101,
    None,
    3,
)


@pytest.mark.parametrize("name", GOOD)
def test_a_name(name):
    assert names.checked(name, "method") == name == names.slug(name)


@pytest.mark.parametrize("name", EVIL)
def test_what_cannot_be_a_name_is_refused_with_the_rule(name):
    with pytest.raises(BenchError, match="cannot be the name of a method") as caught:
        names.checked(name, "method", "here")
    assert "\n" not in caught.value.format_message() and "\x1b" not in caught.value.format_message()


@pytest.mark.parametrize("name", ["Toys[5core]", "Games (2018)", "Arts, Crafts & Sewing", "Industrial_and_Scientific"])
def test_a_category_may_hold_what_folders_in_the_wild_do(name):
    assert names.checked_category(name) == name


@pytest.mark.parametrize("name", [*EVIL[:12], " x", "x ", "a;b", "a:b", "$x", "`x`", "<x>"])
def test_what_cannot_be_a_category_is_refused(name):
    with pytest.raises(BenchError, match="cannot be the name of a category"):
        names.checked_category(name)


def test_free_text_has_a_slug_of_its_own():
    texts = ["memory without the model", "memory without: the model", "../../x", "☕", "a/b", "a\nb"]
    slugs = [names.slug(text) for text in texts]
    assert all(names.is_name(slug) for slug in slugs) and len(set(slugs)) == len(texts)


def test_a_line_has_no_control_characters():
    assert plain.line("a\nb\r\tc\x1b[31m\u202ed\u200b") == "a b  c[31md"
    assert plain.line("Käse ☕ 日本") == "Käse ☕ 日本"


def test_markdown_of_free_text_is_plain_text():
    assert plain.markdown("<b>[x](y) `z` *a* skip_gram _b_") == "&lt;b>\\[x\\](y) \\`z\\` \\*a\\* skip_gram \\_b\\_"
    assert plain.cell("a|<script>|<ins>b</ins>") == "a\\|&lt;script>\\|&lt;ins>b&lt;/ins>"
    assert plain.cell(plain.Marked("<ins>0.5</ins>|")) == "<ins>0.5</ins>\\|"
    for live in ("![i](http://x/p.png)", "[x][y]", "**b**", "`c`", "_d_", "~~e~~"):
        assert plain.cell(live) != live and plain.cell(live).count("\\") >= 2
    assert plain.cell("0.0123*") == "0.0123*" and plain.cell("sasrec_bce [1, 2]") == "sasrec_bce [1, 2]"


@pytest.mark.parametrize(
    "text",
    ["http://ann:hunter22@host:5000/x", "postgresql://ann:hunter22@host/db", "see https://host/x?token=hunter22&y=1"],
)
def test_credentials_are_masked(text):
    shown = plain.masked(text)
    assert "hunter22" not in shown and "***" in shown and "host" in shown


def test_the_secrets_of_the_environment_are_masked_however_they_are_written(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:pa@ss/word@host:5000")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "topsecret")
    shown = plain.masked("failed at http://ann:pa@ss/word@host:5000/api with topsecret, password pa@ss/word")
    assert shown == "failed at http://***@host:5000/api with ***, password ***"
    assert "topsecret" not in BenchError("x topsecret y").format_message()
