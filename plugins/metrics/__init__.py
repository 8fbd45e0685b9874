"""Metrics and analyses: rankings and targets → the entries of a stage's record."""

from harness import hookimpl


@hookimpl
def bench_metrics():
    """The entries of a stage's record in ``metrics.json``."""
    return {
        "sid": "plugins.metrics.ranking:sid_protocol",
        "item": "plugins.metrics.ranking:item_protocol",
        "invalid": "plugins.metrics.ranking:invalid",
        "intervals": "plugins.metrics.ranking:intervals",
        "levels": "plugins.metrics.levels:levels",
    }


@hookimpl
def bench_analyses():
    """Entries that look at the samples too."""
    return {
        "segments": "plugins.metrics.samples:segments",
        "ranks": "plugins.metrics.samples:ranks",
    }
