"""``bench sids``: semantic IDs made, shown, compared and repaired, without a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.common import data_dir_option, quiet_option, set_option, with_plugins

if TYPE_CHECKING:
    from harness.data.dataset import Dataset
    from harness.data.semantic_ids import SemanticIds
    from harness.plugins import Plugins
    from harness.runs.tokenizing import Tokenized


@click.group()
def sids() -> None:
    """Make, show, compare and repair semantic IDs."""


def _output_options(command: Any) -> Any:
    """Where semantic IDs are written."""
    command = click.option("--force", is_flag=True, help="In place of a file that is there.")(command)
    return click.option("--output", metavar="FILE", help="Write them as an index file, such as Mine.index.new.json.")(
        command
    )


@sids.command()
@click.option("--category", required=True, metavar="NAME", help="A category of bench data list.")
@click.option("--tokenizer", "name", default="rqkmeans", show_default=True, metavar="NAME", help="See bench plugins.")
@click.option("--repair", metavar="KIND", help="none, zcr, sinkhorn, extra-token or extra-token-all.  [default: none]")
@set_option
@click.option("--seed", type=int, default=42, show_default=True, help="Random seed.")
@_output_options
@data_dir_option
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, or mps.")
@quiet_option
@with_plugins
def build(
    plugins: Plugins, category: str, name: str, repair: str | None, overrides: tuple[str, ...], seed: int,
    output: str | None, force: bool, data_dir: str | None, device: str, quiet: bool,
) -> None:  # fmt: skip
    """Make the semantic IDs of a category, and show how good they are.

    With --set the tokenizer's settings: --set codes=64, --set embedder=sentence.
    """
    target = _target(output, force)
    dataset = _dataset(plugins, category, data_dir)
    made = _made(plugins, dataset, name, [*overrides, *([f"repair={repair}"] if repair else [])], seed, device, quiet)
    if made.semantic_ids is None:
        from harness.errors import BenchError

        raise BenchError(f"tokenizer {name} gives no semantic IDs for {category}; name another")
    _show(made.semantic_ids, made.facts)
    _write(made.semantic_ids, target)


@sids.command()
@click.argument("place", required=False)
@click.option("--category", metavar="NAME", help="Its given SIDs; with PLACE: whose items they are of.")
@click.option("--embedder", default="", metavar="NAME", help="Vectors to measure neighbours in, e.g. tfidf.")
@click.option("--format", "form", default="text", show_default=True, metavar="FORM", help="text or json.")
@data_dir_option
@with_plugins
def show(
    plugins: Plugins, place: str | None, category: str | None, embedder: str, form: str, data_dir: str | None
) -> None:  # fmt: skip
    """How good semantic IDs are: those of an index file, of a run's folder, or of a category as they are given."""
    import json

    from harness.quantising.quality import quality

    _known_form(form)
    semantic_ids, dataset, vectors = _looked_at(plugins, place, category, embedder, data_dir)
    facts = {"quality": quality(semantic_ids, dataset.items if dataset is not None else None, vectors)}
    if form == "json":
        click.echo(json.dumps({"fingerprint": semantic_ids.fingerprint, **facts["quality"]}, indent=1))
    else:
        _show(semantic_ids, facts)


@sids.command()
@click.argument("first")
@click.argument("second")
@click.option("--format", "form", default="text", show_default=True, metavar="FORM", help="text or json.")
def compare(first: str, second: str, form: str) -> None:
    """How alike two files (or runs) of semantic IDs are: the same SIDs, the same groups, mutual information."""
    import json

    from harness.cli.tables import table
    from harness.errors import BenchError
    from harness.quantising.quality import compared

    _known_form(form)
    one, other = _read(first, None), _read(second, None)
    if one.n_items != other.n_items:
        raise BenchError(
            f"{first} has {one.n_items:,} items and {second} {other.n_items:,}; compare those of one catalogue"
        )
    found = compared(one, other)
    click.echo(json.dumps(found, indent=1) if form == "json" else table(["figure", "value"], _rows(found)))


@sids.command()
@click.argument("place", required=False)
@click.option("--category", metavar="NAME", help="Its given SIDs, or whose items the file's are of.")
@click.option("--repair", "how", default="zcr", show_default=True, metavar="KIND",
              help="zcr, sinkhorn, extra-token or extra-token-all.")  # fmt: skip
@click.option("--embedder", default="", metavar="NAME",
              help="Vectors that distances are measured in.  [default: none: ties go by code]")  # fmt: skip
@click.option("--codes", type=click.IntRange(1), metavar="N",
              help="Codes of the last level.  [default: up to the largest in use]")  # fmt: skip
@_output_options
@data_dir_option
@with_plugins
def repair(
    plugins: Plugins, place: str | None, category: str | None, how: str, embedder: str, codes: int | None,
    output: str | None, force: bool, data_dir: str | None,
) -> None:  # fmt: skip
    """Tell items apart that share a SID."""
    from harness.errors import unknown
    from harness.quantising.collisions import REPAIRS
    from harness.quantising.collisions import repair as repaired
    from harness.quantising.quality import quality

    if how not in REPAIRS:
        raise unknown("repair", how, REPAIRS, "(--repair)")
    target = _target(output, force)
    semantic_ids, _, vectors = _looked_at(plugins, place, category, embedder, data_dir)
    done = repaired(semantic_ids, how, vectors, codes or 0)
    click.echo(f"{how}: {done.told}")
    _show(done.semantic_ids, {"quality": quality(done.semantic_ids, None, vectors)})
    _write(done.semantic_ids, target)


