"""Item tokenizers: how every item of a catalogue gets its semantic ID."""

from harness import hookimpl


@hookimpl
def bench_tokenizers():
    """``given`` and ``rqkmeans``."""
    return {
        "given": ".given:GivenTokenizer",
        "rqkmeans": ".rqkmeans:RqKmeansTokenizer",
    }
