"""Models of item ids: one training loop for all of them, their losses, and the stage that trains one.

What a neural method needs: :class:`ItemModel` with an :class:`Output`, :class:`SequentialTrainer`, and settings that
extend :class:`ItemLossSettings` (or :class:`LoopSettings`, with a loss of its own).
"""

from harness.item_models.loop import LoopSettings
from harness.item_models.losses import Output
from harness.item_models.model import ItemLossSettings, ItemModel, Scorer, SequentialTrainer

__all__ = ["ItemLossSettings", "ItemModel", "LoopSettings", "Output", "Scorer", "SequentialTrainer"]
