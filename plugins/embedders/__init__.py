"""Embedders: vectors of items, from their texts, from who buys what after what, from a file or a recorded run."""

from harness import hookimpl


@hookimpl
def bench_embedders():
    """``tfidf``, ``sentence`` (also ``minilm``), ``hf:PATH``, ``npy:PATH``, ``cooccurrence`` and ``run:DIR``."""
    return {
        "tfidf": ".word_vectors:TfIdf",
        "sentence": ".encoders:Sentence",
        "minilm": ".encoders:Sentence",
        "hf": ".encoders:HuggingFace",
        "npy": ".stored:ArrayFile",
        "run": ".stored:RecordedRun",
        "cooccurrence": ".together:Cooccurrence",
    }
