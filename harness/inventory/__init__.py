"""The runs that there are: which work, which wait, what they take, and removing them."""
