#!/usr/bin/env bash
# Builds the program for NVIDIA GPUs, checks it against the processor, and times it; prints Markdown. See README.md.
#
#   eval/bench/cuda.sh                          # build, check, time
#   eval/bench/cuda.sh --precision bf16         # times bf16, and reports what it changes
#   eval/bench/cuda.sh build                    # only build, where there is no GPU
#   eval/bench/cuda.sh run                      # only check and time what was built before
#
# CARGO_TARGET_DIR says where to build [target/cuda], CARGO_BUILD_JOBS with how many jobs, CUDA_HOME where the toolkit is,
# CUDA_COMPUTE_CAP for which cards [of the one that is there; else 90], CHECKPOINT and TEXTS what to time.
#
# Exit status: 0 all well, 1 something failed or the GPU decides otherwise than the processor, 2 command line, 4 built and
# linked, but no GPU to check it on.
set -euo pipefail
cd "$(dirname "$0")/../.."

steps="build run" precision=f32
while [ $# -gt 0 ]; do
  case "$1" in
    build | run) steps=$1 ;;
    --precision) precision=${2:?--precision needs f32 or bf16} && shift ;;
    *) echo "usage: eval/bench/cuda.sh [build|run] [--precision f32|bf16]" >&2 && exit 2 ;;
  esac
  shift
done
case "$precision" in f32 | bf16) ;; *) echo "--precision $precision: expected f32 or bf16" >&2 && exit 2 ;; esac

mkdir -p "${CARGO_TARGET_DIR:=target/cuda}"
CARGO_TARGET_DIR=$(realpath "$CARGO_TARGET_DIR")
export CARGO_TARGET_DIR
program=$CARGO_TARGET_DIR/release/medscenario
encode=$CARGO_TARGET_DIR/release/examples/encode
wheels=$CARGO_TARGET_DIR/toolkit

# The toolkit that is there: CUDA_HOME, the one on PATH, or the wheels of an earlier run.
find_toolkit() {
  if [ -z "${CUDA_HOME:-}" ] && command -v nvcc > /dev/null; then
    CUDA_HOME=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")
  fi
  CUDA_HOME=${CUDA_HOME:-$wheels/nvidia/cu13}
  export CUDA_HOME CUDA_PATH=$CUDA_HOME PATH=$CUDA_HOME/bin:$PATH
  export LD_LIBRARY_PATH=$CUDA_HOME/lib64:$CUDA_HOME/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
}

# PTX of a newer nvcc than 13.0 is refused by drivers of the 580 series.
fetch_toolkit() {
  echo "no CUDA toolkit found; fetching nvcc 13.0 and its libraries (1.2 GB)" >&2
  python3 -m pip install --quiet --no-deps --upgrade --target "$wheels" \
    nvidia-cuda-{nvcc,crt,runtime,cccl,nvrtc}'==13.0.*' nvidia-{nvvm,cublas}'==13.0.*' nvidia-curand
  # The wheels hold no names for linking.
  ln -sfn lib "$CUDA_HOME/lib64"
  local library
  for library in cublas.so.13 cublasLt.so.13 cudart.so.13 nvrtc.so.13 curand.so.10; do
    ln -sf "lib$library" "$CUDA_HOME/lib/lib${library%.*}"
  done
}

# A driver to link with, where none is installed: every function answers 100, CUDA_ERROR_NO_DEVICE. It lies where cudarc
# looks for it, and serves below to start the program without a GPU.
stub_driver() {
  stubs=$CUDA_HOME/lib64/stubs
  [ -e "$stubs/libcuda.so" ] && return
  mkdir -p "$stubs"
  local cudarc
  cudarc=$(cargo metadata --format-version 1 --features cuda |
    python3 -c 'import json, sys; print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "cudarc"))')
  grep -oh 'fn cu[A-Z][A-Za-z0-9_]*' "$(dirname "$cudarc")/src/driver/sys/mod.rs" | sort -u |
    sed 's/^fn \(.*\)/int \1(void) { return 100; }/' > "$stubs/cuda.c"
  cc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$stubs/libcuda.so" "$stubs/cuda.c"
}

build() {
  [ -x "$CUDA_HOME/bin/nvcc" ] || fetch_toolkit
  stub_driver
  local cards=""
  cards=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null | sort -u | head -1 | tr -d .) || true
  export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-${cards:-90}}
  local version
  version=$(nvcc --version | sed -n 's/.*release \([0-9]*\)\.\([0-9]*\).*/\10\20/p')
  export CUDARC_CUDA_VERSION=${CUDARC_CUDA_VERSION:-$version}
  echo "building for compute capability $CUDA_COMPUTE_CAP with CUDA $CUDARC_CUDA_VERSION" >&2
  cargo build --release --features cuda --bin medscenario --example encode
  # It does not start without a driver, not even for the processor: the stub shows that everything else is there.
  if ! has_gpu; then
    mkdir -p "$CARGO_TARGET_DIR/driver"
    ln -sf "$stubs/libcuda.so" "$CARGO_TARGET_DIR/driver/libcuda.so.1"
    LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$CARGO_TARGET_DIR/driver "$program" --version >&2
  fi
  echo "linked: $program, $(du -h "$program" | cut -f1)" >&2
}

