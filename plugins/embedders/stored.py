"""``npy:PATH`` and ``run:DIR``: vectors that are there already, in a file or in the weights of a recorded run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from harness.components import ItemContext
from harness.errors import BenchError
from harness.item_models.checkpoint import MODEL
from harness.runs import finished
from harness.runs.run_directory import RunDirectory
from harness.settings import NoSettings


class ArrayFile:
    """A NumPy file with a row an item, in the order of item ids, such as the published text vectors."""

    Settings = NoSettings
    located = True

    def __init__(self, settings: NoSettings, location: str | None):
        if not location:
            raise BenchError("embedder npy needs a file behind a colon: npy:PATH")
        self.path = Path(location)

    def embed(self, context: ItemContext) -> np.ndarray:
        """``[n_items, d]``.

        Raises:
            BenchError: it is no such file, holds another number of rows, NaN or infinity, or one vector for all.
        """
        try:
            found = np.load(self.path, allow_pickle=False, mmap_mode="r")
        except Exception as error:  # a damaged header fails in whatever way
            reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
            raise BenchError(
                f"{self.path} is no NumPy file that can be read ({reason[:120]}); write it with np.save"
            ) from None
        n = len(context.items)
        if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind not in "fiu":
            told = f"{found.dtype} {list(found.shape)}" if isinstance(found, np.ndarray) else "several arrays"
            raise BenchError(f"{self.path} holds {told}; it must hold one array of numbers [items, width]")
        if len(found) != n or not found.shape[1]:
            raise BenchError(
                f"{self.path} holds vectors of {len(found):,} × {found.shape[1]:,}, and {context.dataset.category} has "
                f"{n:,} items; a row an item, in the order of item ids"
            )
        vectors = np.asarray(found, dtype=np.float32)
        bad = ~np.isfinite(vectors).all(axis=1)
        if bad.any():
            raise BenchError(
                f"{self.path}: row {int(bad.argmax())} holds NaN or infinity ({int(bad.sum()):,} such rows); mend it"
            )
        if n > 1 and (vectors == vectors[0]).all():
            raise BenchError(f"{self.path} holds the same vector for every item; nothing tells items apart")
        return vectors


class RecordedRun:
    """The item vectors that a recorded run has learnt (gru4rec, sasrec, hstu and their like) on the same data.

    Such a run has learnt from train; its best epoch was chosen on valid.
    """

    Settings = NoSettings
    located = True

    def __init__(self, settings: NoSettings, location: str | None):
        if not location:
            raise BenchError("embedder run needs a run's folder behind a colon: run:DIR")
        self.directory = Path(location)

    def embed(self, context: ItemContext) -> np.ndarray:
        """``[n_items, width of the model]``.

        Raises:
            BenchError: it is no finished run on this data, or its model has no item vectors.
        """
        manifest = finished.need_finished(RunDirectory(self.directory))
        there = manifest.get("fingerprints", {}).get("data")
        if there != context.data:
            raise BenchError(
                f"{self.directory} is a run on other data (fingerprint {str(there)[:8]}, not {context.data[:8]}); name "
                "one on this data"
            )
        for path in sorted(self.directory.glob(f"stages/*/{MODEL}"), reverse=True):
            try:
                with safe_open(path, "np") as file:
                    for name in file.keys():  # noqa: SIM118 (a safe_open is no mapping)
                        part = file.get_slice(name)
                        shape = part.get_shape()  # items, and padding behind them
                        if len(shape) == 2 and shape[0] == len(context.items) + 1 and part.get_dtype().startswith("F"):
                            found: np.ndarray = file.get_tensor(name)
                            return found[:-1]
            except (OSError, SafetensorError) as error:
                raise BenchError(f"{path} cannot be read ({error}); run the method again") from None
        raise BenchError(f"{self.directory} has no model with a vector for each item; name a run of sasrec or the like")
