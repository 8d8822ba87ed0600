#!/usr/bin/env bash
# Runs what eval/README.md lists and writes the recorded results. Needs `cargo build --release`, the packages of
# eval/baselines/requirements.txt, and the predictions that training wrote for the development split:
#
#   eval/record.sh target/held-out.jsonl
set -euo pipefail
held_out=$(realpath "$1")
cd "$(dirname "$0")/.."
program=target/release/medscenario

{
  printf '# Agreement between the two coding passes\n\n'
  printf 'Printed by `medscenario data agreement eval/gold/coders/a.jsonl eval/gold/coders/b.jsonl`.\n\n'
  "$program" data agreement eval/gold/coders/a.jsonl eval/gold/coders/b.jsonl
} > eval/gold/agreement.md

python3 eval/baselines/run.py > eval/baselines.md
python3 eval/errors.py "$held_out" > eval/errors.md
python3 eval/domains/run.py > eval/domains/results.md
python3 eval/reproduction.py > eval/reproduction.md
{
  python3 eval/results.py "$held_out"
  printf '\n## Parity with sentence-transformers\n\nPrinted by `python eval/parity/parity.py`.\n\n```text\n'
  python3 eval/parity/parity.py
  printf '```\n\n## Memory\n\nPrinted by `python eval/scale/memory.py`.\n\n'
  python3 eval/scale/memory.py
} > eval/results.md
