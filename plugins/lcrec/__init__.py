"""LC-Rec (arXiv 2311.09049): a language model aligned with semantic IDs by several tasks, in several wordings.

Four of the paper's six tasks: next SID, item ↔ SID by title and description, and the mixed ones (SID history → title or
description, title history → SID). Its intention and preference tasks need texts that a language model wrote about each
user, which no split here has.
"""

from harness import hookimpl


@hookimpl
def bench_trainers():
    """The SFT stage in LC-Rec's wordings."""
    return {"lcrec-sft": ".alignment:LcRecSft"}


@hookimpl
def bench_methods():
    """The nano recipe."""
    from harness.recipes import shipped

    return [shipped("methods", "lcrec.yaml")]
