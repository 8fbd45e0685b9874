"""Item tokenizers: how every item of a catalogue gets its semantic ID."""

from harness import hookimpl


@hookimpl
def bench_tokenizers():
    """Given ones, quantisers of vectors, the words of titles, and controls that a claim must beat."""
    return {
        "given": ".given:GivenTokenizer",
        "rqkmeans": ".rqkmeans:RqKmeansTokenizer",
        "rqkmeans-balanced": ".rqkmeans:BalancedTokenizer",
        "rqkmeans-plus": ".rqvae:RqKmeansPlusTokenizer",
        "rqvae": ".rqvae:RqVaeTokenizer",
        "letter": ".letter:LetterTokenizer",
        "opq": ".opq:OpqTokenizer",
        "fused": ".fused:FusedTokenizer",
        "title": ".title_words:TitleTokenizer",
        "random": ".controls:RandomTokenizer",
        "hashed": ".controls:HashedTokenizer",
        "permuted": ".controls:PermutedTokenizer",
    }
