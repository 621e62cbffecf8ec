"""Writes cases.json: small tokenizers, one for each step and setting, with the ids and texts that Hugging
Face's `tokenizers` makes of texts full of spaces, digits, marks and special tokens. Needs tokenizers 0.23.3; run as
`python make_cases.py > cases.json`.

The file is {models, cases}; a case is {name, tokenizer, texts: [[text, ids with special tokens], …], decoded: [[ids,
text], …]}, where the tokenizer's model may be the name of one in models. A tokenizer that the library refuses has the
texts null.
"""

import json
import random
import sys

from tokenizers import Tokenizer

random.seed(7)

# Characters whose classes differ between Rust, Oniguruma and JavaScript among them.
atoms = [
    "a", "b", "ab", "the", " the", "Hello", "HELLO", "'s", "'S", "don't", "x", "y1", "12", "345", "\u0663\u0664", "\u00b2\u00bd", "\u2167",
    " ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", "\u00a0", "\u3000", "\u0085", "\ufeff", "\u200b", "\u2028", "_", "__", "\u203f", "-", "--", "...",
    "!?", "$", "+", "<", ">", "^`~|", "\u00e9", "e\u0301", "\u0301", "\u00c5", "\ufb01", "\u00df", "\u0130", "\u03a3", "\u03a3\u03a3 ", "\u01c5",
    "\u4f60\u597d", "\u3053", "\ud55c\uad6d", "\u0e2a\u0e27", "\u0928\u092e\u0938\u094d\u0924\u0947", "\U0001f600", "\U0001f468\u200d\U0001f469", "\U00020000", "\u2581", "\u2581a", "\u200d",
    "<s>", "</s>", "<pad>", "[X]", " [X] ", "[XY]", "Added", "added", " Added ", "A1", "W", "WW", " W ", "W-W", "e\u0301W", "<0x41>", "<0xC3>", "\u0000", "\u007f",
]


def text():
    return "".join(random.choices(atoms, k=random.randint(0, 9)))


texts = ["", " ", "a", "ab ab", "Hello the 12 345!"] + [text() for _ in range(40)]

byte_chars = []
n = 256
for b in range(256):
    if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174:
        byte_chars.append(chr(b))
    else:
        byte_chars.append(chr(n))
        n += 1


def model(tokens, merges, **extra):
    vocab = {}
    for t in tokens + [l + r for l, r in merges]:
        vocab.setdefault(t, len(vocab))
    return {"type": "BPE", "vocab": vocab, "merges": [list(m) for m in merges], "dropout": None, "unk_token": None,
            "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": False, **extra}


byte_merges = [("h", "e"), ("\u0120", "t"), ("\u0120t", "he"), ("l", "l"), ("H", "e"), ("He", "ll"), ("a", "b"), ("\u0120", "\u0120"),
               ("1", "2"), ("\u010a", "\u010a"), ("!", "?"), ("\u00d9", "\u00a3"), ("\u00bf", "!"), (".", "."), ("..", "."), ("-", "-"),
               ("'", "s"), ("\u0120", "a"), ("\u0120", "1"), ("\u0120", "!"), ("a", "\u0120"), ("b", "\u0120"), ("3", "4"), ("34", "5")]
bytes_model = model(byte_chars, byte_merges)
chars = sorted({c for a in atoms for c in a} | {"\u2581", "i", "\u0307", "\u00e5", "s", "f", "\u03c3", "\u01c6", "E", "S", "A"})
char_merges = [("a", "b"), ("\u2581", "a"), ("\u2581a", "b"), ("\u2581", "\u2581"), ("a", "\u2581"), ("\u2581", "t"), ("h", "e"), ("\u2581t", "he"),
               ("1", "2"), ("!", "?"), ("b", "\u2581"), (" ", "a"), ("a", " "), (" ", " "), ("\n", "\n"), ("-", "-"), ("l", "l"), ("W", "W")]
char_model = model(["<unk>"] + chars, char_merges, unk_token="<unk>")
few = ["a", "b", "x", "\u2581", "t", "h", "e", "1", "2", "\n", "!"]
few_merges = [("a", "b"), ("\u2581", "a"), ("h", "e"), ("1", "2"), ("\u2581", "\u2581")]
fallback = ["<0x%02X>" % b for b in range(256)]
spm_model = model(["<unk>"] + fallback + few, few_merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)


def added(content, **extra):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True, **extra}


specials = [added("<s>"), added("</s>"), added("<pad>")]


