"""Decoders: constrained beam search, its exact oracle, the usual ``generate``, and ranking by item scores."""

from harness import hookimpl


@hookimpl
def bench_decoders():
    """The shipped decoders."""
    from plugins.decoders.generate import GenerateDecoder
    from plugins.decoders.rank import RankDecoder
    from plugins.decoders.search import BeamDecoder, ExactDecoder

    return {"beam": BeamDecoder, "exact": ExactDecoder, "hf-generate": GenerateDecoder, "rank": RankDecoder}
