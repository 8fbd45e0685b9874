"""The commands that the leaderboard adds to ``bench``: one file a command group, each a thin call into its rooms."""
