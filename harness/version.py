"""The name and the version of the distribution."""

DISTRIBUTION = "genrec-bench"
"""The distribution of what comes with the harness."""
__version__ = "0.1.0"
