"""Baselines, one file each: floors that count, and neural models of item ids; all rank the whole catalogue."""

from harness import hookimpl

FLOORS = ("popularity", "recency", "markov", "skip-markov", "itemknn", "ease", "tfidf", "hybrid")
NEURAL = ("gru4rec", "caser", "sasrec", "sasrec-bce", "hstu", "tiger")


@hookimpl
def bench_trainers():
    """The trainers of the baselines."""
    return {
        "popularity": "baselines.popularity:PopularityTrainer",
        "recency": "baselines.recency:RecencyTrainer",
        "markov": "baselines.markov:MarkovTrainer",
        "skip-markov": "baselines.skip_markov:SkipMarkovTrainer",
        "itemknn": "baselines.itemknn:ItemKnnTrainer",
        "ease": "baselines.ease:EaseTrainer",
        "tfidf": "baselines.tfidf:TfidfTrainer",
        "hybrid": "baselines.hybrid:HybridTrainer",
        "gru4rec": "baselines.gru4rec:Gru4RecTrainer",
        "caser": "baselines.caser:CaserTrainer",
        "sasrec": "baselines.sasrec:SasRecTrainer",
        "hstu": "baselines.hstu:HstuTrainer",
        "tiger": "baselines.tiger:TigerTrainer",
    }


@hookimpl
def bench_methods():
    """Their recipes."""
    from harness.config import shipped

    return [shipped("methods", f"{name}.yaml") for name in (*FLOORS, *NEURAL)]
