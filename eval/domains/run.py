"""A taxonomy that training never saw: zero-shot, and with a few labels.

    cargo build --release
    python eval/domains/run.py > eval/domains/results.md

The taxonomy is that of eight domains in `data/taxonomy/vbinsight-domains-2023`; gold labels of the registry's products with
it lie in `gold`. Zero-shot, the default bundle's encoder ranks the domains by their own names, definitions and terms.
With labels, `medscenario train` fits a head to a sample of the development split, drawn so that every domain has N
texts where there are as many, three times with other seeds; figures on the test split are means over the three.
"""

import json
import random
import statistics
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "target/release/medscenario"
TAXONOMY = ROOT / "data/taxonomy/vbinsight-domains-2023"
GOLD = ROOT / "eval/domains/gold"
FIGURES = {
    "micro-F1": lambda found: found["micro"]["f1"]["value"],
    "macro-F1": lambda found: found["macro_average"]["f1"]["value"],
    "mean average precision": lambda found: found["mean_average_precision"]["value"],
    "recall at 3": lambda found: found["recall_at_3"]["value"],
    "status accuracy": lambda found: found["status_accuracy"]["value"],
}


def evaluate(lang, *flags):
    command = [PROGRAM, "eval", "-q", GOLD / f"test-{lang}.jsonl", "--taxonomy", TAXONOMY, "--format", "json", "--resamples", "1", *flags]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def sample(texts, per_domain, seed):
    """The shortest beginning of a random order in which every domain has its texts; a fifth more state no domain."""
    texts = list(texts)
    random.Random(seed).shuffle(texts)
    counts, chosen, empty = {}, [], 0
    for text in texts:
        if any(counts.get(domain, 0) < per_domain for domain in text["scenarios"]):
            chosen.append(text)
            for domain in text["scenarios"]:
                counts[domain] = counts.get(domain, 0) + 1
        elif not text["scenarios"] and 5 * empty < len(chosen):
            chosen.append(text)
            empty += 1
    return chosen


def main():
    development = []
    for lang in ("zh", "en"):
        development += [json.loads(line) for line in (GOLD / f"dev-{lang}.jsonl").read_text(encoding="utf-8").splitlines()]
    print("# A taxonomy that training never saw\n\nPrinted by `python eval/domains/run.py`, which says what is measured.\n")
    print(f"| labels | texts | language | {' | '.join(FIGURES)} |\n|{'---|' * (len(FIGURES) + 3)}")
    for lang in ("zh", "en"):
        found = evaluate(lang, "--zero-shot")
        print(f"| none (zero-shot) | 0 | {lang} | {' | '.join(f'{pick(found):.3f}' for pick in FIGURES.values())} |")
    for per_domain in (8, 16, 50):
        figures, sizes = {"zh": [], "en": []}, []
        for seed in (1, 2, 3):
            with tempfile.TemporaryDirectory() as directory:
                texts = sample(development, per_domain, seed)
                sizes.append(len(texts))
                labels, bundle = Path(directory) / "labels.jsonl", Path(directory) / "bundle"
                labels.write_text("".join(json.dumps(text, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8")
                command = [PROGRAM, "train", "-q", labels, "--taxonomy", TAXONOMY, "--encoder", ROOT / "models/default"]
                command += ["--freeze-encoder", "--epochs", "30", "--folds", "5", "--seed", str(seed), "--output", bundle]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                for lang, found in figures.items():
                    found.append(evaluate(lang, "--model", bundle))
        for lang, found in figures.items():
            means = " | ".join(f"{statistics.mean(map(pick, found)):.3f}" for pick in FIGURES.values())
            print(f"| {per_domain} a domain | {round(statistics.mean(sizes))} | {lang} | {means} |")


if __name__ == "__main__":
    main()
