"""Metrics beside the core's own: intervals, invalid predictions, and where among levels and segments hits stand."""

from harness import hookimpl


@hookimpl
def bench_metrics():
    """The entries of a stage's record in ``metrics.json``."""
    return {
        "invalid": ".intervals:invalid",
        "intervals": ".intervals:intervals",
        "design effects": ".intervals:design_effects",
        "beyond accuracy": ".beyond:beyond_accuracy",
        "levels": ".by_level:levels",
        "segments": ".by_segment:segments",
    }
