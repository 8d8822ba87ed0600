"""The registry through the whole pipeline, beside the published survey of 288 models.

    cargo build --release
    python eval/reproduction.py > eval/reproduction.md

Twice: all products, and those released in the survey's window, to 1 May 2025. Each time as the default bundle codes the
descriptions, and as the adjudicated codes of two coders have them, which shows how much of a difference is the
classifier's.
"""

import csv
import json
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "target/release/medscenario"
REGISTRY = ROOT / "data/products/products.csv"
LAST_MONTH = "2025-04"


def in_window(released):
    """A year alone is in the window when the whole year is; nothing is assumed of products without a date."""
    return released[:7] <= LAST_MONTH if len(released) >= 7 else released[:4] in ("2023", "2024")


def survey(paths, *flags):
    command = [PROGRAM, "survey", "-q", *paths, "--format", "json", *flags]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def figures(result):
    totals = result["totals"]
    medical = next(row for row in result["frequencies"] if row["level"] == "category" and row["id"] == 1)
    ranked = sorted((row for row in result["frequencies"] if row["level"] == "scenario"), key=lambda row: (-row["mentions"], row["id"]))
    rank = {row["id"]: place for place, row in enumerate(ranked, 1)}
    return [
        totals["n_records"], totals["n_mentions"], f"{totals['mentions_per_record']:.2f}",
        f"{medical['mentions']} ({medical['share_of_mentions']:.0%})",
        f"{totals['categories_touched']} of 13", f"{totals['scenarios_touched']} of 84",
        *(rank[scenario] for scenario in (3, 8, 10, 15, 1)),
    ]


ROWS = [
    ("products", "288"), ("mentions", "814"), ("mentions per product", "2.83"), ("medical services (category 1)", "430 (nearly 53%)"),
    ("categories touched", "12"), ("scenarios touched", "56 sub-scenarios"),
    ("rank of 3, disease-specific decision support", "among the first"), ("rank of 8, outpatient triage", "among the first"),
    ("rank of 10, pre-consultation history taking", "among the first"), ("rank of 15, medical record generation", "among the first"),
    ("rank of 1, imaging diagnosis", "among the first"),
]

WHY = """
## What agrees, and what one should expect to differ

- **The order of the large blocks agrees.** Medical services lead in every column, and decision support and imaging diagnosis stand
  near the top. Public health, elderly care and childcare are rare here as there.
- **Triage, pre-consultation and record generation stand lower here** than "among the most mentioned", in the coders' columns too, so
  that it is not the classifier's doing: entries name such functions less often than vendors' own material does.
- **Fewer mentions per product.** The unit there is a model as its vendor presents it in all material; here it is one
  description of at most 240 characters, coded for what it states and nothing else. A model with three functions in its
  brochure has often one of them in a registry entry. Raw totals should therefore not be compared, shares can.
- **More medical consultation (65, a category called medical robots).** Our codebook codes dialogue with patients as 65, whatever its form, because the
  guideline describes that job there. The survey calls medical robots rare, so that it must have put such products elsewhere, most
  likely into triage and consultation within medical services. This alone moves the share of medical services.
- **Other products.** The survey does not list its models. The registry holds what could be found with a public source, which
  favours large firms, hospitals that publish, and open models, and it reaches beyond the window.
- **Release dates.** Products without a date, and those of 2025 without a month, are not in the window, so that counts by year are lower
  bounds here; their proportions, not their size, can be set beside 61, 94 and 133.
- **Two totals.** The report itself counts 814 mentions in one place and 663 in another; the comparison uses 814
  (see data/reference/vbinsight-2025).
- **The classifier.** Where the default bundle and the coders differ, the coders' column is the better one. Counts for
  citation should be corrected with an audited sample (`medscenario survey --audit`).
"""


def main():
    with open(REGISTRY, encoding="utf-8-sig", newline="") as file:
        products = list(csv.DictReader(file))
    gold = []
    for split in ("dev", "test"):
        gold += (ROOT / f"eval/gold/{split}-zh.jsonl").read_text(encoding="utf-8").splitlines()
    inside = {product["id"] for product in products if in_window(product["released"])}
    undated = sum(not product["released"] for product in products)
    vague = sum(product["released"] == "2025" for product in products)
    print("# The published survey and the registry\n\nPrinted by `python eval/reproduction.py`.\n")
    print(f"{len(products)} products in the registry, {len(inside)} of them released from 2023 to April 2025; {undated} have no release date and {vague}")
    print("have the year 2025 alone, and are outside the window.\n")
    with tempfile.TemporaryDirectory() as directory:
        window, coded = Path(directory) / "window.csv", Path(directory) / "window.jsonl"
        with open(window, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, products[0].keys())
            writer.writeheader()
            writer.writerows(product for product in products if product["id"] in inside)
        coded.write_text("\n".join(line for line in gold if json.loads(line)["id"] in inside) + "\n", encoding="utf-8")
        everything = Path(directory) / "all.jsonl"
        everything.write_text("\n".join(gold) + "\n", encoding="utf-8")
        columns = [figures(survey([path])) for path in (REGISTRY, everything, window, coded)]
        print("| figure | published | all, bundle | all, coders | window, bundle | window, coders |\n|---|---|---|---|---|---|")
        for index, (name, published) in enumerate(ROWS):
            print(f"| {name} | {published} | {' | '.join(str(column[index]) for column in columns)} |")
        years = survey([window], "--by", "year")["breakdowns"][0]["groups"]
        counts = {group["value"]: group["totals"]["n_records"] for group in years}
        total = sum(counts.values())
        print("\n| released | published | registry, window |\n|---|---|---|")
        for year, published in (("2023", 61), ("2024", 94), ("2025", 133)):
            print(f"| {year} | {published} ({published / 288:.0%}) | {counts.get(year, 0)} ({counts.get(year, 0) / total:.0%}) |")
        print(WHY)
        print("## The comparison that the program prints for the window\n\n`medscenario survey WINDOW.csv --compare`, where WINDOW.csv has the registry's rows of the window:\n\n```text")
        command = [PROGRAM, "survey", "-q", "window.csv", "--compare"]
        print(subprocess.run(command, check=True, capture_output=True, text=True, cwd=directory).stdout.rstrip())
        print("```")


if __name__ == "__main__":
    main()
