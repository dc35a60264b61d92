#!/usr/bin/env python3
"""The baseline of `train sentiment`: naive Bayes over which words and pairs of neighbouring words a text has.

Lower-case words, present or absent, add-one smoothing over the training vocabulary (Wang & Manning 2012, "Baselines and
bigrams"). Prints the accuracy on the test split beside that of always saying the more frequent label.

    python3 scripts/naive_bayes.py [TRAIN.tsv TEST.tsv]

Plain Python; the tables hold `label<TAB>text`, plain or gzipped.
"""

import gzip
import math
import pathlib
import re
import sys
from collections import Counter


def read(path):
    """[(label, text)] of a table."""
    start = open(path, "rb").read(2)
    opened = gzip.open if start == b"\x1f\x8b" else open
    with opened(path, "rt", encoding="utf-8", newline="\n") as file:
        return [tuple(line.rstrip("\n").split("\t")) for line in file if line.strip()]


def features(text):
    """The words of a text (and runs of punctuation, as the word tokenizer's), and their neighbouring pairs, each once."""
    words = re.findall(r"\w+|[^\w\s]+", text.lower())
    return set(words) | set(zip(words, words[1:]))


def train(rows):
    """The log prior of each label and the log probability of each feature in it."""
    labels = Counter(label for label, _ in rows)
    counts = {label: Counter() for label in labels}
    for label, text in rows:
        counts[label].update(features(text))
    vocabulary = set().union(*counts.values())
    model = {}
    for label, n in labels.items():
        total = sum(counts[label].values()) + len(vocabulary)
        prior = math.log(n / len(rows))
        model[label] = prior, {f: math.log((counts[label][f] + 1) / total) for f in vocabulary}
    return model


def predict(model, text):
    """The likelier label; features that were never seen say nothing."""
    found = features(text)

    def score(label):
        prior, weights = model[label]
        return prior + math.fsum(weights[f] for f in found if f in weights)

    return max(sorted(model), key=score)


def main():
    folder = pathlib.Path(__file__).resolve().parent.parent / "data" / "sentiment"
    paths = sys.argv[1:] or [folder / "train.tsv.gz", folder / "test.tsv.gz"]
    if len(paths) != 2:
        sys.exit(__doc__)
    rows, test = read(paths[0]), read(paths[1])
    model = train(rows)
    right = sum(predict(model, text) == label for label, text in test)
    most, _ = Counter(label for label, _ in rows).most_common(1)[0]
    share = sum(label == most for label, _ in test) / len(test)
    print(f"majority class        {100 * share:.1f}%")
    print(f"bigram naive Bayes    {100 * right / len(test):.1f}%  ({right} of {len(test)})")


if __name__ == "__main__":
    main()
