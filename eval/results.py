"""Figures of the default bundle, as Markdown.

    cargo build --release
    python eval/results.py target/held-out.jsonl > eval/results.md

Each line is one run of `medscenario eval`, which prints the full tables. `held-out.jsonl` is what `medscenario train
--predictions` wrote, for the development split and the real products that calibration learned from, each text judged by a
model that did not learn from it.
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
    ("evidence, token F1", lambda e: e["evidence_f1"]),
]


SPLITS = [
    ("Test split", "eval/gold/test-{lang}.jsonl"),
    ("Development split, each text by a model that did not learn from it", "eval/gold/dev-{lang}.jsonl"),
    ("Real products kept out of the encoder's fine-tuning, each text by a model that did not learn from it", "data/training/products/calibration.jsonl"),
]


def evaluate(labels, lang, *flags):
    command = [PROGRAM, "eval", "-q", "--format", "json", ROOT / labels.format(lang=lang), "--only", lang, *flags]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def cell(measure):
    if measure["value"] is None:
        return "-"
    return f"{measure['value']:.3f} [{measure['low']:.3f}, {measure['high']:.3f}]"


def main():
    print("# Results\n\nPrinted by `python eval/results.py target/held-out.jsonl`; what the figures mean stands in `src/evaluation.rs`.")
    curves = []
    for title, labels in SPLITS:
        print(f"\n## {title}\n\n| language | texts | mentions | {' | '.join(name for name, _ in FIGURES)} |")
        print("|---" * (len(FIGURES) + 3) + "|")
        for lang in ("zh", "en"):
            seen_by_none = labels.startswith("eval/gold/test")
            found = evaluate(labels, lang, *([] if seen_by_none else ["--predictions", sys.argv[1]]))
            cells = " | ".join(cell(pick(found)) for _, pick in FIGURES)
            print(f"| {lang} | {found['n_documents']} | {found['n_gold']} | {cells} |")
            if seen_by_none:
                curves.append((lang, found))
    print("\n## Accepted without review, test split\n\n| language | accepted | lowest confidence | precision | recall | entirely right |\n|---|---|---|---|---|---|")
    number = lambda value: "-" if value is None else f"{value:.3f}"
    for lang, found in curves:
        for flag, point in [(True, found["accepted"]), *((False, point) for point in found["acceptance"])]:
            if point is not None:
                name = f"{point['accepted']:.0%}" + (" (`review` is false)" if flag else "")
                figures = [point["confidence"], point["precision"], point["recall"], point["entirely_right"]]
                print(f"| {lang} | {name} | {' | '.join(map(number, figures))} |")


if __name__ == "__main__":
    main()
