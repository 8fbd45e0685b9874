"""How much memory a fine-tuning stage asks of each device, estimated before anything is loaded.

Weights are counted on a model without storage; what a layer keeps for the backward pass is measured on one of its own
width with two layers, so that no formula of an architecture stands here. Units are bytes, a device.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import torch

from harness import recipes
from harness.errors import BenchError
from harness.language.finetuning import FineTuningSettings
from harness.language.zero import content
from harness.runs.config import RunConfig

TOKENS = 61
"""Tokens of the row that a layer is measured with: what is kept for each token has a dimension of that size."""
LEVELS = 4
"""Tokens of an answer: a SID's three levels and one to spare."""
COPIES = 3
"""Scores over the vocabulary at once: the logits, their log-softmax, and the gradient; in float32."""


@dataclass(frozen=True)
class Stage:
    """What a stage asks for, in bytes a device.

    Attributes:
        weights: as they are stored, and the bfloat16 copies of them that autocast makes.
        gradients: of what is trained, and the buckets in which several processes exchange them.
        optimiser: AdamW's two moments, and DeepSpeed's own copy of the weights.
        others: the reference of GRPO's KL term, and the running average of the weights.
        activations: kept for the backward pass, of the longest rows that the settings allow.
        logits: at the answers' tokens.
        cache: keys and values of a rollout.
    """

    name: str
    weights: float
    gradients: float
    optimiser: float
    others: float
    activations: float
    logits: float
    cache: float

    @property
    def total(self) -> float:
        """The most at one time: a rollout's cache and a step's activations are not there together."""
        held = self.weights + self.gradients + self.optimiser + self.others
        return held + max(self.activations + self.logits, self.cache)


@dataclass(frozen=True)
class Model:
    """Sizes of a causal language model.

    Attributes:
        parameters: of all.
        trained: of those that learn.
        kept: bytes a token and layer that the backward pass needs.
        between: bytes a token between two layers, all that is kept where activations are computed again.
    """

    parameters: int
    trained: int
    layers: int
    vocabulary: int
    cache: float
    kept: float
    between: float


def of_run(config: RunConfig, backbone: Any, devices: int) -> list[Stage]:
    """The stages of a run that fine-tune a language model.

    Args:
        backbone: the made component; its ``outline()`` is a transformers configuration.
        devices: processes, a device each.

    Raises:
        BenchError: nothing is fine-tuned, or the backbone does not say its shape.
    """
    stages = [s for s in config.stages if isinstance(s.trainer.settings, FineTuningSettings)]
    if not stages or backbone is None:
        raise BenchError(f"{config.method} fine-tunes no language model; --memory is for methods that do")
    if not hasattr(backbone, "outline"):
        assert config.backbone is not None
        raise BenchError(f"backbone {config.backbone.name} does not say its shape (outline()); leave out --memory")
    outline = backbone.outline()
    rank = getattr(backbone.settings, "lora_rank", 0)
    frozen = getattr(backbone.settings, "freeze", False)
    dtype = getattr(torch, getattr(backbone.settings, "dtype", "float32"))
    found = []
    for stage in stages:
        settings: Any = stage.trainer.settings
        half = settings.precision == "bfloat16"
        model = model_of(outline, dtype, half, rank, frozen)
        found.append(estimate(stage.name, settings, model, dtype.itemsize, devices, reference=not rank))
    return found


def zero_of(engine: str) -> dict[str, Any]:
    """What a stage's DeepSpeed configuration says of ZeRO; {} where there is none."""
    if not engine:
        return {}
    return dict(content(recipes.deepspeed(engine)).get("zero_optimization") or {})


