"""Datasets: readers of the file layouts, the generated category, and where data is looked for."""

from harness import hookimpl


@hookimpl
def bench_datasets() -> dict[str, str]:
    """The three readers of the core."""
    return {
        "minionerec": "harness.data.minionerec:MiniOneRecReader",
        "sequences": "harness.data.sequences:SequencesReader",
        "synthetic": "harness.data.synthetic:SyntheticReader",
    }
