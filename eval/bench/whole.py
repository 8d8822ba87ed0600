"""What `classify` costs beyond its encoder, and what repeated texts and a cache save.

    cargo build --release --bin medscenario --example encode
    python eval/bench/whole.py

Times whole runs of `classify` over a CSV file of distinct texts, from the start of the process to its end, beside the
encoder alone: token ids that are ready, to hidden states. They take turns; ratios are medians of the ratios within rounds.
Where `classify` has `--cache`, a run that fills one and a run that reads it follow.
"""

import argparse
import csv
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from run import BUILT_IN, ENCODE, Engine, corpus


def write_table(path, texts):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        writer.writerows((f"r{row}", text) for row, text in enumerate(texts))


def classify(program, table, threads, *flags):
    """Wall and processor time of one run, in seconds."""
    output = table.with_suffix(".jsonl")
    output.unlink(missing_ok=True)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([program, "classify", "-q", table, "-o", output, "--jobs", str(threads), *flags], check=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall_s": wall, "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def has_cache(program):
    return "--cache" in subprocess.run([program, "classify", "--help"], check=True, capture_output=True, text=True).stdout


def compare(program, directory, texts, threads, args):
    """Rows of the table for one number of threads."""
    distinct, repeated, lines = directory / "distinct.csv", directory / "repeated.csv", directory / "texts.jsonl"
    write_table(distinct, texts)
    write_table(repeated, [text for text in texts for _ in range(10)])
    lines.write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
    encoder = Engine([ENCODE, "--engine", "ours", "--checkpoint", BUILT_IN, "--texts", lines], threads)
    encoder.batch_tokens = 4096
    runs = {
        "encoder alone": lambda: encoder.ask("ids"),
        "from text to vectors": lambda: encoder.ask("text"),
        "`classify`": lambda: classify(program, distinct, threads),
        "`classify`, every text ten times": lambda: classify(program, repeated, threads),
    }
    if has_cache(program):
        cache = directory / "cache"

        def fill():
            cache.unlink(missing_ok=True)
            return classify(program, distinct, threads, "--cache", cache)

        runs["`classify --cache`, filling it"] = fill
        runs["`classify --cache`, reading it"] = lambda: classify(program, distinct, threads, "--cache", cache)
    encoder.ask("ids")
    passes = {name: [] for name in runs}
    for number in range(args.rounds):
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
        for name, run in runs.items():
            passes[name].append(run())
    encoder.close()
    for name, timings in passes.items():
        ratio = lambda key: statistics.median(own[key] / alone[key] for own, alone in zip(timings, passes["encoder alone"]))
        seconds = lambda key: statistics.median(own[key] for own in timings)
        print(f"| {threads} | {name} | {ratio('wall_s'):.2f} | {ratio('cpu_s'):.2f} | {seconds('wall_s'):.2f} | {seconds('cpu_s'):.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2])
    args = parser.parse_args()
    program = ENCODE.parents[1] / "medscenario"
    for needed in (program, ENCODE):
        if not needed.exists():
            sys.exit(f"error: {needed} is not there; `cargo build --release --bin medscenario --example encode`")
    texts = list(dict.fromkeys(corpus()))[: args.texts]
    print("# A whole run beside its encoder\n")
    print(f"Printed by `python eval/bench/whole.py`. {len(texts):,} distinct texts, {args.rounds} rounds; ratios to the encoder alone.\n")
    print("| threads | what | wall time, × | processor time, × | wall, s | processor, s |")
    print("|---:|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as directory:
        for threads in args.threads:
            compare(program, Path(directory), texts, threads, args)


if __name__ == "__main__":
    main()
