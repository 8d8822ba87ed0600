#!/usr/bin/env bash
# From corpora to the default bundle. Each stage leaves a checkpoint in WORK, so that a stopped build goes on where it was.
#
#   models/training/build.sh CORPORA WORK OUTPUT
#
# Needs `pip install -r models/training/requirements.txt` and `cargo build --release`.
set -euo pipefail
[ $# -eq 3 ] || { echo "usage: $0 CORPORA WORK OUTPUT" >&2; exit 2; }
corpora=$1 work=$2 output=$3
root=$(cd "$(dirname "$0")/../.." && pwd)
pretrain() { python3 "$root/models/training/pretrain.py" "$@" --corpora "$corpora" --out "$work"; }

mkdir -p "$work"
[ -e "$work/tokenizer.json" ] || pretrain tokenizer
[ -e "$work/general.done" ] || { pretrain general --minutes 22; touch "$work/general.done"; }
[ -e "$work/domain.done" ] || { pretrain domain --minutes 9; touch "$work/domain.done"; }
[ -e "$work/task.done" ] || { pretrain task --epochs 6; touch "$work/task.done"; }
python3 "$root/models/training/pretrain.py" export --out "$work" --to "$work/encoder"
# The program has threads of its own; candle's would wait for each other.
CANDLE_NUM_THREADS=1 "$root/target/release/medscenario" train "$root"/data/training/*.jsonl "$root/data/training/products/products.jsonl" \
  --encoder "$work/encoder" --freeze-encoder --epochs 5 --head-rate 2e-3 --folds 2 \
  --calibrate "$root/eval/gold/dev-zh.jsonl" "$root/eval/gold/dev-en.jsonl" "$root/data/training/products/calibration.jsonl" \
  --neighbours "$root/data/training/products/products.jsonl" \
  --name default --output "$output"
