"""Datasets: readers of the file layouts, the generated category, and where data is looked for."""

from harness import hookimpl


@hookimpl
def bench_datasets() -> dict[str, type]:
    """The three readers of the core."""
    from harness.data.minionerec import MiniOneRecReader
    from harness.data.sequences import SequencesReader
    from harness.data.synthetic import SyntheticReader

    return {"minionerec": MiniOneRecReader, "sequences": SequencesReader, "synthetic": SyntheticReader}
