"""MiniOneRec (arXiv 2510.24431): SFT on a mixture of tasks over semantic IDs, then GRPO.

The reference plugin: it uses the hooks that any other plugin has.
"""

from harness import hookimpl


@hookimpl
def bench_trainers():
    """SFT and GRPO."""
    return {
        "minionerec-sft": ".sft:MiniOneRecSft",
        "minionerec-grpo": ".grpo:GrpoTrainer",
    }


@hookimpl
def bench_rewards():
    """The published rewards, and what the user bought later."""
    places = {
        "rule": "rule", "ndcg_rule": "ranking_only", "ranking": "ranking", "ranking_only": "ranking_only",
        "position": "position", "semantic": "Semantic", "cf": "Cf",
    }  # fmt: skip
    return {name: f".published_rewards:{place}" for name, place in places.items()} | {"later": ".later_purchases:Later"}


@hookimpl
def bench_methods():
    """The nano default, and the settings of the published replication on three sizes of model, whole and by LoRA."""
    from harness.recipes import shipped

    large = [f"minionerec-qwen2.5-{size}b{way}" for size in ("0.5", "1.5", "3") for way in ("", "-lora")]
    return [
        shipped("methods", f"{name}.yaml") for name in ("minionerec", "minionerec-sft", "minionerec-sft-more", *large)
    ]
