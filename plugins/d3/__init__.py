"""D3 (Decoding Matters, arXiv 2406.14900): BIGRec's model, decoded over the catalogue's titles with an assistant."""

from harness import hookimpl


@hookimpl
def bench_trainers():
    """The text-free assistant and its weight."""
    return {"d3-assistant": "plugins.d3.assistant:AssistantTrainer"}


@hookimpl
def bench_decoders():
    """Beams over titles."""
    return {"title-beam": "plugins.d3.decoder:TitleBeamDecoder"}


@hookimpl
def bench_methods():
    """The nano recipe."""
    from harness.config import shipped

    return [shipped("methods", "d3.yaml")]
