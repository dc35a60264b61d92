#!/usr/bin/env python3
"""Writes metrics.json: small corpora with BLEU, chrF and chrF++ of each, and of each of their sentences, as sacrebleu has them.

    pip install sacrebleu && python3 metrics.py
"""

import json
import random
from pathlib import Path

import sacrebleu
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

ENGLISH = [
    ("The cat sat on the mat.", ["The cat is sitting on the mat."]),
    ("He paid 1,234.50 dollars - not 3.5, or 10-15, in 2020.", ["He paid $1,234.50, not 3.5 or 10-15, in 2020."]),
    ("\"Don't you think so?\" she asked, smiling.", ['"Don\'t you think so?", she asked with a smile.']),
    ("It's John's well-known state-of-the-art method (see [1]).", ["This is John's well-known, state-of-the-art method [1]."]),
    ("the the the the the the the", ["the cat is on the mat"]),
    ("Visit https://example.com/a?b=c&d=e or mail me@example.com!", ["Go to https://example.com/a?b=c&d=e or write to me@example.com."]),
]
SPANISH = [
    ("¿Dónde está la biblioteca?", ["¿Dónde queda la biblioteca?"]),
    ("El niño comió una manzana roja.", ["El niño se comió una manzana muy roja."]),
    ("¡Qué día tan bonito!", ["¡Qué hermoso día!"]),
    ("Ella compró 3 kg de café por 12,50 € el 5-6-2021.", ["Compró 3 kg de café por 12,50 € el día 5-6-2021."]),
    ("Tom no quiso ir a la fiesta de Mary.", ["Tom no quería ir a la fiesta de Mary."]),
]
SEVERAL = [
    ("The quick brown fox jumps over the dog.", ["A quick brown fox jumped over the lazy dog.", "The fast brown fox jumps over a dog."]),
    ("I would like a cup of tea.", ["I'd like a cup of tea.", "I would like some tea please."]),
    ("Good morning", ["Good morning.", "Good morning to all of you, my dear friends!"]),
    ("Yes.", ["Yes, of course.", "Yes."]),
]
ODD = [
    ("", ["An empty hypothesis."]),
    ("An empty reference.", [""]),
    ("", [""]),
    ("   ", [" \t "]),
    ("a", ["a"]),
    ("a b", ["a c"]),
    ("one two three", ["one two three"]),
    ("&quot;Tom &amp; Jerry&quot; &lt;b&gt; &amp;lt; &#39;", ["\"Tom & Jerry\" <b> &lt; '"]),
    ("日本語のテスト。 中文，测试", ["日本語テスト。 中文,测试"]),
    ("naïve café – “quoted” … 🦀🦀 e\u0301", ["naive café — \"quoted\" ... 🦀 é"]),
    ("tab\tand\u00a0no-break\u3000wide\u001cfile\u0085next", ["tab and no-break wide file next"]),
    ("line-\nbreak and\nline <skipped> end \n", ["linebreak and line end"]),
    ("... ,,, -- 1.2.3. .5 5. 5, ,5 5-, -5 a.b a,b 1.a a.1", ["... , -- 1.2.3 . .5 5. 5 ,5 5- 5 a.b a , b 1.a a.1"]),
    ("~`!@#$%^&*()_+={}[]|\\:;\"'<>?/ x", ["! @ # $ % ^ & * ( ) _ + x"]),
    ("(hi) 'so' -- a! ?b", ["( hi ) so - a ! ? b"]),
]
SHORT = [("no", ["nothing in common here"]), ("hello there", ["hello there my friend"])]
NOTHING = [("abc def ghi jkl", ["mno pqr stu vwx yz"])]
VARIOUS = [("a small test of it", ["a small test"]), ("another small one", ["another small one", "one more small"])]


def random_corpus(seed, n):
    """Sentences over few words, so that n-grams of all orders match, with references of several lengths."""
    r = random.Random(seed)
    words = "a la casa de , . the no-one 3.5 3 ( ) ¡sí! it's &amp; ñandú".split()
    sentence = lambda: " ".join(r.choice(words) for _ in range(r.randrange(0, 14)))
    pairs = []
    for _ in range(n):
        references = [sentence() for _ in range(2)]
        kept = [w for w in references[0].split() if r.random() < 0.8]
        pairs.append((" ".join(kept) if r.random() < 0.7 else sentence(), references))
    return pairs


def scores(hypotheses, references, sentence=False):
    """BLEU with its precisions, chrF and chrF++."""
    metrics = [BLEU(effective_order=sentence), CHRF(), CHRF(word_order=2)]
    streams = [list(stream) for stream in zip(*references)] if len({len(r) for r in references}) == 1 else None
    if streams is None:
        longest = max(len(r) for r in references)
        streams = [[r[i] if i < len(r) else None for r in references] for i in range(longest)]
    found = [m.corpus_score(hypotheses, streams) for m in metrics]
    strip = lambda m: str(m.get_signature()).rsplit("|version:")[0]
    return {
        "scores": [s.score for s in found],
        "printed": [str(s) for s in found],
        "signatures": [strip(m) for m in metrics],
    }


def corpus(name, pairs):
    hypotheses, references = [h for h, _ in pairs], [r for _, r in pairs]
    tokenize = Tokenizer13a()
    return {
        "name": name,
        "hypotheses": hypotheses,
        "references": references,
        "tokens": [tokenize(h.rstrip()).split() for h in hypotheses],
        "corpus": scores(hypotheses, references),
        "sentences": [scores([h], [r], sentence=True)["scores"] for h, r in pairs],
    }


corpora = {
    "english": ENGLISH, "spanish": SPANISH, "several references": SEVERAL, "odd": ODD, "short": SHORT, "nothing": NOTHING,
    "one word": [("a", ["a"])], "empty": [("", [""])], "various": VARIOUS, "random": random_corpus(1, 30),
    "random, short": random_corpus(2, 4), "all": ENGLISH + SPANISH + ODD,
}
out = {"sacrebleu": sacrebleu.__version__, "corpora": [corpus(name, pairs) for name, pairs in corpora.items()]}
Path(__file__).with_name("metrics.json").write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
