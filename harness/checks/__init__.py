"""What enters is held to a rule, once: names that become paths, and the schemas of files."""
