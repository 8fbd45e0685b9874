"""A network of item ids as an ONNX file."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.item_models.model import ItemModel

from .catalogue import Catalogue
from .recommender import as_json


class Scores(torch.nn.Module):
    """``[batch, length]`` item ids, left-padded with `n_items`, → ``[batch, n_items]`` scores."""

    def __init__(self, network: ItemModel):
        super().__init__()
        self.network = network

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Scores of the whole catalogue."""
        scores: torch.Tensor = self.network.output(self.network.states(items))
        return scores


def padded(histories: list[list[int]], length: int, padding: int) -> np.ndarray:
    """Histories as the file takes them: int64 ``[n, length]``, the newest item last, `padding` in front."""
    items = np.full((len(histories), length), padding, dtype=np.int64)
    for row, history in enumerate(histories):
        kept = history[-length:]
        items[row, length - len(kept) :] = kept
    return items


def write(network: ItemModel, catalogue: Catalogue, length: int, told: str, path: Path) -> None:
    """Trace the network and write it.

    Args:
        length: of the input; `told` says in the file what it is.
    """
    example = torch.from_numpy(padded([[0, 1], [1]], length, len(catalogue)))
    quiet = logging.getLogger("torch.onnx")
    before, quiet.level = quiet.level, logging.ERROR
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.inference_mode():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                Scores(network.eval()).cpu(), (example,), dynamo=True, input_names=["items"], output_names=["scores"],
                dynamic_shapes={"items": {0: torch.export.Dim("batch", min=1, max=65536)}}, verbose=False,
            )  # fmt: skip
            program.model.doc_string = told
            program.save(path, external_data=False)
    finally:
        quiet.level = before


def write_catalogue(catalogue: Catalogue, path: Path) -> None:
    """``items.jsonl``: what each number of the input and column of the scores is."""
    with open(path, "w", encoding="utf-8") as file:
        for item in range(len(catalogue)):
            row = {"number": item, "id": catalogue.id(item), "title": catalogue.items.titles[item]}
            file.write(as_json(row) + "\n")
