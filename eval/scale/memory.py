"""Time and peak memory of `classify` for 10,000, 100,000 and 1,000,000 rows.

    cargo build --release
    python eval/scale/memory.py

Rows repeat 10,000 distinct texts under distinct ids, so that the larger runs show what rows cost and not what the encoder
costs. Exits with 1 where the highest peak is more than 200 MB above that for 10,000 rows.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/medscenario"
SIZES = (10_000, 100_000, 1_000_000)
LIMIT_MB = 200


def distinct_texts(count):
    """Clauses of the development descriptions, recombined."""
    clauses = []
    for path in sorted((ROOT / "eval/gold").glob("dev-*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            clauses += [c for c in json.loads(line)["text"].replace("。", ",").replace(",", ",").split(",") if 4 < len(c) < 40]
    return [f"{clauses[i % len(clauses)]},{clauses[(7 * i + i // len(clauses)) % len(clauses)]} {i}" for i in range(count)]


def measure(rows, texts, directory):
    """Wall seconds, processor seconds and peak megabytes of one run; the child is measured by a process of its own."""
    source, output = directory / f"{rows}.csv", directory / f"{rows}.jsonl"
    with source.open("w", encoding="utf-8") as file:
        file.write("id,text,year\n")
        for row in range(rows):
            file.write(f'r{row},"{texts[row % len(texts)]}",{2023 + row % 3}\n')
    run = [str(PROGRAM), "classify", "-q", str(source), "-o", str(output)]
    code = f"import resource,subprocess;subprocess.run({run!r},check=True);u=resource.getrusage(resource.RUSAGE_CHILDREN);print(u.ru_maxrss,u.ru_utime+u.ru_stime)"
    started = time.perf_counter()
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    seconds = time.perf_counter() - started
    lines = sum(1 for _ in output.open(encoding="utf-8"))
    assert lines == rows, f"{lines} lines for {rows} rows"
    return seconds, float(printed[1]), int(printed[0]) / 1024


def main():
    texts = distinct_texts(10_000)
    found = []
    print("| rows | peak, MB | wall, s | processor, s | µs a row | µs a row beyond the first 10,000 |")
    print("|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as directory:
        for rows in SIZES:
            wall, used, peak = measure(rows, texts, Path(directory))
            found.append((rows, used, peak))
            more = f"{1e6 * (used - found[0][1]) / (rows - SIZES[0]):.1f}" if rows > SIZES[0] else ""
            print(f"| {rows:,} | {peak:.0f} | {wall:.1f} | {used:.1f} | {1e6 * used / rows:.1f} | {more} |", flush=True)
    peaks = [peak for _, _, peak in found]
    difference = max(peaks) - peaks[0]
    print(f"\nThe highest peak is {difference:.0f} MB above that for {SIZES[0]:,} rows; the limit is {LIMIT_MB} MB.")
    sys.exit(difference > LIMIT_MB)


if __name__ == "__main__":
    main()
