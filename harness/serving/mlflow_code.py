"""The model that MLflow runs: it is read as code where the model is loaded, so that nothing is unpickled."""

from __future__ import annotations

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Recommendations(PythonModel):
    """A history in, recommendations out."""

    def load_context(self, context: Any) -> None:
        """Load the exported run."""
        from harness.serving.recommender import Recommender

        self.recommender = Recommender.load(context.artifacts["bundle"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Items, titles and scores of each row; ``history`` holds ids, oldest first.

        Raises:
            BenchError: an id is no item, or `params` (``k``, ``seen``) are out of range.
        """
        from harness.serving.catalogue import UnknownItem, names_of

        made, asked = self.recommender, params or {}
        histories = []
        for history in model_input["history"]:
            items = [(name, made.catalogue.named(name)) for name in names_of(list(history))]
            for name, item in items:
                if item is None:  # nothing is guessed where nobody reads what was guessed
                    raise UnknownItem(f"{name[:80]!r} is no item of {made.catalogue.category}")
            histories.append([item for _, item in items if item is not None])
        answers = made.answers(histories, int(asked.get("k", 10)), str(asked.get("seen", "")))
        found = [made.plain(answer)["items"] for answer in answers]
        columns = (("items", "id"), ("titles", "title"), ("scores", "score"))
        return pd.DataFrame({name: [[one[key] for one in row] for row in found] for name, key in columns})


set_model(Recommendations())
