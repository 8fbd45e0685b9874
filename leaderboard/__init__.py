"""The leaderboard: reported numbers, recorded results, and the tables made of them."""

RESULTS = "leaderboard/results"
"""Where a clone keeps its records."""
