"""Every command that a page shows is one that there is: its words, options, methods, parts and settings."""

import re
import shlex
from pathlib import Path

import click
import pytest

from harness.cli import cli
from harness.runs.config import resolve
from tests.docs.test_console import typed

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
OPEN = "…"
"""Stands for what the reader fills in."""


def commands(page):
    """The words of each ``bench`` command of a page, one after another."""
    found = []
    text = page.read_text(encoding="utf-8")
    plain = [block for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL) if "$ " not in block]
    lines = [line for block in plain for line in block.splitlines()]  # a block of commands alone
    for command in [*(command for command, _ in typed(text)), *lines]:
        reader = shlex.shlex(command, posix=True, punctuation_chars="|&;")
        reader.whitespace_split, words = True, []
        for word in [*reader, ";"]:
            if set(word) <= set("|&;"):
                found += [own] if (own := _bench(words)) is not None else []
                words = []
            else:
                words.append(word)
    return found


def _bench(words):
    """The words behind ``bench``; None: another program."""
    if "-m" in words and words[words.index("-m") + 1] == "harness":
        return words[words.index("-m") + 2 :]
    own = [number for number, word in enumerate(words) if "=" not in word][:1]  # VARIABLE=value bench …
    return words[own[0] + 1 :] if own and words[own[0]] == "bench" else None


def checked(words, plugins):
    """What is wrong with a command, or nothing."""
    place, context = cli, click.Context(cli)
    while words and isinstance(place, click.Group) and (inner := place.get_command(context, words[0])):
        place, words = inner, words[1:]
    if isinstance(place, click.Group):
        return f"no command {words[:1]}"
    options = {name: option for option in place.params for name in (*option.opts, *option.secondary_opts)}
    given, sets = {}, []
    rest = list(words)
    while rest:
        word, _, value = rest.pop(0).partition("=")
        if not word.startswith("-"):
            continue
        if word not in options:
            return f"no option {word}"
        option = options[word]
        if not getattr(option, "is_flag", False):
            value = value or (rest.pop(0) if rest else "")
            if isinstance(option.type, click.Choice) and OPEN not in value and value not in option.type.choices:
                return f"{word} {value}"
        given[word] = value
        sets += [value] if word == "--set" else []
    method = given.get("--method", OPEN)
    if place.name != "run" or OPEN in method or "--plugin" in given:  # the last: the reader's own
        return None
    recipe = plugins.get("method", method)
    whole = [s for s in sets if OPEN not in s and not s.startswith("dataset.")]
    whole += [f"tokenizer={given['--tokenizer']}"] if OPEN not in given.get("--tokenizer", OPEN) else []
    resolve(recipe, "-", 1, sorted(whole, key=lambda s: s.count(".")), plugins)
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_its_commands_are_there(plugins, page):
    wrong = {shlex.join(words): said for words in commands(page) if (said := checked(words, plugins))}
    assert wrong == {}


def test_a_wrong_command_is_found(plugins):
    assert checked(["data", "fetsch", "Beauty"], plugins) == "no command ['fetsch']"
    assert checked(["run", "--methods", "sasrec"], plugins) == "no option --methods"
    assert checked(["leaderboard", "--category", "Beauty"], plugins) is None
    for words in (["--method", "sasrek"], ["--method", "sasrec", "--set", "sasrec.epoch=2"]):
        with pytest.raises(Exception, match="unknown"):
            checked(["run", "--category", "Beauty", *words], plugins)
    assert sum(len(commands(page)) for page in PAGES) > 60
