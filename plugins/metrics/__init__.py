"""Metrics: rankings and targets → numbers, under the SID protocol and the item protocol."""

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
