"""Decoders: constrained beam search, its exact oracle, the usual ``generate``, and ranking by item scores."""

from harness import hookimpl


@hookimpl
def bench_decoders():
    """The shipped decoders."""
    return {
        "beam": "plugins.decoders.search:BeamDecoder",
        "exact": "plugins.decoders.search:ExactDecoder",
        "hf-generate": "plugins.decoders.generate:GenerateDecoder",
        "rank": "plugins.decoders.rank:RankDecoder",
    }
