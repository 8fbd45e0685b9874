"""S-DPO (Softmax Direct Preference Optimization, arXiv 2406.09215): preferences with several negatives after SFT."""

from harness import hookimpl


@hookimpl
def bench_trainers():
    """The preference stage; the SFT stage before it is a recipe's own."""
    return {"sdpo": ".preference_stage:SdpoTrainer"}


@hookimpl
def bench_methods():
    """The nano recipe."""
    from harness.recipes import shipped

    return [shipped("methods", "sdpo.yaml")]
