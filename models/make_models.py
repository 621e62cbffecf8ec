"""Makes the embedded models: models/tiny and the three teachers, from text that demo/corpus.ts writes.

What it does, in order (any of them alone by name):
  tokenizer   a byte-level BPE of 768 entries, digits one by one, any UTF-8 input covered by single bytes
  tiny        LlamaForCausalLM, 1.3 M parameters, trained from scratch on `corpus.ts pretrain`
  teachers    three smaller ones, differently seeded and taught, trained on `corpus.ts classification`

Training: Muon for the matrices inside the blocks, AdamW for the embedding and the norms, bf16 autocast on
one CPU thread, trapezoid learning rate. Documents are packed into rows but see only themselves.
Not here: checking that the demo's phases lift the model, see simulate_phases.py.

  python models/make_models.py [tokenizer] [tiny] [teachers]      needs torch, transformers, tokenizers, deno
"""

import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

MODELS = Path(__file__).resolve().parent
ROOT = MODELS.parent
VOCABULARY = 768
MARKERS = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
TAGS = ["<reasoning>", "</reasoning>", "<answer>", "</answer>"]
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] -%}"
    "{{- raise_exception('Unknown role: ' + message['role']) -}}"
    "{%- endif -%}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)

TINY = dict(hidden_size=128, intermediate_size=384, num_hidden_layers=6, num_attention_heads=4,
            num_key_value_heads=2, head_dim=32)
TINY_TOKENS = 4_200_000
# Differently seeded, and each of another opinion than the truth about one kind of question, as people are about
# where quick ends: so each errs on its own, and the vote is better than any of them.
TEACHERS = {
    "teacher_a": dict(seed=11, examples=8000, mistaught="more"),
    "teacher_b": dict(seed=12, examples=8000, mistaught="times"),
    "teacher_c": dict(seed=13, examples=8000, mistaught="share"),
}
TEACHER = dict(hidden_size=64, intermediate_size=192, num_hidden_layers=3, num_attention_heads=2,
               num_key_value_heads=1, head_dim=32)


