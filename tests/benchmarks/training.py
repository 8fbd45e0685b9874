"""Training: the GRPO step against TRL's own, shared prompts against repeated ones, packed rows, dropout."""

from __future__ import annotations

import statistics
import tempfile

import numpy as np
import torch
from datasets import Dataset
from torch.nn import functional
from trl import GRPOConfig, GRPOTrainer

from baselines import sasrec
from baselines.shared import stream
from harness.decoding.beam import beam_search
from harness.decoding.generator import GenerativeModel
from harness.decoding.padding import pad_left
from harness.decoding.shared_prompt import completion_log_probs
from harness.decoding.trie import Trie
from harness.item_models import loop
from harness.item_models.losses import Output
from harness.language import models
from harness.language.packing import example_rows, packed_rows
from harness.language.prompts import Prompts
from harness.language.rewards import Groups
from plugins.decoders.generate import continuations
from plugins.minionerec.advantages import group_advantages
from plugins.minionerec.group_trainer import Plan, SharedPromptGRPOTrainer, unused
from plugins.minionerec.published_rewards import ranking
from tests.benchmarks.timing import paired, parameters, row, some

GROUP = 16


class UsualGRPOTrainer(GRPOTrainer):
    """TRL's trainer as it is, but for the rollout: ``generate`` with G constrained beams, scored by the same reward."""

    def _generate_and_score_completions(self, inputs):
        from transformers import GenerationConfig

        group = self.num_generations
        samples = inputs[::group]
        levels = self.table.shape[1]
        ids, mask = pad_left([s["prompt_ids"] for s in samples], self._tokenizer.pad_token_id, self.model.device)
        config = GenerationConfig(
            num_beams=group, num_return_sequences=group, max_new_tokens=levels, min_new_tokens=levels, do_sample=False,
            length_penalty=0.0, early_stopping=True, pad_token_id=self._tokenizer.pad_token_id, eos_token_id=None,
            use_cache=True,
        )  # fmt: skip
        width = ids.shape[1]
        with torch.no_grad():
            self.model.eval()
            out = self.model.generate(
                input_ids=ids, attention_mask=mask.long(), generation_config=config,
                prefix_allowed_tokens_fn=lambda _, sequence: self.allowed[tuple(sequence[width:].tolist())],
            )  # fmt: skip
            self.model.train()
        completions = out[:, width:]
        leaves = torch.tensor([self.leaf[tuple(sid)] for sid in completions.tolist()]).view(-1, group).to(ids.device)
        targets = torch.tensor([s["target"] for s in samples], device=ids.device)
        groups = Groups(leaves, targets, [], [], [], self.semantic_ids)
        output = {
            "prompt_ids": ids.repeat_interleave(group, 0), "prompt_mask": mask.long().repeat_interleave(group, 0),
            "completion_ids": completions, "completion_mask": torch.ones_like(completions),
            "advantages": group_advantages(ranking(groups)).flatten(),
            "num_items_in_batch": torch.tensor(completions.numel(), device=ids.device),
        }  # fmt: skip
        if self.beta:
            whole = torch.cat([output["prompt_ids"], completions], 1)
            attention = torch.cat([output["prompt_mask"], output["completion_mask"]], 1)
            with torch.no_grad():
                output["ref_per_token_logps"] = self._get_per_token_logps_and_entropies(
                    self.ref_model, whole, attention, levels
                )[0]
        return output


