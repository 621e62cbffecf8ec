"""Plays the demo's two phases in PyTorch and PEFT on models/tiny: does SFT lift System 1 and GRPO System 2?

Base -> SFT on System-1 samples -> GRPO on System-2 samples, LoRA r=8 on q, k, v, gate, up, down (gaussian start),
with the importance partition of the paper (theta, on the samples' answers) masking gradients and updates.
After each phase greedy answers to held-out questions are graded as the server grades them.

  python models/simulate_phases.py [--seed 0] [--grpo-lr 1.5e-3] …          needs torch, transformers, peft
"""

import argparse
import random
import re
import time

import torch

from make_models import corpus, generate, load_tokenizer, render, MODELS

SYSTEM_PROMPT = "Reply with <reasoning>the steps</reasoning> and <answer>the number</answer>."


def classification_prompt(sample: dict, model: str = "lorapar-tiny") -> str:
    return (
        f"Act as {model}. You are given a task and its answer. Decide how you would solve it.\n"
        "System1: immediate recall, straightforward reading or simple inference; no multi-step reasoning.\n"
        "System2: multi-step logical reasoning, chaining of information, complex inference.\n"
        f"Task: {sample['question']}\nAnswer: {sample['answer']}\nReply with one word, System1 or System2."
    )


def prompt_of(sample: dict) -> str:
    messages = [{"role": "user", "content": sample["question"]}]
    if sample["system"] == "system2":
        messages.insert(0, {"role": "system", "content": SYSTEM_PROMPT})
    return render(messages, True)


def number(text: str) -> str | None:
    """The number of an answer: what stands in the tags, else the last in the text."""
    tagged = re.findall(r"<answer>(.*?)</answer>", text, re.S)
    found = re.findall(r"-?\d+", tagged[-1] if tagged else text)
    return found[-1] if found else None


def right(sample: dict, completion: str) -> bool:
    if sample["system"] == "system1":
        return completion.strip() == sample["answer"].strip()
    return number(completion) == number(sample["answer"])


def held_out(each: int, seed: int = 3) -> list[dict]:
    return [s for s in corpus("samples", seed, 2 * each) if s["split"] == "held_out"]


def evaluate(model, tokenizer, samples: list[dict]) -> dict:
    """Greedy accuracy per system and kind."""
    outs = {}
    for system, max_new in (("system1", 16), ("system2", 48)):
        part = [s for s in samples if s["system"] == system]
        texts = generate(model, tokenizer, [prompt_of(s) for s in part], max_new)
        if system == "system1":
            # Whether it knows, whatever the form.
            knows = [re.search(rf"\b{s['answer']}\b", text) is not None for s, text in zip(part, texts)]
            outs["knows"] = round(sum(knows) / len(knows), 3)
        kinds: dict[str, list[bool]] = {}
        for s, text in zip(part, texts):
            kinds.setdefault(s["kind"], []).append(right(s, text))
        every = [hit for hits in kinds.values() for hit in hits]
        outs[system] = round(sum(every) / len(every), 3)
        outs[f"{system}_kinds"] = {k: round(sum(h) / len(h), 2) for k, h in sorted(kinds.items())}
    return outs


def evaluate_base(model, tokenizer, each: int) -> dict:
    return evaluate(model, tokenizer, held_out(each))


def rewards_of(sample: dict, text: str) -> float:
    """math_answer (2) and soft_format (0.5)."""
    tagged = re.search(r"<reasoning>.*?</reasoning>\s*<answer>.*?</answer>", text, re.S) is not None
    return 2.0 * right(sample, text) + 0.5 * tagged


def answer_rows(tokenizer, samples: list[dict]) -> list[tuple[list[int], list[int]]]:
    rows = []
    for s in samples:
        prompt = tokenizer(render([{"role": "user", "content": s["question"]}], True))["input_ids"]
        answer = tokenizer(s["answer"] + "<|end|>")["input_ids"]
        rows.append((prompt + answer, [-100] * len(prompt) + answer))
    return rows


