"""Figures of the default bundle and of the baseline, as one Markdown table.

    cargo build --release
    pip install scikit-learn
    python eval/baselines/tfidf.py target/tfidf.jsonl
    python eval/results.py target/tfidf.jsonl > eval/results.md

Each line is one run of `medscenario eval`, which prints the full tables.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "target/release/medscenario"
FIGURES = [
    ("micro-F1", lambda e: e["micro"]["f1"]),
    ("macro-F1", lambda e: e["macro_average"]["f1"]),
    ("categories, micro-F1", lambda e: e["category_micro"]["f1"]),
    ("hierarchical F1", lambda e: e["hierarchical"]["f1"]),
    ("mean average precision", lambda e: e["mean_average_precision"]),
    ("recall at 3", lambda e: e["recall_at_3"]),
    ("status accuracy", lambda e: e["status_accuracy"]),
    ("calibration error", lambda e: e["calibration_error"]),
]


def evaluate(labels, *flags):
    command = [PROGRAM, "eval", "-q", "--format", "json", ROOT / "eval/gold" / labels, *flags]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def cell(measure):
    if measure["value"] is None:
        return "-"
    return f"{measure['value']:.3f} [{measure['low']:.3f}, {measure['high']:.3f}]"


def main():
    models = [("default bundle", [])]
    if len(sys.argv) > 1:
        models.append(("tf-idf + logistic regression", ["--predictions", sys.argv[1]]))
    print("# Results\n\nPrinted by `python eval/results.py target/tfidf.jsonl`; what the figures mean stands in `src/evaluation.rs`.")
    for split in ("test", "dev"):
        title = "Test split" if split == "test" else "Development split (calibration and thresholds were fitted to it)"
        print(f"\n## {title}\n\n| model | language | texts | mentions | {' | '.join(name for name, _ in FIGURES)} |")
        print("|---" * (len(FIGURES) + 4) + "|")
        for name, flags in models:
            if split == "dev" and flags:
                continue
            for lang in ("zh", "en"):
                found = evaluate(f"{split}-{lang}.jsonl", *flags)
                cells = " | ".join(cell(pick(found)) for _, pick in FIGURES)
                print(f"| {name} | {lang} | {found['n_documents']} | {found['n_gold']} | {cells} |")


if __name__ == "__main__":
    main()