def grpo_row(
    generative: GenerativeModel, dataset, beta: float, prompts: int = 16, device: str = "cpu", bf16: bool = False
) -> dict[str, object]:
    """A whole step: rollout, reward, reference, loss, backward, update."""
    from transformers import AutoModelForCausalLM

    lengths = np.array([len(p) for p in generative.encode(dataset.train.histories)])
    near = np.argsort(np.abs(lengths - 100), kind="stable")[: 4 * prompts]  # as near to 100 tokens as the style has
    samples = dataset.train.take(near[some(len(near), prompts)])
    rows = [
        {"prompt": "", "prompt_ids": ids, "target": int(dataset.given.of_item[t]), "item": int(t), "history": history}
        for ids, t, history in zip(
            generative.encode(samples.histories), samples.targets, samples.histories.lists(), strict=True
        )
    ]
    best = beam_search(
        generative.model, *pad_left([r["prompt_ids"] for r in rows], 0, device), Trie(generative.sid_tokens, device), 1
    )
    for number in range(0, len(rows), 3):  # a third of the groups hold their target: published runs have 30 %
        rows[number]["target"] = int(best.leaves[number, 0])
    batch = [sample for sample in rows for _ in range(GROUP)]

    ours = {
        "context": None, "as_model": None, "trie": Trie(generative.sid_tokens, device), "semantic_ids": dataset.given,
        "rewards": lambda groups, step: {"ranking": ranking(groups)}, "plan": Plan(skip_idle=beta == 0),
        "catalogue": False,
    }  # fmt: skip

    def make(kind, folder):
        model = AutoModelForCausalLM.from_pretrained(f"{folder}/model").to(device)  # TRL loads its reference from there
        models.disable_dropout(model)
        arguments = GRPOConfig(
            output_dir=folder, per_device_train_batch_size=len(batch), num_generations=GROUP, beta=beta,
            max_completion_length=dataset.given.n_levels, report_to=[], use_cpu=device == "cpu", bf16=bf16,
            gradient_checkpointing=False, learning_rate=1e-5, loss_type="grpo",
        )  # fmt: skip
        trainer = kind(
            **(ours if kind is SharedPromptGRPOTrainer else {}),
            model=model, reward_funcs=[unused], args=arguments, train_dataset=Dataset.from_list(rows),
            processing_class=generative.text_tokenizer,
        )  # fmt: skip
        trainer.current_gradient_accumulation_steps = 1
        trainer.semantic_ids = dataset.given
        optimiser = torch.optim.AdamW(trainer.model.parameters(), lr=1e-5)

        def step():
            trainer._buffered_inputs = None
            inputs = trainer._generate_and_score_completions(batch)
            trainer.model.train()
            with trainer.accelerator.autocast():
                loss = trainer.compute_loss(trainer.model, inputs)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            found[kind] = float(loss.detach())

        return trainer, step

    found: dict[type, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        generative.model.save_pretrained(f"{folder}/model")
        fast_trainer, fast_step = make(SharedPromptGRPOTrainer, folder)
        usual_trainer, usual_step = make(UsualGRPOTrainer, folder)
        usual_trainer.table = generative.sid_tokens
        usual_trainer.leaf = {tuple(sid): n for n, sid in enumerate(generative.sid_tokens.tolist())}
        usual_trainer.allowed = continuations(generative.sid_tokens)
        fast_step(), usual_step()
        first = abs(found[SharedPromptGRPOTrainer] - found[UsualGRPOTrainer])  # before they part by rounding
        fast, usual = paired(fast_step, usual_step)
    idle = fast_trainer._metrics["train"]["groups/zero_advantage"][-1]
    label = (
        f"GRPO step, G = {GROUP}, {statistics.median(len(r['prompt_ids']) for r in rows):.0f}-token prompts, "
        f"{parameters(generative)}, beta {beta:g}"
    )
    return row(
        label, prompts / fast, prompts / usual, "prompts/s", usual / fast, f"loss to {first:.0e}; {idle:.0%} idle"
    )


def log_prob_row(model: GenerativeModel, dataset, style: str) -> dict[str, object]:
    """Log-probabilities of 16 completions a prompt, forward and backward: shared prompt against repeated prompt."""
    chosen = np.random.default_rng(1).permutation(len(dataset.train))[:32]
    ids, mask = pad_left(model.encode(dataset.train.take(chosen).histories), model.pad, "cpu")
    leaves = np.random.default_rng(2).integers(0, len(model.sid_tokens), (len(chosen), GROUP))
    completions = torch.as_tensor(model.sid_tokens[leaves])
    length = completions.shape[2]
    found = {}

    def shared():
        model.model.zero_grad()
        found["fast"], _ = completion_log_probs(model.model, ids, mask, completions)
        found["fast"].sum().backward()

    def repeated():
        model.model.zero_grad()
        whole = torch.cat([ids.repeat_interleave(GROUP, 0), completions.flatten(0, 1)], 1)
        attention = torch.cat([mask.repeat_interleave(GROUP, 0), torch.ones_like(completions.flatten(0, 1)).bool()], 1)
        place = (attention.long().cumsum(1) - 1).clamp(min=0)
        out = model.model(
            input_ids=whole, attention_mask=attention.long(), position_ids=place, logits_to_keep=length + 1
        )
        values = out.logits[:, :-1].log_softmax(-1).gather(2, completions.flatten(0, 1)[..., None]).squeeze(-1)
        found["usual"] = values.view(completions.shape)
        found["usual"].sum().backward()

    fast, usual = paired(shared, repeated)
    gap = float((found["fast"] - found["usual"]).abs().max().detach())
    label = f"log-probabilities forward + backward, G = {GROUP}, {style} prompts, {parameters(model)}"
    return row(label, len(chosen) / fast, len(chosen) / usual, "groups/s", usual / fast, f"to {gap:.0e}")


def packed_row(model: GenerativeModel, dataset) -> dict[str, object]:
    prompts = Prompts("compact", dataset.items, dataset.given)
    packed = packed_rows(dataset.train, prompts, model.text_tokenizer)
    examples = prompts.examples({"next_sid": 1.0}, dataset.train, 500, 0)["next_sid"]
    windowed = example_rows(examples, prompts, model.text_tokenizer, 512)
    fast, usual = (sum(len(r.tokens) for r in rows) for rows in (packed, windowed))
    return row(
        "SFT tokens an epoch, packed rows / one row a sample", fast, usual, "tokens", usual / fast, "same targets"
    )


def dropout_row(dataset) -> dict[str, object]:
    """A training step of SASRec with dropout drawn a byte a number, and with torch's."""
    n = len(dataset.items)
    settings = sasrec.Settings(hidden=64, blocks=2)
    model = loop.seeded(lambda: sasrec.SasRec(n, 10, settings), 0).train()
    rows = np.random.default_rng(0).permutation(len(dataset.train))[:256]
    items = torch.from_numpy(loop.left_padded(dataset.train.histories, n)[rows])
    targets = torch.from_numpy(dataset.train.targets[rows].astype(np.int64))
    own = sasrec.dropout

    def steps(function):
        sasrec.dropout = stream.dropout = function
        for _ in range(10):
            model.zero_grad()
            model.loss(items, targets).backward()
        sasrec.dropout = stream.dropout = own

    fast, usual = paired(lambda: steps(own), lambda: steps(functional.dropout))
    label = "SASRec training step, dropout a byte a number / torch's"
    return row(label, 10 / fast, 10 / usual, "steps/s", usual / fast, "same distribution")


def softmax_row(n=12_101, d=96, batch=512, smoothing=0.1) -> dict[str, object]:
    """Loss and gradients over a catalogue, in place and by torch's own function."""
    torch.manual_seed(0)
    output = Output(torch.nn.Embedding(n + 1, d))
    states, targets = torch.randn(batch, d, requires_grad=True), torch.randint(n, (batch,))
    found = []

    def step(loss):
        states.grad = output.embedding.weight.grad = None
        loss().backward()
        found.append([states.grad, output.embedding.weight.grad])

    fast, usual = paired(
        lambda: step(lambda: output.cross_entropy(states, targets, smoothing)),
        lambda: step(lambda: functional.cross_entropy(output(states), targets, label_smoothing=smoothing)),
        rounds=9,
    )
    most = max(float((a - b).abs().max()) for a, b in zip(found[-2], found[-1], strict=True))
    label = f"loss over {n:,} items, forward + backward, batch {batch}, in place / torch's"
    return row(label, 1 / fast, 1 / usual, "steps/s", usual / fast, f"gradients to {most:.0e}")