def pad(rows: list[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
    width = max(len(ids) for ids, _ in rows)
    return {
        "input_ids": torch.tensor([i + [0] * (width - len(i)) for i, _ in rows]),
        "labels": torch.tensor([l + [-100] * (width - len(l)) for _, l in rows]),
    }


def kept(importance: torch.Tensor, theta: float) -> torch.Tensor:
    """The shortest prefix of the descending importances whose sum reaches theta of the total."""
    values, order = importance.double().sort(descending=True, stable=True)
    count = int((values.cumsum(0) < theta * values.sum()).sum()) + 1
    mask = torch.zeros_like(importance, dtype=torch.bool)
    mask[order[:count]] = True
    return mask


def partition(model, parameters, tokenizer, train, theta: float, count: int = 100):
    """Active masks (system1, system2), flat over the LoRA elements; alpha = beta = 1."""
    masks = []
    phi = torch.cat([p.detach().flatten() for p in parameters])
    for system in ("system1", "system2"):
        first, second = torch.zeros_like(phi), torch.zeros_like(phi)
        samples = [s for s in train if s["system"] == system][:count]
        for row in answer_rows(tokenizer, samples):
            model.zero_grad()
            model(**pad([row])).loss.backward()
            product = torch.cat([p.grad.flatten() for p in parameters]) * phi
            first += product
            second += product * product
        masks.append(kept((first - second / 2).abs() / len(samples), theta))
    one, two = masks
    share = lambda m: round(m.float().mean().item(), 3)
    print(f"partition: {phi.numel()} elements, system1_only {share(one & ~two)}, system2_only {share(two & ~one)}, "
          f"shared {share(one & two)}, inactive {share(~(one | two))}, "
          f"jaccard {share(one & two) / share(one | two):.3f}", flush=True)
    return one, two


class MaskedAdamW:
    """AdamW that moves active elements only, with clipping, warm-up and a cosine."""

    def __init__(self, parameters, mask, lr, steps, warmup, clip, decay, betas):
        self.masks, at = [], 0
        for p in parameters:
            self.masks.append(mask[at:at + p.numel()].view_as(p).float())
            at += p.numel()
        self.parameters, self.clip = parameters, clip
        self.optimizer = torch.optim.AdamW(parameters, lr=lr, betas=betas, weight_decay=decay)
        ramp = max(1, round(warmup * steps))
        cosine = lambda i: 0.5 * (1 + torch.cos(torch.tensor((i - ramp) / max(1, steps - ramp) * 3.14159)).item())
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda i: (i + 1) / ramp if i < ramp else cosine(i))

    def step(self):
        before = [p.detach().clone() for p in self.parameters]
        for p, m in zip(self.parameters, self.masks):
            p.grad.mul_(m)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.clip) if self.clip else 0.0
        self.optimizer.step()
        with torch.no_grad():
            for p, m, old in zip(self.parameters, self.masks, before):
                p.copy_(torch.where(m > 0, p, old))
        self.optimizer.zero_grad()
        self.schedule.step()
        return float(norm)


def sft(model, parameters, mask, tokenizer, samples, a) -> None:
    rows = answer_rows(tokenizer, samples)
    rng = random.Random(a.seed)
    steps = [rows_part for _ in range(a.sft_epochs)
             for order in [rng.sample(rows, len(rows))]
             for rows_part in (order[i:i + a.sft_batch] for i in range(0, len(order), a.sft_batch))]
    optimizer = MaskedAdamW(parameters, mask, a.sft_lr, len(steps), 0.03, 1.0, 0.0, (0.9, 0.999))
    model.train()
    for i, part in enumerate(steps):
        loss = model(**pad(part)).loss
        loss.backward()
        norm = optimizer.step()
        if i % 5 == 0 or i + 1 == len(steps):
            print(f"sft {i + 1}/{len(steps)} loss {loss.item():.4f} grad_norm {norm:.3f}", flush=True)


