"""Backbones: causal language models whose vocabulary holds the SID tokens."""

from harness import hookimpl


@hookimpl
def bench_backbones():
    """``nano`` (built from a config) and ``hf:PATH`` (loaded)."""
    return {"nano": ".nano:NanoBackbone", "hf": ".hf:HfBackbone"}
