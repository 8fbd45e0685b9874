"""Counts and titles with a language model: beside it (after kNN-LM, arXiv 1911.00172), or inside its softmax."""

from harness import hookimpl


@hookimpl
def bench_trainers():
    """The stages that fit and weigh what counts."""
    return {"minionerec-counts": ".counts_stage:CountsTrainer", "minionerec-memory": ".memory_stage:MemoryTrainer"}


@hookimpl
def bench_methods():
    """MiniOneRec with counts inside its softmax, and with a memory."""
    from harness.recipes import shipped

    return [shipped("methods", f"minionerec-{name}.yaml") for name in ("counts", "memory")]
