"""Long texts in windows that overlap, and answers that are their mean."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from electra.config import FinetuneConfig, HeadConfig, LabelledDataConfig
from electra.errors import ConfigError
from electra.tasks.batches import Feature
from electra.tasks.labelled_data import Columns, LabelledExample
from electra.tasks.labels import CLASSIFICATION, MULTI_LABEL, REGRESSION
from electra.tasks.model_folder import load_tokenizer
from electra.tasks.predictor import Predictor
from electra.tasks.task import load_task, save_task
from electra.tasks.text_classification import WINDOWS, TextClassification
from electra.tasks.text_windows import mean_logits

CUT_TASK = TextClassification(CLASSIFICATION, ("bad", "good"), Columns("text", None, "label"), 12)
TASK = dataclasses.replace(CUT_TASK, long_texts=WINDOWS, doc_stride=4)
LONG = "good film bad play then one two there here book was not very and is a the fine"
WORDS = LONG.split()  # 18 tokens: three windows of 10 at most that share 4
TEXTS = ["good film", LONG, " ".join(WORDS[:10])]


def examples(label: str | None = "good") -> list[LabelledExample]:
    return [LabelledExample(i, text, label=label) for i, text in enumerate(TEXTS)]


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_windows_hold_the_text_and_overlap(encoders: dict[str, Path], family: str) -> None:
    tokenizer = load_tokenizer(str(encoders[family]))
    features = TASK.features(examples(), tokenizer, token_types=family == "bert")
    assert [f.example for f in features] == [0, 1, 1, 1, 2]
    assert all(f.target == 1 for f in features)
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    inner = [f.input_ids[1:-1] for f in features]
    assert all((f.input_ids[0], f.input_ids[-1]) == (cls, sep) for f in features)
    assert max(map(len, inner)) == 10
    assert inner[1][-4:] == inner[2][:4]
    assert inner[2][-4:] == inner[3][:4]
    whole = tokenizer(LONG, add_special_tokens=False)["input_ids"]
    assert inner[1] + inner[2][4:] + inner[3][4:] == whole
    if family == "bert":
        assert all(f.token_type_ids == [0] * len(f.input_ids) for f in features)


def test_a_text_of_one_window_is_the_same_as_cut(encoders: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(str(encoders["bert"]))
    windows = TASK.features(examples(), tokenizer, token_types=True)
    cut = CUT_TASK.features(examples(), tokenizer, token_types=True)
    assert [windows[0], windows[-1]] == [cut[0], cut[2]]
    assert windows[1] == cut[1]  # the first window of a long one


def test_a_wide_stride_is_half_a_window(encoders: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(str(encoders["bert"]))
    wide = dataclasses.replace(TASK, doc_stride=128)
    _, first, second, *_ = wide.features(examples(), tokenizer, token_types=False)
    assert first.input_ids[6:-1] == second.input_ids[1:6]
    shorter = wide.features(examples(), tokenizer, token_types=False, max_length=8)
    assert max(len(f.input_ids) for f in shorter) == 8


def test_answers_are_the_mean_of_the_windows(encoders: dict[str, Path]) -> None:
    encoder = str(encoders["modernbert"])
    model = TASK.build_model(encoder, HeadConfig())
    predictor = Predictor(TASK, model, load_tokenizer(encoder))
    features = predictor.features(examples(None))
    logits = predictor.logits(features)
    answers = predictor.predict(TEXTS)
    for number, answer in enumerate(answers):
        own = [x for f, x in zip(features, logits, strict=True) if f.example == number]
        mean = sum(own) / len(own)
        expected = np.exp(mean) / np.exp(mean).sum()
        assert list(answer["scores"].values()) == pytest.approx(expected.tolist(), abs=1e-6)
    cut = Predictor(CUT_TASK, model, predictor.tokenizer).predict(TEXTS)
    assert answers[0]["scores"] == pytest.approx(cut[0]["scores"], abs=1e-6)
    assert answers[2]["scores"] == pytest.approx(cut[2]["scores"], abs=1e-6)
    assert answers[1]["scores"] != pytest.approx(cut[1]["scores"], abs=1e-6)


def test_the_mean_by_hand() -> None:
    features = [Feature(1, [1]), Feature(0, [1]), Feature(1, [1])]
    logits = [np.array(x, np.float32) for x in ([1.0, 0.0], [5.0, 5.0], [3.0, 1.0])]
    first, second = mean_logits(features, logits, 2)
    assert (first.tolist(), second.tolist()) == ([5.0, 5.0], [2.0, 0.5])
    score = dataclasses.replace(TASK, problem_type=REGRESSION, labels=())
    rows = [LabelledExample(i, "x") for i in range(2)]
    found = score.decode(rows, features, [x[:1] for x in logits])
    assert [p["score"] for p in found] == [5.0, 2.0]
    several = dataclasses.replace(TASK, problem_type=MULTI_LABEL)
    found = several.decode(rows, features, logits)
    assert found[1]["scores"]["bad"] == pytest.approx(1 / (1 + np.exp(-2.0)))
    truth = [LabelledExample(0, "x", labels=()), LabelledExample(1, "x", labels=("bad",))]
    between = (1 / (1 + np.exp(-2.0)) + 1 / (1 + np.exp(-0.5))) / 2
    assert several.tuned(truth, features, logits).threshold == pytest.approx(between)


def learn(tmp_path: Path, rows: list[dict[str, Any]], **data: Any) -> TextClassification:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    config = FinetuneConfig(data=LabelledDataConfig(**data))
    return TextClassification.from_training(str(path), config)[0]


def test_the_setting_stays_with_the_model(tmp_path: Path) -> None:
    rows = [{"text": "x", "label": "a"}, {"text": "y", "label": "b"}]
    task = learn(tmp_path, rows, long_texts="windows", doc_stride=7)
    assert (task.long_texts, task.doc_stride) == ("windows", 7)
    save_task(task, tmp_path)
    assert load_task(tmp_path) == task
    pairs = [{"sentence1": "x", "sentence2": "y", "label": label} for label in "ab"]
    with pytest.raises(
        ConfigError,
        match=r"--data\.long-texts is windows, which is for one sentence; .* has two, sentence1 "
        r"and sentence2 \(allowed: cut\)",
    ):
        learn(tmp_path, pairs, long_texts="windows")
