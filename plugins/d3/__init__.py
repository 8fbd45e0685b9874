"""D3 (Decoding Matters, arXiv 2406.14900): BIGRec's model, decoded over the catalogue's titles with an assistant."""

from harness import hookimpl


@hookimpl
def bench_trainers():
    """The text-free assistant and its weight."""
    return {"d3-assistant": ".assistant:AssistantTrainer"}


@hookimpl
def bench_decoders():
    """Beams over titles."""
    return {"title-beam": ".decoder:TitleBeamDecoder"}


@hookimpl
def bench_methods():
    """The nano recipe."""
    from harness.recipes import shipped

    return [shipped("methods", "d3.yaml")]