def corpus(what: str, seed: int, count: int) -> list[dict]:
    """Records of the generator: it is the only place that knows the world."""
    command = ["deno", "run", str(ROOT / "demo" / "corpus.ts"), what, "--seed", str(seed), "--count", str(count)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


def render(messages: list[dict], generate: bool = False) -> str:
    """The chat template, in Python."""
    text = "".join(f"<|{m['role']}|>{m['content']}<|end|>" for m in messages)
    return text + ("<|assistant|>" if generate else "")


def document_text(document: dict) -> str:
    return document["text"] + "<|end|>" if "text" in document else render(document["messages"])


def make_tokenizer() -> None:
    """Trains the BPE and writes tokenizer.json and tokenizer_config.json to every model's folder."""
    texts = [document_text(d) for d in corpus("pretrain", 1, 40_000)]
    texts += [e["prompt"] for e in corpus("classification", 1, 4_000)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(" ?[0-9]"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    # Cut at markers and tags, which must not leave pieces of themselves among the merges.
    texts = [piece for text in texts for piece in re.split("|".join(map(re.escape, MARKERS + TAGS)), text)]
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(TAGS), special_tokens=MARKERS, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    ))
    # Tags are single tokens but ordinary text: they are shown when special tokens are skipped.
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in TAGS])
    assert tokenizer.get_vocab_size() == VOCABULARY, tokenizer.get_vocab_size()
    for name in ["tiny", *TEACHERS]:
        folder = MODELS / name
        folder.mkdir(exist_ok=True)
        tokenizer.save(str(folder / "tokenizer.json"))
        settings = dict(
            tokenizer_class="PreTrainedTokenizerFast", bos_token=None, eos_token="<|end|>",
            pad_token="<|end|>", unk_token=None, add_bos_token=False, add_eos_token=False,
            clean_up_tokenization_spaces=False, model_max_length=512, chat_template=CHAT_TEMPLATE,
        )
        (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def load_tokenizer(name: str = "tiny") -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(MODELS / name)


def new_model(sizes: dict, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY, max_position_embeddings=512, rms_norm_eps=1e-5, rope_theta=10_000.0,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=0, pad_token_id=0, **sizes,
    )
    return LlamaForCausalLM(config)


def packed(rows: list[tuple[list[int], list[int]]], width: int, rng: random.Random):
    """
    Rows of `width` tokens out of documents (ids, labels), each put where least room is left over.
    Gives (ids, labels, positions, segments) per row; a document sees itself only and starts at position 0.
    """
    assert max(len(ids) for ids, _ in rows) <= width
    done, open_rows = [], []
    for ids, labels in rng.sample(rows, len(rows)):
        fits = [row for row in open_rows if len(row[0]) + len(ids) <= width]
        if not fits:
            if len(open_rows) >= 16:
                open_rows.sort(key=lambda row: len(row[0]))
                done.append(open_rows.pop())
            fits = [([], [], [], [])]
            open_rows += fits
        row = max(fits, key=lambda row: len(row[0]))
        row[3].extend([row[3][-1] + 1 if row[3] else 0] * len(ids))
        row[0].extend(ids)
        row[1].extend([-100] + labels[1:])
        row[2].extend(range(len(ids)))
    done += open_rows
    rng.shuffle(done)
    for ids, labels, positions, segments in done:
        gap = width - len(ids)
        yield ids + [0] * gap, labels + [-100] * gap, positions + [0] * gap, segments + [-1] * gap


def batches(rows, width: int, batch_tokens: int, rng: random.Random):
    """Tensors (ids, labels, positions, mask (B, 1, width, width)) of about `batch_tokens` tokens."""
    every = list(packed(rows, width, rng))
    size = max(1, batch_tokens // width)
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    for at in range(0, len(every) - size + 1, size):
        ids, labels, positions, segments = (torch.tensor(part) for part in zip(*every[at:at + size]))
        mask = causal & (segments[:, None, :, None] == segments[:, None, None, :])
        yield ids, labels, positions, mask


def train(model, rows, *, seed: int, width: int, batch_tokens: int, lr: float, report=None) -> None:
    """One pass over the rows."""
    steps = list(batches(rows, width, batch_tokens, random.Random(seed)))
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim < 2 or "embed" in n]
    optimizers = [
        torch.optim.Muon(matrices, lr=lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    # Up over 2 %, flat, down over the last 60 %.
    shape = lambda i: min(1.0, (i + 1) / (0.02 * len(steps)), (len(steps) - i) / (0.6 * len(steps)))
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, shape) for o in optimizers]
    began, seen, mean = time.time(), 0, None
    model.train()
    for i, (ids, labels, positions, mask) in enumerate(steps):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(
                input_ids=ids, labels=labels, position_ids=positions, attention_mask=mask, use_cache=False,
            ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        for schedule in schedules:
            schedule.step()
        seen += ids.numel()
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if (i + 1) % 250 == 0 or i + 1 == len(steps):
            rate = seen / (time.time() - began)
            print(f"step {i + 1}/{len(steps)} loss {mean:.4f} {rate:.0f} tokens/s", flush=True)
        if report and (i + 1) % 2000 == 0:
            report(model)
            model.train()


def save(model: LlamaForCausalLM, name: str) -> None:
    """Weights as bf16, config and generation config; the tokenizer is there already."""
    folder = MODELS / name
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    config = json.loads((folder / "config.json").read_text())
    config["rope_theta"] = 10_000.0  # where readers older than Transformers 5 look for it
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    size = (folder / "model.safetensors").stat().st_size
    print(f"{name}: {model.num_parameters()} parameters, {size} bytes", flush=True)


@torch.no_grad()
def generate(model, tokenizer, prompts: list[str], max_new: int, batch: int = 256) -> list[str]:
    """Greedy completions."""
    model.eval()
    tokenizer.padding_side = "left"
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    out = [""] * len(prompts)
    for at in range(0, len(order), batch):
        part = order[at:at + batch]
        inputs = tokenizer([prompts[i] for i in part], return_tensors="pt", padding=True)
        inputs.pop("token_type_ids", None)
        ids = model.generate(**inputs, max_new_tokens=max_new, do_sample=False)
        texts = tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
        for i, text in zip(part, texts):
            out[i] = text
    return out


def make_tiny() -> None:
    tokenizer = load_tokenizer()
    rows, total, seed = [], 0, 100
    while total < TINY_TOKENS:
        texts = [document_text(d) for d in corpus("pretrain", seed, 10_000)]
        for ids in tokenizer(texts, return_token_type_ids=False)["input_ids"]:
            rows.append((ids, ids))
            total += len(ids)
        seed += 1
    print(f"{len(rows)} documents, {total} tokens", flush=True)
    from simulate_phases import evaluate_base
    model = new_model(TINY, 7)
    train(model, rows, seed=7, width=96, batch_tokens=1024, lr=6e-3,
          report=lambda m: print(evaluate_base(m, tokenizer, 100), flush=True))
    save(model, "tiny")


def make_teachers() -> None:
    held = [s for s in corpus("samples", 5, 1000) if s["split"] == "train"]
    votes = {}
    for name, school in TEACHERS.items():
        tokenizer = load_tokenizer(name)
        rows = []
        for e in corpus("classification", school["seed"], school["examples"]):
            prompt = tokenizer(render([{"role": "user", "content": e["prompt"]}], True))["input_ids"]
            word = e["completion"]
            if e["sample"]["kind"] == school["mistaught"]:
                word = "System1" if word == "System2" else "System2"
            reply = tokenizer(word + "<|end|>")["input_ids"]
            rows.append((prompt + reply, [-100] * len(prompt) + reply))
        model = new_model(TEACHER, school["seed"])
        train(model, rows, seed=school["seed"], width=144, batch_tokens=4096, lr=3e-3)
        save(model, name)
        votes[name] = classify(model, tokenizer, held)
    report_votes(held, votes)


def classify(model, tokenizer, samples: list[dict]) -> list[str]:
    """The teacher's replies, on the prompt of the server."""
    from simulate_phases import classification_prompt
    prompts = [render([{"role": "user", "content": classification_prompt(s)}], True) for s in samples]
    return generate(model, tokenizer, prompts, 4, 64)


def report_votes(samples: list[dict], votes: dict[str, list[str]]) -> None:
    truth = [s["system"].capitalize() for s in samples]
    for name, replies in votes.items():
        right = sum(r == t for r, t in zip(replies, truth))
        wrong: dict[str, int] = {}
        for s, r, t in zip(samples, replies, truth):
            if r != t:
                wrong[s["kind"]] = wrong.get(s["kind"], 0) + 1
        print(f"{name}: {right}/{len(truth)} right; wrong by kind: {wrong}", flush=True)
    majority = [max(set(v), key=v.count) for v in zip(*votes.values())]
    print(f"vote: {sum(m == t for m, t in zip(majority, truth))}/{len(truth)} right", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.path.insert(0, str(MODELS))
    wanted = sys.argv[1:] or ["tokenizer", "tiny", "teachers"]
    for part in wanted:
        {"tokenizer": make_tokenizer, "tiny": make_tiny, "teachers": make_teachers}[part]()
