"""Runs: one method on one category with one seed, from its recipe to its record, and grids and searches of them."""
