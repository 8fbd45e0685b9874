"""BIGRec (arXiv 2308.08434): a language model writes the next title, and the items nearest to it are recommended."""

from harness import hookimpl


@hookimpl
def bench_trainers():
    """SFT on titles, and the weight of popularity in grounding."""
    return {
        "title-sft": ".title_sft:TitleSft",
        "bigrec-grounding": ".grounding:GroundingTrainer",
    }


@hookimpl
def bench_methods():
    """The nano recipe."""
    from harness.recipes import shipped

    return [shipped("methods", "bigrec.yaml")]
