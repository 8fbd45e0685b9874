"""Decoders: beam search, its exact oracle, beams with a memory, the usual ``generate``, ranking by item scores."""

from harness import hookimpl


@hookimpl
def bench_decoders():
    """The shipped decoders."""
    return {
        "beam": "plugins.decoders.search:BeamDecoder",
        "exact": "plugins.decoders.search:ExactDecoder",
        "mixture": "plugins.decoders.mixture:MixtureDecoder",
        "hf-generate": "plugins.decoders.generate:GenerateDecoder",
        "rank": "plugins.decoders.rank:RankDecoder",
    }
