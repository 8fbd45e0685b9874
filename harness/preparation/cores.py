"""Which purchases are kept: the window, repeats, and the core of users and items, until nothing changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from harness.preparation.asked import Preparation, a_year_before, moment
from harness.preparation.spool import Spool

CHUNK = 2**22
BUCKETS = 2**22
"""Counts of the first, coarse rounds: several users may share one, which keeps too many and never too few."""
ENOUGH = 0.98
"""A coarse round that leaves more than this share of what there was is the last."""


def kept(spool: Spool, made: Preparation, left_out: Counter[str]) -> tuple[np.ndarray, Preparation]:
    """The places ``[n]`` of the purchases that are kept, ascending, and the settings with the start that was taken."""
    while True:
        found = Counter[str]()
        places = _once(spool, made, found)
        items = len(np.unique(spool.column("items")[places])) if made.least_items else 0
        if items >= made.least_items or not _earlier(spool, made):
            left_out.update(found)
            return places, made
        made = a_year_before(made)


def _earlier(spool: Spool, made: Preparation) -> bool:
    """Whether an earlier start could let anything in."""
    start = moment(made.start, "start")
    return start is not None and any((part < start).any() for _, part in _chunks(spool.column("times")))


def _chunks(column: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(column), CHUNK):
        yield start, np.asarray(column[start : start + CHUNK])


def _once(spool: Spool, made: Preparation, left_out: Counter[str]) -> np.ndarray:
    inside = _window(spool, made, left_out)
    places = np.flatnonzero(_coarse(spool, inside, made))
    coarse = int(inside.sum()) - len(places)
    users, items = (np.asarray(spool.column(name)[places]) for name in ("users", "items"))
    if made.repeats != "keep":
        again = _again(users, items, np.asarray(spool.column("times")[places]), last=made.repeats == "last")
        if again.any():
            left_out[f"purchases of an item that the user bought before or after: the {made.repeats} is kept"] += int(
                again.sum()
            )
        places, users, items = (column[~again] for column in (places, users, items))
    mask = core(users, items, made.core_users, made.core_items)
    dropped = int((~mask).sum()) + coarse
    if dropped:
        left_out[f"purchases outside the core ({made.core_users} a user, {made.core_items} an item)"] += dropped
    return places[mask]


def _window(spool: Spool, made: Preparation, left_out: Counter[str]) -> np.ndarray:
    inside = np.ones(spool.n, dtype=bool)
    for name, sign in (("start", 1), ("end", -1)):
        bound = moment(getattr(made, name), name)
        if bound is None:
            continue
        out = 0
        for start, part in _chunks(spool.column("times")):
            beyond = sign * part < sign * bound
            out += int((inside[start : start + len(part)] & beyond).sum())
            inside[start : start + len(part)] &= ~beyond
        if out:
            left_out[f"purchases {'before' if name == 'start' else 'after'} {getattr(made, name)}"] += out
    return inside


def _coarse(spool: Spool, inside: np.ndarray, made: Preparation) -> np.ndarray:
    """What may be in the core, by counts in buckets of hashes: bounded memory, whatever was read."""
    wanted = [(name, least) for name, least in (("users", made.core_users), ("items", made.core_items)) if least > 1]
    alive = inside.copy()
    while wanted and len(alive) > BUCKETS:
        before = int(alive.sum())
        for name, least in wanted:
            counts = np.zeros(BUCKETS, dtype=np.int64)
            for start, part in _chunks(spool.column(name)):
                buckets = (part[alive[start : start + len(part)]] % BUCKETS).astype(np.int64)
                counts += np.bincount(buckets, minlength=BUCKETS)
            for start, part in _chunks(spool.column(name)):
                alive[start : start + len(part)] &= counts[part % BUCKETS] >= least
        if alive.sum() > ENOUGH * before:
            break
    return alive


def core(users: np.ndarray, items: np.ndarray, least_users: int, least_items: int) -> np.ndarray:
    """Which purchases ``[n]`` are in the core: the largest set whose users and items all have enough in it."""
    mask = np.ones(len(users), dtype=bool)
    codes = [
        (np.unique(ids, return_inverse=True)[1].reshape(-1), least)
        for ids, least in ((users, least_users), (items, least_items))
    ]
    while True:
        before = int(mask.sum())
        for code, least in codes:
            if least > 1 and mask.any():
                mask &= (np.bincount(code[mask], minlength=int(code.max()) + 1) >= least)[code]
        if int(mask.sum()) == before:
            return mask


def _again(users: np.ndarray, items: np.ndarray, times: np.ndarray, last: bool) -> np.ndarray:
    """Which purchases ``[n]`` are of an item that their user bought earlier (or later, with `last`)."""
    place = np.arange(len(users))
    order = np.lexsort((-place if last else place, -times if last else times, items, users))
    same = (users[order][1:] == users[order][:-1]) & (items[order][1:] == items[order][:-1])
    again = np.zeros(len(users), dtype=bool)
    again[order[1:][same]] = True
    return again
