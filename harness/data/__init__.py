"""Data: samples, items, semantic IDs and rankings, and where categories are found and read."""
