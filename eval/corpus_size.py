"""The default recipe on a first, small corpus and on the whole one.

    cargo build --release
    python eval/corpus_size.py

The first corpus is the shortest beginning of the corpus, in the order of its files and taking only what is needed, that has 20
texts of every scenario and its share of texts without one. Both heads stand on the default bundle's encoder, whose domain
stage has seen the texts of the whole corpus.
"""

import collections
import json
import subprocess
import tempfile
from pathlib import Path

from results import PROGRAM, ROOT, cell, evaluate

PER_SCENARIO = 20


def first_corpus():
    texts = []
    for path in sorted((ROOT / "data/training").glob("*.jsonl")):
        texts += [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    count, chosen, empty = collections.Counter(), [], 0
    for text in texts:
        wanted = any(count[scenario] < PER_SCENARIO for scenario in text["scenarios"])
        if wanted or not text["scenarios"] and empty * 8 < len(chosen):
            chosen.append(text)
            count.update(text["scenarios"])
            empty += not text["scenarios"]
    return chosen


def main():
    with tempfile.TemporaryDirectory() as directory:
        small, bundle = Path(directory) / "first.jsonl", Path(directory) / "bundle"
        texts = first_corpus()
        small.write_text("".join(json.dumps(text, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8")
        gold = [ROOT / "eval/gold" / f"dev-{lang}.jsonl" for lang in ("zh", "en")]
        command = [PROGRAM, "train", "-q", small, "--encoder", ROOT / "models/default", "--freeze-encoder", "--epochs", "10"]
        command += ["--head-rate", "2e-3", "--folds", "4", "--output", bundle, "--calibrate", *gold]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print("| corpus | texts | language | micro-F1 | macro-F1 | categories, micro-F1 |\n|---|---|---|---|---|---|")
        manifest = json.loads((ROOT / "models/default/manifest.json").read_text(encoding="utf-8"))
        for name, size, flags in (("first", len(texts), ["--model", bundle]), ("whole", manifest["training"]["n_texts"], [])):
            for lang in ("zh", "en"):
                found = evaluate(f"test-{lang}.jsonl", *flags)
                figures = [found["micro"]["f1"], found["macro_average"]["f1"], found["category_micro"]["f1"]]
                print(f"| {name} | {size} | {lang} | {' | '.join(map(cell, figures))} |")


if __name__ == "__main__":
    main()
