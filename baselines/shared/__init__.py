"""What several baselines share: votes of items for items, and the stream of a history through attention."""
