"""Baselines, one file each: a model that scores items, ranked over the whole catalogue."""

from harness import hookimpl


@hookimpl
def bench_trainers():
    """The trainers of the item-id baselines."""
    return {"popularity": "baselines.popularity:PopularityTrainer", "markov": "baselines.markov:MarkovTrainer"}


@hookimpl
def bench_methods():
    """Their recipes."""
    from harness.config import shipped

    return [shipped("methods", f"{name}.yaml") for name in ("popularity", "markov")]
