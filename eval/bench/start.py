"""Cold start: `medscenario lookup` from nothing to its answer, beside a program that prints one line.

    cargo build --release --bin medscenario --example hello
    python eval/bench/start.py

Both run in turns. Prints the median, the fastest and the slowest run, and the ratio of the medians.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RELEASE = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
TEXT = "Drafts discharge summaries and checks them before filing"
WARM_UP = 3


def milliseconds(command):
    """Wall and processor time of one run."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return 1000 * wall, 1000 * used


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--program", type=Path, default=RELEASE / "medscenario")
    args = parser.parse_args()
    program, hello = args.program, RELEASE / "examples/hello"
    commands = {"one line": [hello], "`lookup`": [program, "lookup", TEXT], "`lookup --jobs 1`": [program, "lookup", "--jobs", "1", TEXT]}
    for command in commands.values():
        if not command[0].exists():
            sys.exit(f"error: {command[0]} is not there; `cargo build --release --bin medscenario --example hello`")
    runs = {name: [] for name in commands}
    for number in range(args.runs + WARM_UP):
        for name, command in commands.items():
            timing = milliseconds(command)
            if number >= WARM_UP:
                runs[name].append(timing)
    least = statistics.median(wall for wall, _ in runs["one line"])
    print("# Cold start\n")
    print(f"Printed by `python eval/bench/start.py`. {args.runs} runs of each, in turns; the files are in memory.\n")
    print("| program | × one line | median, ms | fastest | slowest | processor time, ms |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, timings in runs.items():
        walls = [wall for wall, _ in timings]
        median, used = statistics.median(walls), statistics.median(used for _, used in timings)
        print(f"| {name} | {median / least:.1f} | {median:.1f} | {min(walls):.1f} | {max(walls):.1f} | {used:.1f} |")


if __name__ == "__main__":
    main()