def estimate(
    name: str, settings: Any, model: Model, itemsize: int, devices: int, reference: bool = True
) -> Stage:  # fmt: skip
    """A stage's memory, by its settings and the sizes of its model.

    Args:
        itemsize: bytes a stored weight.
        reference: whether the KL term has a model of its own to compare with; adapters have none.
    """
    half, engine = settings.precision == "bfloat16", settings.deepspeed
    zero = zero_of(engine)
    known = {field.name for field in fields(settings)}
    level = zero.get("stage", 0)
    shared = devices if level else 1
    weights = itemsize * model.parameters + (2.0 * model.parameters if half and itemsize > 2 else 0.0)
    gradients = float(itemsize * model.trained)
    optimiser = (12.0 if level else 2.0 * itemsize) * model.trained / shared  # ZeRO has float32 weights of its own
    if level == 2:
        gradients /= devices
    if level:
        gradients += itemsize * zero.get("reduce_bucket_size", 5e8) * (2 if zero.get("overlap_comm") else 1)
    elif devices > 1:
        gradients *= 2
    groups = settings.generations if "generations" in known else 0
    answers = settings.batch * (1 + settings.negatives if "negatives" in known else 1)
    prompts = settings.batch // groups if groups else answers
    predicted = answers * LEVELS
    tokens = prompts * settings.cutoff + predicted
    if exact := getattr(settings, "rollout", "") == "exact":  # all SIDs of some prompts, as many as the bound allows
        tokens = predicted = settings.rollout_tokens
    layers = model.layers * (model.between if settings.gradient_checkpointing else model.kept)
    activations = tokens * (layers + (model.kept if settings.gradient_checkpointing else 0.0))
    others = 0.0
    if reference and "beta" in known and groups and settings.beta > 0:
        others += itemsize * model.parameters
    if getattr(settings, "average", 0):
        others += 4.0 * model.trained
    cache = model.cache * settings.rollout_tokens if groups and not exact else 0.0
    logits = COPIES * 4.0 * predicted * model.vocabulary
    return Stage(name, weights, gradients, optimiser, others, activations, logits, cache)


def model_of(outline: Any, dtype: torch.dtype, half: bool, rank: int = 0, frozen: bool = False) -> Model:
    """The sizes of a model of that configuration.

    Args:
        half: whether it is computed in bfloat16.
        rank: of LoRA adapters on its linear layers; embeddings and head are trained whole beside them.
        frozen: whether but a few rows of the embedding are trained.
    """
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(outline)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    parameters = sum(p.numel() for p in model.parameters())
    trained = parameters
    if rank or frozen:
        own = {id(p): p.numel() for layer in (embedding, head) for p in layer.parameters()}
        linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
        adapters = sum(rank * (m.in_features + m.out_features) for m in linear)  # 0 where rows alone are trained
        trained = adapters + sum(own.values())  # where only some rows learn, the whole layer has a gradient
        parameters += adapters + sum(own.values()) if rank else 0  # peft keeps both layers as they were, too
    heads = getattr(outline, "num_key_value_heads", None) or outline.num_attention_heads
    width = getattr(outline, "head_dim", None) or outline.hidden_size // outline.num_attention_heads
    layers = outline.num_hidden_layers
    one, two = (_kept(outline.to_json_string(use_diff=False), number, half) for number in (1, 2))
    itemsize = 2 if half else dtype.itemsize
    return Model(
        parameters, trained, layers, outline.vocab_size, 2.0 * layers * heads * width * itemsize, (two - one) / TOKENS,
        4.0 * outline.hidden_size,
    )  # fmt: skip


@lru_cache(maxsize=64)
def _kept(outline: str, layers: int, half: bool) -> int:
    """Bytes that autograd keeps of a pass through so many layers, the weights left out.

    Args:
        outline: the model's configuration as JSON.
    """
    from transformers import AutoConfig, AutoModel

    shape = json.loads(outline)
    small = AutoConfig.for_model(shape.pop("model_type"), **shape)
    small.num_hidden_layers, small.vocab_size, small.use_cache, small.pad_token_id = layers, 8, False, 0
    if getattr(small, "layer_types", None):
        small.layer_types = small.layer_types[:layers]
    small.tie_word_embeddings = True
    with torch.random.fork_rng():
        model = AutoModel.from_config(small, attn_implementation="sdpa").train()
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if TOKENS in tensor.shape:  # not the weights, nor their copies in bfloat16
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    ids = torch.ones((1, TOKENS), dtype=torch.long)
    graph = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with graph, torch.autocast("cpu", torch.bfloat16, enabled=half):
        states = model(input_ids=ids).last_hidden_state  # held, or what it keeps would be gone
    return sum(kept.values()) if states.requires_grad else 0
