"""Baselines, one file each: counting baselines, and neural models of item ids; all rank the whole catalogue."""

from harness import hookimpl

COUNTING = ("popularity", "recency", "markov", "skip-markov", "itemknn", "ease", "tfidf", "hybrid")
FLOORS = ("random", "next-id")
TOGETHER = ("rerank",)
NEURAL = ("gru4rec", "caser", "sasrec", "sasrec-bce", "hstu", "bert4rec", "fmlp-rec", "tiger")


@hookimpl
def bench_trainers():
    """The trainers of the baselines."""
    return {
        "random": ".random_order:RandomTrainer",
        "next-id": ".next_id:NextIdTrainer",
        "popularity": ".popularity:PopularityTrainer",
        "recency": ".recency:RecencyTrainer",
        "markov": ".markov:MarkovTrainer",
        "skip-markov": ".skip_markov:SkipMarkovTrainer",
        "itemknn": ".itemknn:ItemKnnTrainer",
        "ease": ".ease:EaseTrainer",
        "tfidf": ".tfidf:TfidfTrainer",
        "hybrid": ".hybrid:HybridTrainer",
        "gru4rec": ".gru4rec:Gru4RecTrainer",
        "caser": ".caser:CaserTrainer",
        "sasrec": ".sasrec:SasRecTrainer",
        "hstu": ".hstu:HstuTrainer",
        "bert4rec": ".bert4rec:Bert4RecTrainer",
        "fmlp-rec": ".fmlprec:FmlpRecTrainer",
        "tiger": ".tiger:TigerTrainer",
        "rerank": ".rerank.rerank_stage:RerankTrainer",
    }


@hookimpl
def bench_methods():
    """Their recipes."""
    from harness.recipes import shipped

    return [shipped("methods", f"{name}.yaml") for name in (*FLOORS, *COUNTING, *NEURAL, *TOGETHER)]
