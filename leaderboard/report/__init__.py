"""The report of recorded runs: tables, figures and what can be read from them. It computes from records alone."""