has_gpu() { nvidia-smi -L 2> /dev/null | grep -q GPU; }

# Decisions of the GPU in f32 must be those of the processor. What bf16 changes is reported.
check() {
  local work=$1 device
  for device in cpu cuda; do
    "$program" classify -q eval/gold/*.jsonl --device "$device" -o "$work/$device.jsonl"
  done
  python3 - "$work/cpu.jsonl" "$work/cuda.jsonl" << 'PYTHON'
import json, sys

one, other = ([json.loads(line) for line in open(path, encoding="utf-8")] for path in sys.argv[1:])
decided = lambda record: (record["id"], record["status"], sorted(found["scenario"] for found in record["scenarios"]))
if len(one) != len(other):
    sys.exit(f"error: {len(one)} records on the processor, {len(other)} on the GPU")
changed = [(decided(a), decided(b)) for a, b in zip(one, other) if decided(a) != decided(b)]
confidence = lambda record: record.get("confidence") or 0
highest = max(abs(confidence(a) - confidence(b)) for a, b in zip(one, other))
print(f"f32 against the processor: {len(changed)} of {len(one):,} texts with another decision; confidence differs by at most {highest:.4f}.\n")
for a, b in changed:
    print(f"- {a} on the processor, {b} on the GPU")
sys.exit(bool(changed))
PYTHON
  if [ "$precision" = bf16 ]; then
    printf '```text\n'
    "$program" model precision -q eval/gold/*.jsonl --device cuda --precision bf16
    printf '```\n\n'
  fi
}

# Texts per second by batch size, with ids that are ready and from texts. Peaks of the card are measured before and after.
time_it() {
  local checkpoint=${CHECKPOINT:-models/default} texts=${TEXTS:-20000}
  python3 - "$encode" "$checkpoint" "$texts" "$precision" << 'PYTHON'
import json, pathlib, statistics, subprocess, sys, tempfile

encode, checkpoint, count, precision = sys.argv[1:]
corpus = [json.loads(line)["text"] for path in sorted(pathlib.Path("data/training").glob("*.jsonl")) for line in path.open(encoding="utf-8") if line.strip()]
# Joined in pairs, so that a text is not seen twice.
texts = [corpus[index % len(corpus)] + corpus[(7 * index + 1) % len(corpus)] for index in range(int(count))]
file = tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8")
file.writelines(json.dumps(text) + "\n" for text in texts)
file.flush()
threads = str(min(8, len(__import__("os").sched_getaffinity(0))))


def start(engine, *flags):
    command = [encode, "--engine", engine, "--checkpoint", checkpoint, "--texts", file.name, "--threads", threads, "--device", "cuda", *flags]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(process, **request):
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline() or sys.exit("error: the engine ended without an answer"))


card, engine = start("peak"), start("ours", "--precision", precision)
ask(engine, what="text", batch_tokens=4096)
peaks, rows = [ask(card, what="peak")], []
for tokens in (1024, 4096, 16384, 65536, 262144):
    rows.append((tokens, *([ask(engine, what=what, batch_tokens=tokens) for _ in range(3)] for what in ("ids", "text"))))
peaks.append(ask(card, what="peak"))
f32, bf16 = (statistics.mean(peak[name] for peak in peaks) for name in ("f32", "bf16"))
peak = bf16 if precision == "bf16" else f32
mean = rows[0][1][0]["tokens"] / len(texts)
print(f"{len(texts):,} texts, {mean:.0f} tokens on average. Matrix rate of the card: {f32 / 1e12:.1f} TFLOP/s in f32, {bf16 / 1e12:.1f} in bf16.\n")
print("| tokens a batch | share of the card's matrix rate | texts per second | from text to vectors |\n|---:|---:|---:|---:|")
for tokens, ids, whole in rows:
    second = statistics.median(one["wall_s"] for one in ids)
    print(f"| {tokens:,} | {ids[0]['flops'] / second / peak:.1%} | {len(texts) / second:,.0f} | {len(texts) / statistics.median(one['wall_s'] for one in whole):,.0f} |")
for process in (card, engine):
    process.stdin.close()
PYTHON
}

run() {
  if ! has_gpu; then
    echo "skipped: no GPU answers (nvidia-smi); the checks and timings on the GPU were not run" >&2
    exit 4
  fi
  "$program" --version > /dev/null
  local work
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  printf '# On a GPU, in %s\n\nPrinted by `eval/bench/cuda.sh`. %s.\n\n' "$precision" "$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -1)"
  check "$work"
  time_it
}

find_toolkit
for step in $steps; do $step; done