def tokenizer(base, added_tokens=specials, **parts):
    vocab = base["vocab"]
    listed = []
    next_id = len(vocab)
    for t in added_tokens:
        t = dict(t)
        if t["content"] in vocab:
            t["id"] = vocab[t["content"]]
        else:
            t["id"] = next_id
            next_id += 1
        listed.append(t)
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": listed, "normalizer": None,
            "pre_tokenizer": None, "post_processor": None, "decoder": None, "model": base, **parts}


level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
bare_level = {**level, "use_regex": False}
level_decoder = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
space_decoder = {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def split(pattern, behavior, invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


llama3 = ("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")
gpt4o = ("[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?"
         "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")
cases = {
    "byte level": tokenizer(bytes_model, pre_tokenizer=level, decoder=level_decoder),
    "byte level, prefix": tokenizer(bytes_model, pre_tokenizer={**level, "add_prefix_space": True}, decoder=level_decoder),
    "byte level, no regex": tokenizer(bytes_model, pre_tokenizer=bare_level, decoder=level_decoder),
    "byte level, ignore merges": tokenizer({**bytes_model, "ignore_merges": True}, pre_tokenizer=level, decoder=level_decoder),
    "llama 3": tokenizer(bytes_model, pre_tokenizer=sequence(split({"Regex": llama3}, "Isolated"), bare_level), decoder=level_decoder,
                         post_processor={"type": "Sequence", "processors": [
                             {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
                             {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                              "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                              "special_tokens": {"<s>": {"id": "<s>", "ids": [len(bytes_model["vocab"])], "tokens": ["<s>"]}}}]}),
    "qwen 2": tokenizer(bytes_model, normalizer={"type": "NFC"}, pre_tokenizer=sequence(split({"Regex": llama3.replace("{1,3}", "")}, "Isolated"), bare_level), decoder=level_decoder),
    "gpt 4o": tokenizer(bytes_model, pre_tokenizer=sequence(split({"Regex": gpt4o}, "Removed", True), bare_level), decoder=level_decoder),
    "digits, byte level": tokenizer(bytes_model, pre_tokenizer=sequence({"type": "Digits", "individual_digits": True}, level), decoder=level_decoder),
    "llama 2": tokenizer(spm_model, normalizer={"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
                         decoder=space_decoder, post_processor={"type": "TemplateProcessing",
                         "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
                         "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                         "special_tokens": {"<s>": {"id": "<s>", "ids": [len(spm_model["vocab"])], "tokens": ["<s>"]}, "</s>": {"id": "</s>", "ids": [len(spm_model["vocab"]) + 1], "tokens": ["</s>"]}}}),
    "bert processing": tokenizer(char_model, post_processor={"type": "BertProcessing", "sep": ["</s>", len(char_model["vocab"]) + 1], "cls": ["<s>", len(char_model["vocab"])]}),
    "no unknown token": tokenizer(model(few, few_merges)),
    "unknown token": tokenizer(model(["<unk>"] + few, few_merges, unk_token="<unk>")),
    "unknown token, fused": tokenizer(model(["<unk>"] + few, few_merges, unk_token="<unk>", fuse_unk=True), pre_tokenizer={"type": "WhitespaceSplit"}),
    "byte fallback without some bytes": tokenizer(model(["<unk>"] + fallback[:200] + few, few_merges, unk_token="<unk>", byte_fallback=True)),
    "prefix inside words": tokenizer(model(few, few_merges, continuing_subword_prefix="##")),
    "suffix of words": tokenizer(model(few, few_merges, end_of_word_suffix="</w>")),
    "old merges": tokenizer({**bytes_model, "merges": [" ".join(m) for m in byte_merges]}, pre_tokenizer=level, decoder=level_decoder),
    "unknown token that is none": tokenizer({**bytes_model, "unk_token": "<none>"}, pre_tokenizer=level, decoder=level_decoder),
    "merge out of vocabulary": tokenizer({**bytes_model, "merges": [["a", "q"]]}),
    "wordpiece": tokenizer({"type": "WordPiece", "vocab": {"[UNK]": 0, "a": 1, "##b": 2}, "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}),
    "wordlevel": tokenizer({"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1}, "unk_token": "[UNK]"}),
    "unigram": tokenizer({"type": "Unigram", "vocab": [["<unk>", 0.0], ["a", -1.0], ["b", -2.0], ["ab", -2.5]], "unk_id": 0, "byte_fallback": False}),
}
for normalized in [True, False]:
    for name, extra in [("plain", {}), ("single word", {"single_word": True}), ("lstrip", {"lstrip": True}), ("rstrip", {"rstrip": True}),
                        ("all", {"single_word": True, "lstrip": True, "rstrip": True})]:
        tokens = specials + [added(t, special=False, normalized=normalized, **extra) for t in ["[X]", "[XY]", "W", "Added", "\u4f60", "A1"]]
        cases[f"added tokens, {name}, {'' if normalized else 'not '}normalized"] = tokenizer(
            char_model, tokens, normalizer={"type": "Sequence", "normalizers": [{"type": "Lowercase"}, {"type": "NFD"}]}, pre_tokenizer={"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": True},
            decoder={"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": True})
cases["added tokens of both kinds"] = tokenizer(char_model, [added("ab"), added("xab", normalized=True), added("the", normalized=True), added("he")])
cases["added tokens of both kinds, special"] = tokenizer(char_model, [added("W", rstrip=True), added(" W", normalized=True, lstrip=True, special=False)])

normalizers = [{"type": t} for t in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "ByteLevel"]]
normalizers += [{"type": "Strip", "strip_left": l, "strip_right": r} for l in (True, False) for r in (True, False)]
normalizers += [{"type": "Prepend", "prepend": "\u2581a"}, {"type": "Prepend", "prepend": ""}]
normalizers += [{"type": "Replace", "pattern": p, "content": c} for p in
                [{"String": "a"}, {"String": " "}, {"String": ""}, {"String": "."}, {"Regex": "\\s+"}, {"Regex": "[a-c]|\\d"}, {"Regex": "\\bt"}, {"Regex": "^."}, {"Regex": "x?"}, {"Regex": "\\w+$"}]
                for c in ["", "b", "$&$1\\1"]]
normalizers += [{"type": "Sequence", "normalizers": [{"type": "Strip", "strip_left": True, "strip_right": True}, {"type": "Prepend", "prepend": "b"}]},
                {"type": "Sequence", "normalizers": []},
                {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}]
for step in normalizers:
    cases[f"normalizer {json.dumps(step, ensure_ascii=False)}"] = tokenizer(char_model, normalizer=step)

pre_tokenizers = [split(p, b, i) for p in
                  [{"String": " "}, {"String": "ab"}, {"Regex": "\\s+"}, {"Regex": "\\d"}, {"Regex": "[^\\s\\p{L}\\p{N}]+"}, {"Regex": "\\w|(?=\\n)"}, {"Regex": "\\b"}, {"String": ""}]
                  for b in ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"] for i in (False, True)]
pre_tokenizers += [{"type": "Punctuation", "behavior": b} for b in ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]]
pre_tokenizers += [{"type": "Digits", "individual_digits": d} for d in (True, False)]
pre_tokenizers += [{"type": "Metaspace", "replacement": r, "prepend_scheme": p, "split": s} for r in ("\u2581", "_") for p in ("always", "first", "never") for s in (True, False)]
pre_tokenizers += [sequence(split({"String": "a"}, "Isolated"), {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}),
                   sequence({"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": True})]
pre_tokenizers += [{"type": t} for t in ["Whitespace", "WhitespaceSplit", "BertPreTokenizer", "UnicodeScripts"]]
pre_tokenizers += [{"type": "CharDelimiterSplit", "delimiter": d} for d in ("a", " ", ".")] + [{"type": "FixedLength", "length": 3}]
for step in pre_tokenizers:
    cases[f"pre_tokenizer {json.dumps(step, ensure_ascii=False)}"] = tokenizer(char_model, pre_tokenizer=step)

decoders = [{"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": p, "split": True} for p in ("always", "first", "never")]
decoders += [{"type": "ByteFallback"}, {"type": "Fuse"}, space_decoder, {"type": "BPEDecoder", "suffix": "b"}, level_decoder]
decoders += [{"type": "Strip", "content": "\u2581", "start": a, "stop": b} for a, b in ((0, 0), (2, 0), (0, 1))]
decoders += [{"type": "Replace", "pattern": p, "content": c} for p in [{"String": "\u2581"}, {"Regex": "[ab]"}, {"String": "."}] for c in ["", "$&"]]
decoders += [{"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always"}]},
             {"type": "WordPiece", "prefix": "##", "cleanup": True}, {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True}]
for step in decoders:
    cases[f"decoder {json.dumps(step, ensure_ascii=False)}"] = tokenizer(spm_model, decoder=step)

pre_tokenizers_of_old = [{"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": p} for p in (True, False)]
for step in pre_tokenizers_of_old:
    cases[f"pre_tokenizer {json.dumps(step, ensure_ascii=False)}"] = tokenizer(char_model, pre_tokenizer=step)
    cases[f"decoder {json.dumps(step, ensure_ascii=False)}"] = tokenizer(spm_model, decoder=step)
damaged = {
    "pre_tokenizer": [{"type": "Nothing"}, {}, [], "Split", 1, True, {"type": "Sequence"}, {"type": "Sequence", "pretokenizers": [{}]}, {"type": "Sequence", "pretokenizers": [None]},
                      {"type": "Split", "pattern": {"String": "a"}, "behavior": "isolated", "invert": False}, {"type": "Split", "pattern": "a", "behavior": "Isolated", "invert": False},
                      {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}, {"type": "Split", "behavior": "Isolated", "invert": False},
                      {"type": "Split", "pattern": {"String": "a"}, "behavior": "Isolated", "invert": "no"}, {"type": "Digits", "individual_digits": 1}, {"type": "Digits"},
                      {"type": "ByteLevel"}, {"type": "ByteLevel", "add_prefix_space": "yes", "trim_offsets": True, "use_regex": True}, {"type": "Punctuation", "behavior": 3},
                      {"type": "Metaspace", "replacement": "ab", "prepend_scheme": "always"}, {"type": "Metaspace", "replacement": "_", "prepend_scheme": "last"}, {"type": "CharDelimiterSplit"}],
    "normalizer": [{"type": "Nothing"}, 1, {"type": "Strip"}, {"type": "Strip", "strip_left": 1, "strip_right": True}, {"type": "Replace", "pattern": {"String": "a"}}, {"type": "Prepend"},
                   {"type": "Replace", "pattern": {"Regex": "["}, "content": ""}, {"type": "Sequence", "normalizers": {}}],
    "decoder": [{"type": "Nothing"}, "Fuse", {"type": "Replace", "pattern": {"String": 1}, "content": ""}, {"type": "Strip", "content": "ab", "start": 1, "stop": 0},
                {"type": "Strip", "content": "a", "start": -1, "stop": 0}, {"type": "Sequence", "decoders": None}],
    "post_processor": [{"type": "Nothing"}, {"type": "TemplateProcessing", "single": [], "pair": []}, {"type": "BertProcessing", "sep": ["</s>"], "cls": ["<s>", 0]},
                       {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<none>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {}}],
}
for part, steps in damaged.items():
    for step in steps:
        cases[f"damaged {part} {json.dumps(step, ensure_ascii=False)}"] = tokenizer(char_model, **{part: step})

models = {"bytes": bytes_model, "characters": char_model, "fallback": spm_model}


def named(made):
    for name, base in models.items():
        if made["model"] is base:
            return {**made, "model": name}
    return made


out = []
for name, made in cases.items():
    try:
        library = Tokenizer.from_str(json.dumps(made))
    except BaseException:
        out.append({"name": name, "tokenizer": named(made), "texts": None, "decoded": None})
        continue
    size = library.get_vocab_size()
    ids = [[random.randrange(size) for _ in range(random.randint(1, 9))] for _ in range(25)]
    ids += [[library.token_to_id(t) for t in run] for run in
            (["<0xEF>", "<0xBB>", "<0xBF>", "a"], ["<0xE4>", "<0xBD>", "<0xA0>"], ["\u2581", "\u2581", "a", "\u2581"], ["<s>", "a", "</s>"])
            if all(library.token_to_id(t) is not None for t in run)]
    encoded = []
    # The texts differ from case to case, a few are always there.
    for t in texts[:5] + random.sample(texts[5:], 10):
        try:
            encoded.append([t, library.encode(t).ids])
        except BaseException:
            pass
    decoded = []
    for run in ids[:8] + ids[25:]:
        shown = library.decode(run, skip_special_tokens=False)
        # Bytes that are no UTF-8 are shown otherwise; see lib/model/tokenizer_steps/decoders.ts.
        if "\ufffd" not in shown:
            decoded.append([run, shown])
    out.append({"name": name, "tokenizer": named(made), "texts": encoded, "decoded": decoded})
lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in out)
sys.stdout.write('{"models":' + json.dumps(models, separators=(",", ":")) + ',\n"cases":[\n' + lines + "\n]}\n")
