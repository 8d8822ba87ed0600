"""Peak memory of `classify` for 10,000 and 1,000,000 rows.

    cargo build --release
    python eval/scale/memory.py

Rows repeat 10,000 distinct texts under distinct ids, so that the larger run shows what rows cost and not what the encoder
costs. Exits with 1 where the peaks differ by more than 200 MB.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "target/release/medscenario"
SIZES = (10_000, 1_000_000)
LIMIT_MB = 200


def distinct_texts(count):
    """Clauses of the development descriptions, recombined."""
    clauses = []
    for path in sorted((ROOT / "eval/gold").glob("dev-*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            clauses += [c for c in json.loads(line)["text"].replace("。", ",").replace(",", ",").split(",") if 4 < len(c) < 40]
    return [f"{clauses[i % len(clauses)]},{clauses[(7 * i + i // len(clauses)) % len(clauses)]} {i}" for i in range(count)]


def measure(rows, texts, directory):
    """Seconds and peak megabytes of one run; the child is measured by a process of its own."""
    source, output = directory / f"{rows}.csv", directory / f"{rows}.jsonl"
    with source.open("w", encoding="utf-8") as file:
        file.write("id,text,year\n")
        for row in range(rows):
            file.write(f'r{row},"{texts[row % len(texts)]}",{2023 + row % 3}\n')
    started = time.time()
    run = [str(PROGRAM), "classify", "-q", str(source), "-o", str(output)]
    code = f"import resource,subprocess;subprocess.run({run!r},check=True);print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    peak = int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout) / 1024
    lines = sum(1 for _ in output.open(encoding="utf-8"))
    assert lines == rows, f"{lines} lines for {rows} rows"
    return time.time() - started, peak


def main():
    texts = distinct_texts(10_000)
    peaks = []
    with tempfile.TemporaryDirectory() as directory:
        for rows in SIZES:
            seconds, peak = measure(rows, texts, Path(directory))
            peaks.append(peak)
            print(f"{rows:>9,} rows: peak {peak:.0f} MB, {seconds:.0f} s", flush=True)
    print(f"difference {peaks[1] - peaks[0]:.0f} MB, limit {LIMIT_MB} MB")
    sys.exit(peaks[1] - peaks[0] > LIMIT_MB)


if __name__ == "__main__":
    main()
