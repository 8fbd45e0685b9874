"""Evaluation: where targets stand in rankings, the metrics that follow from it, and what differences mean."""
