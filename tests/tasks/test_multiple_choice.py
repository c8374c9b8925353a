import gzip
import io
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from electra.cli import run
from electra.config import FinetuneConfig, HeadConfig, LabelledDataConfig, finetune_defaults
from electra.errors import ConfigError, DataError
from electra.finetune import FinetuneResult, finetune
from electra.predict import predict
from electra.recipe import resolve
from electra.tasks.batches import Choices, Feature, LengthBatches, pad
from electra.tasks.choice_files import ChoiceExample, read_choices
from electra.tasks.model_folder import load_tokenizer, save_model_folder
from electra.tasks.multiple_choice import ABSENT, RIGHT, WRONG, MultipleChoice, fill
from electra.tasks.objective import FinetuneObjective
from electra.tasks.passages import Frame, best_stretch
from electra.tasks.predictor import Predictor
from electra.tasks.task import load_task, save_task
from electra.training.noise import Noise
from electra.training.optimizer import build_optimizer
from tests.tiny import BAD, GOOD, PLAIN

TASK = MultipleChoice(32)
FAMILIES = ["modernbert", "electra", "bert", "roberta"]
RACE = {
    "id": "m1.txt",
    "article": "A cat sat.\nIt slept.",
    "questions": ["What sat?", "The cat  _  ."],
    "options": [["a cat", "a dog", "it", "no one"], ["sat", "ran"]],
    "answers": ["A", "B"],
}
C3 = [
    [
        ["男：去哪儿?", "女：回家。"],
        [{"question": "去哪?", "choice": ["家", "校"], "answer": "家"}],
        "1-2",
    ],
    [
        ["一天"],
        [
            {"question": "什么?", "choice": ["甲", "乙", "丙"], "answer": "丙"},
            {"question": "他__了", "choice": ["来", "去", "走", "跑"], "answer": "去"},
        ],
        "1-3",
    ],
]
PLAIN_ROW = {"context": "c", "question": "q", "choices": ["x", "y", "z"], "label": 1}


def write(path: Path, value: Any) -> str:
    rows = value if isinstance(value, list) and path.name.endswith("l") else [value]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text(text, encoding="utf-8")
    return str(path)


def toy(count: int, seed: int) -> list[dict[str, Any]]:
    """The good word is right, among two to four options."""
    generator = random.Random(seed)
    rows = []
    for i in range(count):
        choices = generator.sample(BAD, generator.randint(1, 3))
        label = generator.randint(0, len(choices))
        choices.insert(label, generator.choice(GOOD))
        context = " ".join(generator.choices(PLAIN[:15], k=generator.randint(1, 20)))
        question = "film was _ then" if i % 2 else "the film"
        rows.append(
            {"id": f"q{i}", "context": context, "question": question, "choices": choices}
            | {"label": label}
        )
    return rows


# reading


