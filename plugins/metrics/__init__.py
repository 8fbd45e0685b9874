"""Metrics: rankings and targets → numbers, under the SID protocol and the item protocol."""

from harness import hookimpl


@hookimpl
def bench_metrics():
    """The entries of a stage's record in ``metrics.json``."""
    from plugins.metrics.levels import levels
    from plugins.metrics.ranking import invalid, item_protocol, sid_protocol

    return {"sid": sid_protocol, "item": item_protocol, "invalid": invalid, "levels": levels}
