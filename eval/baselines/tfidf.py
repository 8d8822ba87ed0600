"""Baseline: tf-idf of character n-grams and one logistic regression per scenario.

    pip install scikit-learn
    python eval/baselines/tfidf.py PREDICTIONS.jsonl
    medscenario eval eval/gold/test-zh.jsonl --predictions PREDICTIONS.jsonl
    medscenario eval eval/gold/test-en.jsonl --predictions PREDICTIONS.jsonl

Trained on the same texts as the default bundle; one threshold for all scenarios, chosen on the development split.
"""

import json
import sys
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_union

ROOT = Path(__file__).resolve().parents[2]


def read(pattern):
    texts = []
    for path in sorted(ROOT.glob(pattern)):
        texts += [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return texts


def fit(features, positive):
    model = LogisticRegression(C=20, class_weight="balanced", max_iter=400, solver="liblinear")
    return model.fit(features, positive)


def micro_f1(probabilities, gold, threshold):
    assigned = probabilities >= threshold
    return 2 * (assigned & gold).sum() / (assigned.sum() + gold.sum())


def main():
    training, development, test = read("data/training/*.jsonl"), read("eval/gold/dev-*.jsonl"), read("eval/gold/test-*.jsonl")
    scenarios = sorted({scenario for text in training for scenario in text["scenarios"]})
    vectorizer = make_union(
        TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True, min_df=2),
        TfidfVectorizer(analyzer="word", ngram_range=(1, 2), sublinear_tf=True, min_df=2),
    )
    features = vectorizer.fit_transform([text["text"] for text in training])
    matrix = lambda texts: np.array([[s in text["scenarios"] for s in scenarios] + [text["status"] == "outside"] for text in texts])
    gold = matrix(training)
    models = [fit(features, gold[:, column]) for column in range(gold.shape[1])]

    def predict(texts):
        rows = vectorizer.transform([text["text"] for text in texts])
        return np.stack([model.predict_proba(rows)[:, 1] for model in models], axis=1)

    found, wanted = predict(development), matrix(development)
    thresholds = np.arange(1, 20) / 20
    threshold = max(thresholds, key=lambda t: micro_f1(found[:, :-1], wanted[:, :-1], t))
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        for text, row in zip(test, predict(test)):
            assigned = [scenario for scenario, probability in zip(scenarios, row) if probability >= threshold]
            status = "coded" if assigned else "outside" if row[-1] >= threshold else "unspecified"
            out.write(json.dumps({"id": text["id"], "status": status, "scenarios": assigned}) + "\n")
    print(f"threshold {threshold:.2f}, development micro-F1 {micro_f1(found[:, :-1], wanted[:, :-1], threshold):.3f}", file=sys.stderr)


if __name__ == "__main__":
    main()
