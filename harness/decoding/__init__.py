"""Constrained decoding: the trie of the catalogue, shared-prompt beams, and exact scoring.

It works on token ids and a causal language model, and knows nothing of items or prompts.
"""
