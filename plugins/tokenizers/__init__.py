"""Item tokenizers: how every item of a catalogue gets its semantic ID."""

from harness import hookimpl


@hookimpl
def bench_tokenizers():
    """``given`` and ``rqkmeans``."""
    from plugins.tokenizers.given import GivenTokenizer
    from plugins.tokenizers.rqkmeans import RqKmeansTokenizer

    return {"given": GivenTokenizer, "rqkmeans": RqKmeansTokenizer}
