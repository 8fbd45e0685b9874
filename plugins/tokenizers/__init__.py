"""Item tokenizers: how every item of a catalogue gets its semantic ID."""

from harness import hookimpl


@hookimpl
def bench_tokenizers():
    """``given`` and ``rqkmeans``."""
    return {
        "given": "plugins.tokenizers.given:GivenTokenizer",
        "rqkmeans": "plugins.tokenizers.rqkmeans:RqKmeansTokenizer",
    }
