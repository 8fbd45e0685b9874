"""A trained model in use: recommendations of a finished run, as a file, as a page, and for other tools."""
