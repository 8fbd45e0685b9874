"""Text in and out: JSON and YAML as plain values, and free text made harmless for where it goes."""
