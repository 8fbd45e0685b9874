"""The user of each test sample as a number: what intervals and tests need of users, and all that a record tells.

Numbers go from 0 in the canonical order of the samples, in which a user's samples stand together; no name is in them.
"""

from __future__ import annotations

import zlib

import numpy as np

from harness.data.dataset import Samples
from harness.errors import BenchError
from harness.evaluation.target_ranks import pack, unpack

KEY = "users"
"""Where it stands in ``metrics.json`` and in records."""


def of(samples: Samples) -> np.ndarray:
    """``[n]`` the user of each sample, samples in the order of target ranks in a record."""
    return np.unique(samples.users[samples.order], return_inverse=True)[1].reshape(-1)


def encode(users: np.ndarray) -> str:
    """The file form of such numbers ``[n]``: how many samples each user has."""
    return pack(np.bincount(users).astype("<u4"))


def decode(text: str, n: int) -> np.ndarray:
    """Read what :func:`encode` wrote, of n samples.

    Raises:
        BenchError: it is damaged, or of another number of samples.
    """
    try:
        sizes = np.frombuffer(unpack(text), dtype="<u4")
    except (ValueError, zlib.error, TypeError) as error:
        raise BenchError(f"the users of the samples are damaged ({error})") from None
    if int(sizes.sum(dtype=np.int64)) != n or (sizes < 1).any():
        raise BenchError(f"the users are of {int(sizes.sum(dtype=np.int64))} samples, the target ranks of {n}")
    return np.repeat(np.arange(len(sizes)), sizes)
