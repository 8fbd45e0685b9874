"""``rerank``: candidates of several item-scoring methods, ordered by boosted trees.

:mod:`.rerank_stage` cross-fits and trains, :mod:`.candidates` tells of candidates, :mod:`.ordering` orders them.
"""
