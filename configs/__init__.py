"""Shipped settings: recipes of methods and facts of datasets."""
