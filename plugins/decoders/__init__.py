"""Decoders: beam search, its exact oracle, beams with a memory, the usual ``generate``, ranking by item scores."""

from harness import hookimpl


@hookimpl
def bench_decoders():
    """The shipped decoders."""
    return {
        "beam": ".sids:BeamDecoder",
        "exact": ".sids:ExactDecoder",
        "mixture": ".mixture_decoder:MixtureDecoder",
        "hf-generate": ".generate:GenerateDecoder",
        "rank": ".rank:RankDecoder",
    }