def sample_group(model, tokenizer, samples, a):
    """Completions with their ids and rewards: `generations` for each sample, in a row."""
    model.eval()
    tokenizer.padding_side = "left"
    inputs = tokenizer([prompt_of(s) for s in samples], return_tensors="pt", padding=True)
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        ids = model.generate(**inputs, max_new_tokens=a.max_completion, do_sample=True, top_k=0, top_p=1.0,
                             temperature=a.temperature, num_return_sequences=a.generations)
    rows, texts, width = [], [], inputs["input_ids"].shape[1]
    for n, row in enumerate(ids):
        prompt = inputs["input_ids"][n // a.generations][inputs["attention_mask"][n // a.generations] == 1].tolist()
        new = row[width:].tolist()
        if 0 in new:
            new = new[:new.index(0) + 1]
        rows.append((prompt + new, [-100] * len(prompt) + new))
        texts.append(tokenizer.decode(new, skip_special_tokens=True))
    rewards = torch.tensor([rewards_of(samples[n // a.generations], t) for n, t in enumerate(texts)])
    return rows, texts, rewards


def grpo(model, parameters, mask, tokenizer, samples, a, check=None) -> None:
    rng = random.Random(a.seed + 1)
    optimizer = MaskedAdamW(parameters, mask, a.grpo_lr, a.grpo_steps, 0.1, a.grpo_clip, 0.1, (0.9, 0.99))
    queue: list[dict] = []
    for i in range(a.grpo_steps):
        while len(queue) < a.prompts:
            queue += rng.sample(samples, len(samples))
        part, queue = queue[:a.prompts], queue[a.prompts:]
        began = time.time()
        rows, texts, rewards = sample_group(model, tokenizer, part, a)
        groups = rewards.view(-1, a.generations)
        advantages = ((groups - groups.mean(1, True)) / (groups.std(1, keepdim=True) + 1e-4)).flatten()
        model.train()
        batch = pad(rows)
        logits = model(input_ids=batch["input_ids"]).logits[:, :-1] / a.temperature
        targets = batch["labels"][:, 1:]
        live = (targets != -100).float()
        logps = logits.log_softmax(-1).gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        ratio = torch.exp(logps - logps.detach())
        per_token = -ratio * advantages[:, None] * live
        loss = per_token.sum() / live.sum() if a.loss_type == "dapo" else (per_token.sum(1) / live.sum(1)).mean()
        loss.backward()
        norm = optimizer.step()
        exact = sum(right(part[n // a.generations], t) for n, t in enumerate(texts)) / len(texts)
        print(f"grpo {i + 1}/{a.grpo_steps} reward {rewards.mean():.3f} exact {exact:.3f} "
              f"zero_std {(groups.std(1) == 0).float().mean():.2f} length {live.sum(1).mean():.1f} "
              f"cut {sum(r[0][-1] != 0 for r in rows) / len(rows):.2f} grad_norm {norm:.3f} "
              f"{time.time() - began:.1f} s", flush=True)
        if check and (i + 1) % 10 == 0 and i + 1 < a.grpo_steps:
            print(check(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, value in dict(
        sft_lr=2e-3, sft_batch=16, sft_epochs=3, grpo_lr=1.5e-3, grpo_steps=32, grpo_clip=0.5, prompts=8,
        generations=8, max_completion=48, temperature=1.0, loss_type="dapo", theta=0.9, alpha=64.0,
        train=600, held=128, seed=0, mislabelled=0.0,
    ).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value)
    a = parser.parse_args()
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM
    torch.manual_seed(a.seed)
    tokenizer = load_tokenizer()
    model = LlamaForCausalLM.from_pretrained(MODELS / "tiny", dtype=torch.float32)
    samples = corpus("samples", a.seed, max(a.train, 2 * a.held))
    train = [s for s in samples if s["split"] == "train"][:a.train]
    held = [s for s in samples if s["split"] == "held_out"][:2 * a.held]
    print("base  ", evaluate(model, tokenizer, held), flush=True)
    model = get_peft_model(model, LoraConfig(
        r=8, lora_alpha=a.alpha, lora_dropout=0.0, task_type="CAUSAL_LM",
        target_modules=["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj"]))
    parameters = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():
        for p in parameters:
            p.normal_(0, 0.01)
    one, two = partition(model, parameters, tokenizer, train, a.theta)
    rng = random.Random(5)
    first = [s for s in train if (s["system"] == "system1") != (rng.random() < a.mislabelled)]
    rng = random.Random(5)
    second = [s for s in train if (s["system"] == "system2") != (rng.random() < a.mislabelled)]
    sft(model, parameters, one, tokenizer, first, a)
    print("phase1", evaluate(model, tokenizer, held), flush=True)
    _, texts, rewards = sample_group(model, tokenizer, [s for s in held if s["system"] == "system2"][:32], a)
    print(f"sampled after phase 1: reward {rewards.mean():.3f}, e.g. {texts[::37]}", flush=True)
    second = [dict(s, system="system2") for s in second]
    grpo(model, parameters, two, tokenizer, second, a, lambda: evaluate(model, tokenizer, held))
    print("phase2", evaluate(model, tokenizer, held), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
