"""Models that others trained. What is not there (scripts/fetch_models.sh brings it) is skipped."""

import pathlib

import pytest

import rushlight as rl
from rushlight import models

ROOT = pathlib.Path(__file__).parents[3]
SMOL = ROOT / "target/models/SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM = ROOT / "target/models/all-MiniLM-L6-v2"
REFERENCE = ROOT / "crates/rushlight-models/tests/reference"


@pytest.mark.skipif(not SMOL.exists(), reason=f"{SMOL} is not there")
def test_a_llama_writes_on():
    model = models.Llama.from_pretrained(SMOL)
    tokens = model.encode("The capital of France is")
    assert model.decode(tokens) == "The capital of France is"
    logits = model([tokens])
    assert logits.shape[:2] == (1, len(tokens))
    greedy = model.generate(tokens, max_new_tokens=4, temperature=0)
    assert greedy[0] == logits[0, -1].argmax().item()
    assert "Paris" in model.generate("The capital of France is", max_new_tokens=8, temperature=0)
    drawn = [model.generate(tokens, max_new_tokens=6, temperature=1.2, top_k=50, seed=s) for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    with pytest.raises(ValueError, match="llama"):
        models.Gpt.from_pretrained(SMOL)


@pytest.mark.skipif(not MINILM.exists(), reason=f"{MINILM} is not there")
def test_sentences_are_near_what_they_mean():
    encoder = models.SentenceEncoder.from_pretrained(MINILM)
    vectors = encoder.embed(["A cat sleeps.", "The kitten is napping.", "Interest rates rose again."])
    assert vectors.shape == (3, encoder.width)
    near = vectors @ vectors.T
    assert near[0, 1].item() > 0.5 > 0.3 > near[0, 2].item()
    assert vectors.norm(dim=1).allclose(rl.ones(3), atol=1e-4)


@pytest.mark.parametrize("name,kind", [("gpt2", models.Gpt), ("llama", models.Llama)])
def test_logits_are_those_of_transformers(name, kind):
    folder = REFERENCE / "pretrained" / name
    expected = rl.load(folder / "expected.safetensors")
    with rl.no_grad():
        y = kind.from_pretrained(folder)(expected["tokens"].long())
    seen = expected["mask"].bool() if "mask" in expected else slice(None)
    assert y[seen].allclose(expected["y"][seen], atol=1e-4, rtol=1e-4)
    assert set(kind.from_pretrained(folder).state_dict())


@pytest.mark.parametrize("path", ["nowhere", "."])
def test_what_is_no_model_says_so(path):
    with pytest.raises((OSError, ValueError), match="nowhere|config.json"):
        models.Llama.from_pretrained(path)