def _known_form(form: str) -> None:
    from harness.errors import unknown

    if form not in ("text", "json"):
        raise unknown("format", form, ("text", "json"), "(--format)")


def _looked_at(
    plugins: Plugins, place: str | None, category: str | None, embedder: str, data_dir: str | None
) -> tuple[SemanticIds, Dataset | None, Any]:
    """Semantic IDs, the category whose items they are of, and the vectors to measure in, where those are named.

    Raises:
        BenchError: an embedder is named and no category, or one of them cannot be had.
    """
    from harness.errors import BenchError

    if embedder and not category:
        raise BenchError("--embedder needs the items: give --category")
    dataset = _dataset(plugins, category, data_dir) if category else None
    semantic_ids = _read(place, dataset)
    return semantic_ids, dataset, _vectors(plugins, dataset, embedder) if embedder and dataset is not None else None


def _dataset(plugins: Plugins, category: str, data_dir: str | None) -> Dataset:
    from harness.data import categories

    return categories.read(plugins, category, data_dir, {})


def _made(
    plugins: Plugins, dataset: Dataset, name: str, overrides: list[str], seed: int, device: str, quiet: bool
) -> Tokenized:
    import tempfile

    from harness.progress import Progress
    from harness.runs.chosen import tokenizer_of
    from harness.runs.machine import prepare_device, quieten
    from harness.runs.tokenizing import tokenized

    component, how = tokenizer_of(name, overrides, plugins)
    quieten()
    with tempfile.TemporaryDirectory(prefix="bench-sids-") as folder:
        return tokenized(
            component, how, seed, dataset, plugins, prepare_device(device), Path(folder) / "tokenizer", Progress(quiet)
        )


def _vectors(plugins: Plugins, dataset: Dataset, embedder: str) -> Any:
    import tempfile

    from harness.progress import Progress
    from harness.runs.machine import quieten
    from harness.runs.tokenizing import Vectors

    quieten()
    with tempfile.TemporaryDirectory(prefix="bench-sids-") as folder:
        return Vectors(dataset, plugins, 42, "cpu", Path(folder), Progress()).of(embedder)


def _read(place: str | None, dataset: Dataset | None) -> SemanticIds:
    """Those of a file or a run, or the category's own.

    Raises:
        BenchError: there are none, or they are not of the category's items.
    """
    from harness.data.problems import Problems
    from harness.data.reading import read_index
    from harness.data.semantic_ids import SemanticIds
    from harness.errors import BenchError
    from harness.runs.run_directory import SEMANTIC_IDS

    if place is None:
        if dataset is None:
            raise BenchError("name an index file, a run's folder, or --category for the SIDs that it has")
        if dataset.given is None:
            raise BenchError(f"{dataset.category} comes without semantic IDs; bench sids build makes some")
        return dataset.given
    path = Path(place)
    if path.is_dir():
        path = path / SEMANTIC_IDS
    if path.name == SEMANTIC_IDS:
        found: SemanticIds | None = SemanticIds.read(path, "name an index file or a run's folder")
    else:
        problems = Problems()
        found = read_index(path, len(dataset.items) if dataset is not None else None, problems)
        problems.stop_on_errors()
    assert found is not None
    if dataset is not None and found.n_items != len(dataset.items):
        raise BenchError(f"{path} has {found.n_items:,} items, and {dataset.category} {len(dataset.items):,}")
    return found


def _target(output: str | None, force: bool) -> Path | None:
    from harness.errors import BenchError

    if output is None:
        return None
    path = Path(output)
    if not output.strip() or path.is_dir():
        raise BenchError(f"--output {output!r} is {'a folder' if output.strip() else 'empty'}; name a file")
    if path.exists() and not force:
        raise BenchError(f"--output {path} is there already; --force replaces it")
    return path


def _write(semantic_ids: SemanticIds, target: Path | None) -> None:
    import json

    from harness import files

    if target is None:
        return
    with files.made_for(target.absolute().parent):
        files.write_text(target, json.dumps(semantic_ids.index))
    click.echo(f"{target}: {semantic_ids.n_items:,} items, fingerprint {semantic_ids.fingerprint[:12]}")


def _show(semantic_ids: SemanticIds, facts: dict[str, Any]) -> None:
    from harness.cli.tables import table

    click.echo(f"{semantic_ids.source} (fingerprint {semantic_ids.fingerprint[:12]})")
    for reason, value in (facts.get("repair") or {}).items():
        click.echo(f"repair: {reason}: {value}")
    click.echo(table(["figure", "value"], _rows(facts["quality"])))


def _rows(figures: dict[str, Any]) -> list[list[str]]:
    """Figures by name; those of each level side by side."""

    def text(value: Any) -> str:
        if isinstance(value, list):
            return " / ".join(text(one) for one in value)
        return f"{value:.4f}" if isinstance(value, float) else f"{value:,}"

    return [[name, text(value)] for name, value in figures.items()]