@pytest.mark.parametrize("packed", [False, True])
def test_race(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "race.jsonl"
    source = write(path, [RACE])
    if packed:
        source += ".gz"
        Path(source).write_bytes(gzip.compress(path.read_bytes()))
    first, second = read_choices(source)
    assert first == ChoiceExample(
        "m1.txt/0",
        "A cat sat.\nIt slept.",
        "What sat?",
        ("a cat", "a dog", "it", "no one"),
        0,
        f"{source} row 1 question 1",
    )
    assert (second.id, second.choices, second.label) == ("m1.txt/1", ("sat", "ran"), 1)
    bare = {name: value for name, value in RACE.items() if name != "answers"}
    assert [e.label for e in read_choices(write(path, [bare]), labelled=False)] == [None, None]


@pytest.mark.parametrize("packed", [False, True])
def test_c3(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "c3.json"
    source = write(path, C3)
    if packed:
        source += ".gz"
        Path(source).write_bytes(gzip.compress(path.read_bytes()))
    examples = list(read_choices(source))
    assert [(e.id, e.label, len(e.choices)) for e in examples] == [
        ("1-2/0", 0, 2),
        ("1-3/0", 2, 3),
        ("1-3/1", 1, 4),
    ]
    assert examples[0].context == "男：去哪儿?\n女：回家。"


@pytest.mark.parametrize(("label", "index"), [(2, 2), ("z", 2), ("B", 1), ("b", 1), ("0", 0)])
def test_plain_rows_and_their_labels(tmp_path: Path, label: Any, index: int) -> None:
    (example,) = read_choices(write(tmp_path / "a.jsonl", [PLAIN_ROW | {"label": label}]))
    assert (example.id, example.label) == (0, index)
    assert (example.context, example.question, example.choices) == ("c", "q", ("x", "y", "z"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (PLAIN_ROW | {"label": 3}, "row 1 has the answer 3, which is none of its 3 options; want"),
        (PLAIN_ROW | {"label": -1}, "has the answer -1"),
        (PLAIN_ROW | {"label": True}, "has the answer true"),
        (PLAIN_ROW | {"label": "D"}, 'has the answer "D", .* a letter from A to C, or a number fr'),
        (PLAIN_ROW | {"label": None}, "row 1 has no label or answer; it has: context, question"),
        (PLAIN_ROW | {"choices": ["x"]}, "row 1 has 1 options; two or more are wanted"),
        (PLAIN_ROW | {"choices": "xyz"}, "row 1 has no list of options"),
        (PLAIN_ROW | {"choices": ["x", ""]}, "row 1 has no text as option B"),
        (PLAIN_ROW | {"context": " "}, "row 1 has an empty passage"),
        (PLAIN_ROW | {"context": 3}, "row 1 has int, not text, as its context"),
        ({"context": "c"}, "row 1 has no question; it has: context"),
        ({"question": "c"}, "row 1 has no context or article or passage; it has: question"),
        (
            RACE | {"answers": ["A", "E"]},
            'row 1 question 2 has the answer "E", which is none of it',
        ),
        (RACE | {"answers": ["A"]}, "row 1 has 2 questions and 1 answers; as many are wanted"),
        (RACE | {"options": []}, "row 1 has 2 questions and 0 options"),
        (RACE | {"article": ""}, "row 1 question 1 has an empty passage"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(read_choices(write(tmp_path / "a.jsonl", [row])))


def test_bad_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    wrong = [["passage"], [{"question": "q", "choice": ["x", "y"], "answer": "z"}], "1"]
    with pytest.raises(
        DataError, match=r'a\.json row 1 question 1 has the answer "z", which is no'
    ):
        list(read_choices(write(path, [wrong])))
    with pytest.raises(DataError, match="row 1 is no list of lines, questions and an id"):
        list(read_choices(write(path, [["passage"]])))
    with pytest.raises(DataError, match="row 1 is int; an object or one of C3's lists"):
        list(read_choices(write(path, [1])))
    path.write_text("[")
    with pytest.raises(DataError, match=r"a\.json is not JSON"):
        list(read_choices(str(path)))
    path.write_text("[]")
    with pytest.raises(DataError, match=r"a\.json holds no rows"):
        list(read_choices(str(path)))
    with pytest.raises(DataError, match=r"gone\.json does not exist"):
        list(read_choices(str(tmp_path / "gone.json")))
    with pytest.raises(ConfigError, match=r"columns of its own \(context, question"):
        TASK.read(str(path), LabelledDataConfig(text_column="words"))


def test_task_json_round_trip(tmp_path: Path) -> None:
    save_task(TASK, tmp_path)
    assert load_task(tmp_path) == TASK


# putting together


def test_an_option_stands_in_the_blank() -> None:
    assert fill("The cat  _  .", r"\1 sat") == r"The cat  \1 sat  ."
    assert fill("他__了", "来") == "他来了"
    assert fill("What is a_b?", "x") == "What is a_b? x"
    assert fill("_ and _", "x") == "_ and _ x"
    assert fill("", "x") == "x"


@pytest.mark.parametrize("template", ["bert", "roberta"])
def test_pairs_are_as_the_tokenizer_makes_them(encoders: dict[str, Path], template: str) -> None:
    tokenizer = load_tokenizer(str(encoders["bert"]))
    if template == "roberta":
        from tokenizers.processors import RobertaProcessing

        tokenizer.backend_tokenizer.post_processor = RobertaProcessing(("[SEP]", 3), ("[CLS]", 2))
    (example,) = TASK.of_texts(
        [{"context": "a good film was", "question": "the film", "choices": ["one", "two bad"]}]
    )
    (feature,) = TASK.features([example], tokenizer, token_types=True)
    assert isinstance(feature, Choices)
    assert feature.input_ids == feature.rows[1].input_ids  # the longest
    for row, statement in zip(feature.rows, ["the film one", "the film two bad"], strict=True):
        whole = tokenizer(example.context, statement, return_token_type_ids=True)
        assert row.input_ids == whole["input_ids"]
        assert row.token_type_ids == whole["token_type_ids"]
    assert Frame.of(tokenizer).size == {"bert": 3, "roberta": 4}[template]


def test_the_stretch_that_shares_most() -> None:
    assert best_stretch([1, 2, 3], [], 3) == (0, 3)
    assert best_stretch([1, 2, 3, 4], [], 3) == (0, 3)
    assert best_stretch([9, 9, 9, 1, 9, 9, 5, 5], [5], 3) == (5, 8)
    assert best_stretch([9, 9, 9, 9, 9, 5, 9, 9, 9], [5, 9], 3) == (3, 6)  # the rare one counts


def test_question_and_options_are_never_cut(encoders: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(str(encoders["bert"]))
    row = {
        "context": "a " * 30 + "the good film was there " + "and " * 30,
        "question": "was film _ there",
        "choices": ["good", "very poor"],
    }
    (feature,) = TASK.features(TASK.of_texts([row]), tokenizer, token_types=True)
    assert isinstance(feature, Choices)
    assert [len(r.input_ids) for r in feature.rows] == [31, 32]
    texts = [tokenizer.decode(r.input_ids) for r in feature.rows]
    assert texts[0].endswith("[SEP] was film good there [SEP]")
    assert texts[1].endswith("[SEP] was film very poor there [SEP]")
    assert all("the good film was there" in text for text in texts)
    (shorter,) = TASK.features(TASK.of_texts([row]), tokenizer, token_types=False, max_length=12)
    assert len(shorter.input_ids) == 12
    long = row | {"question": "was " * 40}
    with pytest.raises(
        DataError, match=r"input 0: question and option take 45 of the 32 tokens .* nothing is left"
    ):
        TASK.features(TASK.of_texts([long]), tokenizer, token_types=False)


def test_batches_of_differing_numbers_of_options() -> None:
    def feature(number: int, *sizes: int) -> Feature:
        rows = tuple(Feature(number, [7] * size, [1] * size) for size in sizes)
        return Choices.of(rows, 1)

    features = [feature(0, 3, 2), feature(1, 1, 4, 2)]
    batch = pad(features, 0)
    assert {name: tuple(t.shape) for name, t in batch.items()} == {
        "input_ids": (2, 3, 4),
        "attention_mask": (2, 3, 4),
        "token_type_ids": (2, 3, 4),
    }
    assert batch["attention_mask"].sum(-1).tolist() == [[3, 2, 1], [1, 4, 2]]
    assert (batch["input_ids"] == 7).equal(batch["attention_mask"] == 1)
    source = LengthBatches(features, TASK.targets, pad_token_id=0, global_batch_size=2, seed=0)
    order = source.ids(0, 2)
    expected = torch.tensor([[WRONG, RIGHT, ABSENT], [WRONG, RIGHT, WRONG]])
    assert source.batch(0, 2)["labels"].equal(expected[order])


def test_loss_is_over_the_options_that_are_there() -> None:
    logits = torch.tensor([[2.0, 0.0, 9.0], [0.0, 1.0, 0.0]], requires_grad=True)
    targets = torch.tensor([[RIGHT, WRONG, ABSENT], [WRONG, RIGHT, WRONG]])
    loss = TASK.loss(logits, targets)
    expected = np.log1p(np.exp(-2)) + np.log(1 + 2 * np.exp(-1))
    assert loss.total.item() == pytest.approx(expected)
    correct, count = loss.metrics["accuracy"]
    assert (int(correct), count, int(TASK.num_targets(targets))) == (2, 2, 2)
    loss.total.backward()
    assert logits.grad is not None
    assert logits.grad[0, 2] == 0
    assert torch.isfinite(logits.grad).all()
    smoothed = TASK.loss(logits[:1], targets[:1], label_smoothing=0.2)
    right, wrong = np.log1p(np.exp(-2)), np.log1p(np.exp(2))
    assert smoothed.total.item() == pytest.approx(0.9 * right + 0.1 * wrong)
    same = TASK.loss(logits[1:], targets[1:], label_smoothing=0.3).total
    theirs = torch.nn.functional.cross_entropy(logits[1:], torch.tensor([1]), label_smoothing=0.3)
    assert same.item() == pytest.approx(theirs.item())


def test_decode_metrics_and_collapse() -> None:
    examples = [
        ChoiceExample(0, "c", "q", ("x", "y"), 0),
        ChoiceExample(1, "c", "q", ("x", "y", "z"), 2),
    ]
    logits = [np.array([1.0, 0.0, 7.0], np.float32), np.array([0.0, 0.0, 2.0], np.float32)]
    first, second = TASK.decode(examples, [], logits)
    assert (first["choice"], first["text"], len(first["scores"])) == (0, "x", 2)
    assert first["score"] == pytest.approx(1 / (1 + np.exp(-1)))
    assert (second["choice"], second["text"]) == (2, "z")
    assert TASK.metrics(examples, [first, first]) == {"accuracy": 0.5}
    assert TASK.collapsed(examples, [first, second]) is None
    assert "chooses option 0 in all 2 validation" in str(TASK.collapsed(examples, [first] * 2))


# models


@pytest.mark.parametrize("family", FAMILIES)
def test_any_encoder_gets_a_head(encoders: dict[str, Path], family: str, tmp_path: Path) -> None:
    from transformers import AutoModelForMultipleChoice, AutoTokenizer

    model = TASK.build_model(str(encoders[family]), HeadConfig(dropout=0.25))
    own = [m for n, m in model.named_modules() if n and not n.startswith(model.base_model_prefix)]
    dropouts = [m.p for m in own if isinstance(m, torch.nn.Dropout)]
    assert dropouts
    assert set(dropouts) == {0.25}
    predictor = Predictor(TASK, model, load_tokenizer(str(encoders[family])))
    row = {"context": "a good film", "question": "was it", "choices": ["bad", "good one", "two"]}
    two = row | {"choices": ["the play", "here"]}
    ours = predictor.logits(predictor.features(TASK.of_texts([row, two])))
    assert [len(logits) for logits in ours] == [3, 3]  # the third of the second is padding
    save_model_folder(tmp_path, TASK, model, predictor.tokenizer)
    reopened = AutoModelForMultipleChoice.from_pretrained(tmp_path).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for given, logits in zip((row, two), ours, strict=True):
        count = len(given["choices"])
        encoded = tokenizer(
            [given["context"]] * count,
            [f"{given['question']} {choice}" for choice in given["choices"]],
            padding=True,
            return_tensors="pt",
            return_token_type_ids=family != "modernbert",
        )
        with torch.inference_mode():
            theirs = reopened(**{k: v.unsqueeze(0) for k, v in encoded.items()}).logits[0]
        np.testing.assert_allclose(theirs.numpy(), logits[:count], atol=1e-6)
    answers = Predictor.open(tmp_path, device="cpu").predict([row, two])
    assert [list(a) for a in answers] == [["choice", "text", "score", "scores"]] * 2


def test_a_network_without_such_a_head(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ConfigError, match="no AutoModelForMultipleChoice for gpt2"):
        TASK.build_model(str(tmp_path), HeadConfig())


@pytest.mark.parametrize("family", FAMILIES)
def test_neighbours_do_not_change_scores(encoders: dict[str, Path], family: str) -> None:
    model = TASK.build_model(str(encoders[family]), HeadConfig())
    tokenizer = load_tokenizer(str(encoders[family]))
    examples = TASK.of_texts(toy(20, 3))
    assert {len(e.choices) for e in examples} == {2, 3, 4}
    alone, together = (
        Predictor(TASK, model, tokenizer, batch_size=size).predict_examples(examples)
        for size in (1, 20)
    )
    for a, b in zip(alone, together, strict=True):
        assert a["scores"] == pytest.approx(b["scores"], abs=1e-6)


def test_gradients_are_finite_with_absent_options(
    encoders: dict[str, Path], tmp_path: Path
) -> None:
    model = TASK.build_model(str(encoders["modernbert"]), HeadConfig())
    objective = FinetuneObjective(TASK, model)
    build_optimizer(objective, FinetuneConfig().optimizer, num_layers=2)
    examples = TASK.read(write(tmp_path / "a.jsonl", toy(8, 5)))
    features = Predictor(TASK, model, load_tokenizer(str(encoders["modernbert"]))).features(
        examples
    )
    batch = pad(features, 0)
    batch["labels"] = TASK.targets(features, 0)
    prepared, counts = objective.prepare(batch, Noise(0))
    assert counts["task_loss"] == 8
    objective(prepared, Noise(0)).losses["task_loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.fixture(scope="module")
def trained(
    encoders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, FinetuneResult]:
    home = tmp_path_factory.mktemp("choices")
    flags = {
        "training": {"epochs": 6},
        "optimizer": {"learning_rate": 5e-3, "layerwise_lr_decay": 1.0},
    }
    result = finetune(
        model=str(encoders["electra"]),
        train=write(home / "train.jsonl", toy(240, 0)),
        validation=write(home / "dev.jsonl", toy(80, 1)),
        output=home / "run",
        task="multiple-choice",
        config=resolve(FinetuneConfig, [*finetune_defaults("multiple-choice"), ("test", flags)]),
    )
    return home, result


def test_a_toy_is_learned(trained: tuple[Path, FinetuneResult]) -> None:
    _, result = trained
    assert result.score > 0.9
    assert (result.metric, set(result.metrics)) == ("accuracy", {"accuracy"})
    (task, reads) = (
        load_task(result.output),
        json.loads((result.output / "tokenizer_config.json").read_text()),
    )
    assert task == MultipleChoice(512)  # the task's default
    assert reads["model_max_length"] == 64  # all that the network reads


def test_the_model_answers_whatever_the_form(
    trained: tuple[Path, FinetuneResult], tmp_path: Path
) -> None:
    home, result = trained
    rows = toy(80, 1)
    answers = list(predict(model=result.output, input=str(home / "dev.jsonl")))
    assert [a["id"] for a in answers] == [row["id"] for row in rows]
    right = [a["choice"] == row["label"] for a, row in zip(answers, rows, strict=True)]
    assert sum(right) / 80 == result.metrics["accuracy"]
    texts = ["a film", "the play was _", "bad", "great"]
    (by_argument,) = predict(model=result.output, texts=texts)
    assert (by_argument["choice"], by_argument["text"]) == (1, "great")
    c3 = [[["a film"], [{"question": texts[1], "choice": texts[2:]}], "x"]]
    by_file = list(predict(model=result.output, input=write(tmp_path / "a.json", c3)))
    assert by_file == [by_argument | {"id": "x/0"}]
    line = json.dumps({"context": "a film", "question": texts[1], "choices": texts[2:]})
    (by_line,) = predict(model=result.output, input="-", stdin=io.StringIO(line))
    assert by_line == by_argument
    with pytest.raises(DataError, match="two options or more, in this order; 3 texts given"):
        predict(model=result.output, texts=texts[:3])
    with pytest.raises(DataError, match="standard input row 1 has no context or article"):
        list(predict(model=result.output, input="-", stdin=io.StringIO("a film")))


def test_command_line(
    trained: tuple[Path, FinetuneResult],
    encoders: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    home, _ = trained
    files = f"--train {home}/train.jsonl --validation {home}/dev.jsonl --output {tmp_path}/run"
    flags = "--task multiple-choice --training.max-steps 2 --data.max-length 24"
    assert run(f"finetune --model {encoders['modernbert']} {files} {flags}".split()) == 0
    assert load_task(tmp_path / "run") == MultipleChoice(24)
    capsys.readouterr()
    assert run(f"evaluate --model {tmp_path}/run --data {home}/dev.jsonl --json".split()) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["task"], result["metric"], result["n"]) == ("multiple-choice", "accuracy", 80)
    assert run(f"predict --model {tmp_path}/run --input {home}/dev.jsonl".split()) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(a["scores"]) for a in answers] == [len(row["choices"]) for row in toy(80, 1)]
    assert run(["predict", "a", "b", "--model", f"{tmp_path}/run"]) == 2
    assert "2 texts given" in capsys.readouterr().err


# official data

DATA = Path(os.environ.get("ELECTRA_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.mark.skipif(
    not DATA.is_dir(), reason=f"no data sets in {DATA}; set ELECTRA_DATA to run this"
)
@pytest.mark.parametrize(
    ("file", "questions", "passages", "options"),
    [
        ("race_middle/dev.jsonl", 1436, 368, {4}),
        ("race_middle/test.jsonl", 1436, 362, {4}),
        ("c3/c3-d-dev.json", 1825, None, {3, 4}),
        ("c3/c3-m-dev.json.gz", 1991, None, {2, 3, 4}),
        ("c3/c3-m-train.json.gz", 6013, None, {2, 3, 4}),
    ],
)
def test_official_counts(
    file: str, questions: int, passages: int | None, options: set[int]
) -> None:
    examples = list(read_choices(str(DATA / file)))
    assert len(examples) == len({e.id for e in examples}) == questions
    assert {len(e.choices) for e in examples} == options
    assert all(e.label is not None and e.label < len(e.choices) for e in examples)
    if passages is not None:
        assert len({str(e.id).rpartition("/")[0] for e in examples}) == passages
