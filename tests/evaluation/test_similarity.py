"""Cosines of mean-pooled states against scores: by hand, at its ends, and by its errors."""

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from scipy.stats import pearsonr, spearmanr
from transformers import AutoModel, AutoTokenizer

from electra.cli import run
from electra.config import LabelledDataConfig
from electra.errors import CheckpointError, ConfigError, DataError, UserError
from electra.evaluate import evaluate
from electra.evaluation.similarity import (
    ScoredPair,
    SentenceEncoder,
    anisotropy,
    cosines,
    read_scored_pairs,
    similarity_result,
)
from tests.tiny import make_encoder, sentences

DATA = Path(os.environ.get("ELECTRA_DATA", Path(__file__).parents[3] / "shared" / "data"))
TEXTS = [text for text, _ in sentences(12, 5)]
PAIRS = [(TEXTS[i], TEXTS[i + 6], i / 2) for i in range(6)]
NUMBERED = LabelledDataConfig(text_column="0", text_pair_column="1", label_column="2")


def write_csv(path: Path, rows: list[tuple[Any, ...]]) -> Path:
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("encoders")
    names = ("modernbert", "electra", "bert", "roberta")
    return {name: make_encoder(folder / name, name) for name in names}


def by_hand(folder: Path, text: str) -> Any:
    """The mean state of one text alone, [CLS] and [SEP] among its tokens."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        model = AutoModel.from_pretrained(folder).eval()
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        return model(ids).last_hidden_state[0].mean(0).numpy()


@pytest.mark.parametrize("family", ["modernbert", "electra", "bert", "roberta"])
def test_a_vector_is_the_mean_of_a_texts_states(encoders: dict[str, Path], family: str) -> None:
    texts = [*TEXTS[:5], TEXTS[0]]
    encoder = SentenceEncoder.open(encoders[family], device="cpu", batch_size=2)
    found = encoder.encode(texts)
    assert found.shape == (6, 16)
    assert np.array_equal(found[0], found[5])
    for vector, text in zip(found, texts, strict=True):
        assert np.allclose(vector, by_hand(encoders[family], text), atol=1e-5)


def test_the_numbers_by_hand(encoders: dict[str, Path], tmp_path: Path) -> None:
    folder = encoders["modernbert"]
    data = write_csv(tmp_path / "x.csv", PAIRS)
    result = evaluate(
        model=folder, data=str(data), task="similarity", columns=NUMBERED, device="cpu"
    )
    vectors = {text: by_hand(folder, text) for text in TEXTS}

    def cosine(a: str, b: str) -> float:
        one, other = vectors[a], vectors[b]
        return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))

    said = [score for _, _, score in PAIRS]
    ours = [cosine(a, b) for a, b, _ in PAIRS]
    between = [cosine(a, b) for i, a in enumerate(TEXTS) for b in TEXTS[:i]]
    assert result == {
        "task": "similarity",
        "data": str(data),
        "n": 6,
        "metric": "spearman",
        "metrics": {
            "spearman": pytest.approx(spearmanr(said, ours).statistic),
            "pearson": pytest.approx(pearsonr(said, ours).statistic, abs=1e-4),
            "anisotropy": pytest.approx(np.mean(between), abs=1e-5),
        },
    }


def test_perfect_pairs_give_one(encoders: dict[str, Path]) -> None:
    encoder = SentenceEncoder.open(encoders["electra"], device="cpu")
    vectors = encoder.encode(TEXTS)
    found = cosines(vectors[:6], vectors[6:])
    pairs = [ScoredPair(a, b, s) for (a, b, _), s in zip(PAIRS, found.tolist(), strict=True)]
    metrics = similarity_result(encoder, pairs, "x")["metrics"]
    assert metrics["spearman"] == pytest.approx(1.0)
    assert metrics["pearson"] == pytest.approx(1.0)
    turned = [ScoredPair(p.first, p.second, -p.score) for p in pairs]
    assert similarity_result(encoder, turned, "x")["metrics"]["spearman"] == pytest.approx(-1.0)


def constant(source: Path, folder: Path, value: float) -> Path:
    """The encoder with a last norm that gives every token one state."""
    shutil.copytree(source, folder)
    state = load_file(folder / "model.safetensors")
    last = [n for n in state if "layer.1.output.LayerNorm" in n]
    assert len(last) == 2
    for name in last:
        state[name] = torch.full_like(state[name], 0.0 if name.endswith("weight") else value)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_constant_encoder_has_one_direction(encoders: dict[str, Path], tmp_path: Path) -> None:
    folder = constant(encoders["bert"], tmp_path / "constant", 0.3)
    encoder = SentenceEncoder.open(folder, device="cpu", batch_size=5)
    pairs = [ScoredPair(*pair) for pair in PAIRS]
    metrics = similarity_result(encoder, pairs, "x")["metrics"]
    assert metrics["anisotropy"] == pytest.approx(1.0, abs=1e-9)
    # rounding ranks nothing
    assert (metrics["spearman"], metrics["pearson"]) == (0.0, 0.0)
    broken = constant(encoders["bert"], tmp_path / "broken", float("nan"))
    with pytest.raises(CheckpointError, match="broken gives states that are no numbers"):
        SentenceEncoder.open(broken, device="cpu").encode(TEXTS)


def test_anisotropy_of_known_clouds() -> None:
    cloud = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
    assert anisotropy(cloud) == pytest.approx(0.0, abs=0.01)
    assert anisotropy(cloud + 100) == pytest.approx(1.0, abs=1e-3)
    axes = np.eye(4, dtype=np.float32)
    assert anisotropy(axes) == pytest.approx(0.0)
    assert anisotropy(np.concatenate([axes, axes])) == pytest.approx(8 / (8 * 7))
    assert anisotropy(axes[:1]) == 1.0


def test_long_texts_are_cut_and_said(encoders: dict[str, Path], tmp_path: Path) -> None:
    long = " ".join(["fine"] * 100)
    rows = [(long, "a film", 1), ("a play", "one book", 0)]
    data = write_csv(tmp_path / "x.csv", rows)
    said = io.StringIO()
    evaluate(
        model=encoders["modernbert"],
        data=str(data),
        task="similarity",
        columns=NUMBERED,
        device="cpu",
        progress=Console(file=said, width=300),
    )
    assert "texts longer than the 64 tokens that" in said.getvalue()
    assert "cut there: 1\n" in said.getvalue()
    encoder = SentenceEncoder.open(encoders["modernbert"], device="cpu")
    cut = by_hand(encoders["modernbert"], " ".join(["fine"] * 62))
    assert np.allclose(encoder.encode([long])[0], cut, atol=1e-5)


@pytest.mark.parametrize("part", ["", "encoder", "discriminator", "generator"])
def test_runs_and_their_parts(runs: dict[str, Path], part: str, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "x.csv", PAIRS)
    options: dict[str, Any] = {"data": str(data), "task": "similarity", "columns": NUMBERED}
    for family in ("classic", "modern"):
        metrics = evaluate(model=runs[family] / part, device="cpu", **options)["metrics"]
        if part != "generator":
            whole = evaluate(model=runs[family], device="cpu", **options)["metrics"]
            assert metrics == pytest.approx(whole)


def test_the_contract(
    encoders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "x.jsonl"
    names = ("sentence1", "sentence2", "score")
    data.write_text("".join(json.dumps(dict(zip(names, p, strict=True))) + "\n" for p in PAIRS))
    line = f"evaluate --model {encoders['electra']} --data {data} --task similarity --json"
    assert run(line.split()) == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result) == ["task", "data", "n", "metric", "metrics"]
    table = write_csv(tmp_path / "x.csv", PAIRS)
    line = f"evaluate --model {encoders['electra']} --data {table} --task similarity"
    line += " --data.text-column 0 --data.text-pair-column 1 --data.label-column 2"
    assert run([*line.split(), "--output", str(tmp_path / "o.json")]) == 0
    shown = capsys.readouterr().out
    assert "similarity: 6 pairs of" in shown.replace("\n", "")
    assert "anisotropy" in shown
    assert json.loads((tmp_path / "o.json").read_text())["metrics"] == result["metrics"]


def reading_fails(tmp_path: Path, rows: list[tuple[Any, ...]], message: str) -> None:
    data = write_csv(tmp_path / "x.csv", rows)
    with pytest.raises(DataError) as caught:
        read_scored_pairs(str(data), LabelledDataConfig())
    assert message in str(caught.value)


def test_files_that_hold_no_scored_pairs(tmp_path: Path) -> None:
    header = ("sentence1", "sentence2", "score")
    reading_fails(
        tmp_path,
        [header[:2], ("a film", "a play"), ("one", "two")],
        'column "sentence1" was taken for the text and "sentence2" for the score, none for the '
        "second text; name them with --data.text-column, --data.text-pair-column and "
        "--data.label-column",
    )
    reading_fails(
        tmp_path,
        [header, ("a film", "a play", 1.5), ("one", "two", "alike")],
        'x.csv row 2 has "alike" in column "score", a finite number is wanted; name the column of '
        "the scores with --data.label-column",
    )
    reading_fails(
        tmp_path,
        [header, ("a film", "a play", "nan"), ("one", "two", 1)],
        'row 1 has "nan" in column "score", a finite number is wanted',
    )
    reading_fails(
        tmp_path,
        [header, ("a film", "a play", 1.5)],
        "x.csv holds one pair alone; a correlation wants two or more",
    )
    reading_fails(
        tmp_path,
        [header, ("a film", "a play", 3), ("one", "two", 3.0)],
        "x.csv has the score 3 in all 2 rows; a correlation wants scores that differ",
    )


def test_a_list_is_no_score(tmp_path: Path) -> None:
    rows = [{"sentence1": "a", "sentence2": "b", "score": [1, 2]}] * 2
    data = tmp_path / "x.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match='row 1 has a list in column "score", a finite number'):
        read_scored_pairs(str(data), LabelledDataConfig())


def test_flags_and_models_that_do_not_fit(encoders: dict[str, Path], tmp_path: Path) -> None:
    data = str(write_csv(tmp_path / "x.csv", PAIRS))

    def fails(kind: type[UserError], message: str, **given: Any) -> None:
        options: dict[str, Any] = {"model": encoders["bert"], "task": "similarity"}
        with pytest.raises(kind) as caught:
            evaluate(data=data, columns=NUMBERED, device="cpu", **(options | given))
        assert message in str(caught.value)

    fails(ConfigError, "--limit and --method are for --task minimal-pairs", limit=3)
    fails(
        ConfigError,
        "--report is for fine-tuned models: leave it out for similarity",
        report=tmp_path / "x.html",
    )
    fails(ConfigError, 'did you mean "similarity"?', task="similarities")
    fails(DataError, "--task minimal-pairs or similarity", task=None)
    fails(ConfigError, "gone does not exist", model=tmp_path / "gone")
    other = tmp_path / "t5"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "t5", "is_encoder_decoder": True}))
    fails(ConfigError, "is a t5, which has a decoder, too; an encoder is wanted", model=other)
    damaged = tmp_path / "damaged"
    make_encoder(damaged, "electra")
    state = load_file(damaged / "model.safetensors")
    del state["encoder.layer.1.output.dense.weight"]
    save_file(state, damaged / "model.safetensors", metadata={"format": "pt"})
    fails(ConfigError, "lacks 1 tensors of a electra model", model=damaged)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no data sets in {DATA}; set ELECTRA_DATA")
@pytest.mark.parametrize(("part", "count"), [("dev", 1500), ("test", 1379)])
def test_the_published_file(part: str, count: int) -> None:
    pairs = read_scored_pairs(str(DATA / "stsb" / f"stsb-en-{part}.csv"), NUMBERED)
    assert len(pairs) == count
    assert {type(pair.score) for pair in pairs} == {float}
    assert 0 <= min(p.score for p in pairs) < max(p.score for p in pairs) <= 5
