"""The kit for plugin authors: a scaffold to begin from, and the conformance suite to hold it to."""
