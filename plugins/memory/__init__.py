"""A memory of counts and titles beside a generative model, weighed on valid (after kNN-LM, arXiv 1911.00172)."""

from harness import hookimpl


@hookimpl
def bench_trainers():
    """The stage that fits and weighs the memory."""
    return {"minionerec-memory": ".memory_stage:MemoryTrainer"}


@hookimpl
def bench_methods():
    """MiniOneRec with a memory."""
    from harness.recipes import shipped

    return [shipped("methods", "minionerec-memory.yaml")]
