"""Datasets: readers of the file layouts, and the generated category."""

from harness import hookimpl


@hookimpl
def bench_datasets():
    """MiniOneRec's CSVs, user sequences, prepared splits, and ``Synthetic``."""
    return {
        "minionerec": ".minionerec_csv:MiniOneRecReader",
        "prepared": ".prepared_layout:PreparedReader",
        "sequences": ".sequences:SequencesReader",
        "synthetic": ".synthetic:SyntheticReader",
    }
