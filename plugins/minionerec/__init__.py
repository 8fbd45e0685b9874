"""MiniOneRec (arXiv 2510.24431): SFT on a mixture of tasks over semantic IDs, then GRPO.

The reference plugin: it uses the hooks that any other plugin has.
"""

from harness import hookimpl


@hookimpl
def bench_trainers():
    """The two stages."""
    return {
        "minionerec-sft": "plugins.minionerec.sft:SftTrainer",
        "minionerec-grpo": "plugins.minionerec.grpo:GrpoTrainer",
    }


@hookimpl
def bench_rewards():
    """The published rewards."""
    places = {
        "rule": "rule", "ndcg_rule": "ranking_only", "ranking": "ranking", "ranking_only": "ranking_only",
        "position": "position", "semantic": "Semantic", "cf": "Cf",
    }  # fmt: skip
    return {name: f"plugins.minionerec.rewards:{place}" for name, place in places.items()}


@hookimpl
def bench_methods():
    """The nano default, and the settings of the published replication."""
    from harness.config import shipped

    return [shipped("methods", name) for name in ("minionerec.yaml", "minionerec-qwen2.5-1.5b.yaml")]
