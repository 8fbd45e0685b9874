"""What networks of items and of language share: the order of batches, cheap dropout, what of a model is trained."""
