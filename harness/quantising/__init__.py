"""From vectors to codes: clustering, residual and product quantisers, repairs of collisions, and figures of quality.

It knows vectors and codes; it knows no purchases, no method and no run.
"""
