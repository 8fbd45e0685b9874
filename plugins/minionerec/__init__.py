"""MiniOneRec (arXiv 2510.24431): SFT on a mixture of tasks over semantic IDs, then GRPO.

The reference plugin: it uses the hooks that any other plugin has.
"""

from harness import hookimpl


@hookimpl
def bench_trainers():
    """SFT, GRPO, and a memory beside the trained model."""
    return {
        "minionerec-sft": "plugins.minionerec.sft:MiniOneRecSft",
        "minionerec-grpo": "plugins.minionerec.grpo:GrpoTrainer",
        "minionerec-memory": "plugins.minionerec.memory:MemoryTrainer",
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
    """The nano default, the same with a memory, and the settings of the published replication."""
    from harness.config import shipped

    names = ("minionerec", "minionerec-memory", "minionerec-qwen2.5-1.5b")
    return [shipped("methods", f"{name}.yaml") for name in names]
