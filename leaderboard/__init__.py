"""The leaderboard: reported numbers, recorded results, and the tables made of them."""
