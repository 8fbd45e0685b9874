"""Where a clone keeps its records."""

RESULTS = "leaderboard/results"
