"""Shipped settings: recipes of methods, facts of datasets, launchers."""
