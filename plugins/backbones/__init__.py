"""Backbones: causal language models whose vocabulary holds the SID tokens."""

from harness import hookimpl


@hookimpl
def bench_backbones():
    """``nano`` (built from a config) and ``hf:PATH`` (loaded)."""
    from plugins.backbones.hf import HfBackbone
    from plugins.backbones.nano import NanoBackbone

    return {"nano": NanoBackbone, "hf": HfBackbone}
