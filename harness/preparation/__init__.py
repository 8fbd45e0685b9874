"""From raw purchases to a split: reading in batches, filters and cores, order, split, and what is written."""
