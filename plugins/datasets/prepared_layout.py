"""What ``bench data prepare`` writes: ``<category>/split.yaml`` and the purchases beside it."""

from __future__ import annotations

from pathlib import Path

from harness.data import prepared
from harness.data.dataset import Dataset
from harness.data.problems import Problems
from harness.data.reading import folder_of, folders, index_of, read_index

from .sequences import SequencesSettings


class PreparedReader:
    """Reads prepared splits."""

    Settings = SequencesSettings
    kept_in_columns = True

    def __init__(self, settings: SequencesSettings):
        self.settings = settings

    @staticmethod
    def categories(root: Path | None) -> list[str]:
        """Folders with a manifest and purchases."""
        if root is None:
            return []
        return [f.name for f in folders(root)[1:] if _is_one(f)]

    def read(self, root: Path | None, category: str, problems: Problems) -> Dataset:
        """The dataset, with the checks that ``bench data validate`` lists."""
        assert root is not None
        folder = folder_of((f for f in folders(root)[1:] if f.name == category and _is_one(f)), category, problems)
        manifest = prepared.manifest(folder)
        items, splits, cut = prepared.read(folder, self.settings.max_history, problems)
        variant, path = index_of(folder, category, self.settings.index)
        given = read_index(path, len(items), problems) if path else None
        problems.stop_on_errors()
        left_out = dict(manifest["left out"])
        if cut:
            left_out[f"users whose history is cut to its last {self.settings.max_history} items"] = cut
        caption = f"split: {manifest['settings']['split']}, rules {manifest['recipe']} {manifest['version']}"
        return Dataset(
            category, items, splits["train"], splits["valid"], splits["test"], "prepared", given,
            caption + (f"; SIDs: {variant}" if variant else ""), left_out=left_out, rules=manifest["version"],
        )  # fmt: skip


def _is_one(folder: Path) -> bool:
    return (folder / prepared.MANIFEST).is_file() and (folder / prepared.INTERACTIONS).exists()
