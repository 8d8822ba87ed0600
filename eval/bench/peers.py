"""The other engines of the comparison that `run.py` makes. Answers requests as `encode.rs` does, and exports to ONNX.

    python eval/bench/peers.py onnxruntime DIRECTORY --threads 1 --ids ids.jsonl --texts texts.jsonl --onnx model.onnx
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np


def pack(lengths, budget):
    """Batches of about the same length: sorted by length, and at most `budget` tokens with padding."""
    batches = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batches and (len(batches[-1]) + 1) * lengths[index] <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def pad(ids):
    """Arrays `[batch, tokens]` of ids and of the mask."""
    tokens = max(map(len, ids))
    padded, mask = np.zeros((len(ids), tokens), np.int64), np.zeros((len(ids), tokens), np.int64)
    for row, sequence in enumerate(ids):
        padded[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return padded, mask


def sentence_transformer(checkpoint, **options):
    """The checkpoint in fp32, also where it is stored in f16."""
    import torch
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(checkpoint), device="cpu", model_kwargs={"dtype": torch.float32, **options}).eval()


class SentenceTransformers:
    """The library as it comes: `forward` where ids are ready, `encode` from texts."""

    def __init__(self, args):
        import torch

        torch.set_num_threads(args.threads)
        self.torch, self.model = torch, sentence_transformer(args.checkpoint)

    def batch(self, ids, mask):
        with self.torch.inference_mode():
            features = {"input_ids": self.torch.from_numpy(ids), "attention_mask": self.torch.from_numpy(mask)}
            return self.model(features)["sentence_embedding"].numpy()

    def embed(self, texts, lengths, batch_tokens):
        size = max(1, round(batch_tokens / np.median(lengths)))
        return self.model.encode(texts, batch_size=size)


class OnnxRuntime:
    """A session over the exported graph; `tokenizers` makes the ids."""

    def __init__(self, args):
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = args.threads, 1
        self.session = onnxruntime.InferenceSession(str(args.onnx), options, providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(str(args.checkpoint / "tokenizer.json"))
        self.tokenizer.enable_truncation(args.window)
        self.tokenizer.no_padding()

    def batch(self, ids, mask):
        return self.session.run(None, {"input_ids": ids, "attention_mask": mask})[0]

    def embed(self, texts, lengths, batch_tokens):
        return encode(self, [encoding.ids for encoding in self.tokenizer.encode_batch(texts)], batch_tokens)


PEERS = {"sentence-transformers": SentenceTransformers, "onnxruntime": OnnxRuntime}


def encode(peer, ids, batch_tokens):
    """Text vectors of token ids, in their order."""
    vectors = [None] * len(ids)
    for members in pack([len(sequence) for sequence in ids], batch_tokens):
        for member, vector in zip(members, peer.batch(*pad([ids[member] for member in members]))):
            vectors[member] = vector
    return np.stack(vectors)


def flops(config, length):
    """Operations of all matrix products for a sequence, two per multiply-add."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    return 2 * config["num_hidden_layers"] * length * (4 * hidden * hidden + 2 * hidden * inner + 2 * hidden * length)


def export(checkpoint, path):
    """The graph from ids to text vectors, in fp32 and with 8-bit weights per channel, as `path` and `path` with `-int8`."""
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    class Vectors(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = sentence_transformer(checkpoint, attn_implementation="eager")

        def forward(self, input_ids, attention_mask):
            return self.model({"input_ids": input_ids, "attention_mask": attention_mask})["sentence_embedding"]

    ids = torch.ones((2, 9), dtype=torch.int64)
    names = ["input_ids", "attention_mask"]
    axes = {name: {0: "batch", 1: "tokens"} for name in names} | {"vectors": {0: "batch"}}
    partial = path.with_suffix(".partial")
    with torch.inference_mode():
        torch.onnx.export(Vectors(), (ids, ids), str(partial), input_names=names, output_names=["vectors"], dynamic_axes=axes, opset_version=17, dynamo=False)
    int8 = path.with_stem(path.stem + "-int8")
    quantize_dynamic(str(partial), str(int8), per_channel=True, weight_type=QuantType.QInt8)
    partial.rename(path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--onnx", type=Path)
    parser.add_argument("--ids", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--window", type=int, default=512)
    args = parser.parse_args()
    # Libraries print what they like; answers keep standard output to themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peer = PEERS[args.peer](args)
    config = json.loads((args.checkpoint / "config.json").read_text())
    ids, texts = ([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] for path in (args.ids, args.texts))
    for line in sys.stdin:
        request = json.loads(line)
        wanted = min(request.get("texts") or len(ids), len(ids))
        chosen = [index * len(ids) // wanted for index in range(wanted)]
        some_ids, some_texts = [ids[index] for index in chosen], [texts[index] for index in chosen]
        lengths = [len(sequence) for sequence in some_ids]
        cpu, wall = time.process_time(), time.perf_counter()
        if request["what"] == "text":
            vectors = peer.embed(some_texts, lengths, request["batch_tokens"])
        else:
            vectors = encode(peer, some_ids, request["batch_tokens"])
        timing = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        if request["what"] == "vectors":
            vectors.astype("<f4").tofile(request["file"])
        timing |= {"texts": wanted, "tokens": sum(lengths), "flops": sum(flops(config, length) for length in lengths)}
        print(json.dumps(timing), file=answers, flush=True)


if __name__ == "__main__":
    main()
