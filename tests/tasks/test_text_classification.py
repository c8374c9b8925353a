import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from electra.config import FinetuneConfig, HeadConfig, LabelledDataConfig
from electra.errors import ConfigError, DataError
from electra.tasks import model_folder
from electra.tasks.batches import Feature
from electra.tasks.labelled_data import Columns, LabelledExample
from electra.tasks.model_folder import (
    find_encoder,
    load_tokenizer,
    longest_input,
    reads_token_types,
    save_model_folder,
)
from electra.tasks.objective import FinetuneObjective
from electra.tasks.predictor import Predictor
from electra.tasks.task import Prediction, load_task, save_task, task_class
from electra.tasks.text_classification import CLASSIFICATION, REGRESSION, TextClassification
from tests.tiny import make_encoder

CONFIG = FinetuneConfig()
SINGLE = TextClassification(CLASSIFICATION, ("bad", "good"), Columns("text", None, "label"), 32)
PAIR = TextClassification(CLASSIFICATION, ("no", "yes"), Columns("a", "b", "label"), 32)
SCORES = TextClassification(REGRESSION, (), Columns("a", "b", "score"), 32)


def learn(path: Path, rows: list[dict[str, object]]) -> TextClassification:
    path.write_text("\n".join(map(json.dumps, rows)))
    return TextClassification.from_training(str(path), CONFIG)[0]


def rows(labels: list[object]) -> list[dict[str, object]]:
    return [{"text": f"text {i}", "label": label} for i, label in enumerate(labels)]


def test_labels_are_sorted_names(tmp_path: Path) -> None:
    assert learn(tmp_path / "a.jsonl", rows(["b", "a", "b"])).labels == ("a", "b")
    assert learn(tmp_path / "a.jsonl", rows([10, 9, 10, 2])).labels == ("2", "9", "10")
    assert learn(tmp_path / "a.jsonl", rows([1.0, 0.0, 1.0])).labels == ("0", "1")


def test_numbers_that_are_not_whole_are_regression(tmp_path: Path) -> None:
    task = learn(tmp_path / "a.jsonl", rows(["2.4", "5.0", "1.0"]))
    assert task.problem_type == REGRESSION
    assert task.labels == ()
    assert task.metric == "pearson"


def test_columns_that_cannot_be_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='column "label" holds one label alone, "a"'):
        learn(tmp_path / "a.jsonl", rows(["a", "a"]))
    for values in (list(range(30)), [0, *range(29)], [i // 2 for i in range(41)]):
        with pytest.raises(
            DataError, match=r"holds \d\d values in \d\d rows, too many to be labels; name the"
        ):
            learn(tmp_path / "a.jsonl", rows([f"x{i}" for i in values]))
    for values in (list(range(20)), [i // 2 for i in range(80)]):
        assert learn(tmp_path / "a.jsonl", rows([f"x{i}" for i in values])).labels


def test_labels_of_one_number_have_an_order(tmp_path: Path) -> None:
    labels = [*("1", "01", "001"), *(f"{'0' * i}2" for i in range(9))]
    learned = learn(tmp_path / "a.jsonl", rows(list(labels))).labels
    assert learned == ("001", "01", "1", *(f"{'0' * i}2" for i in reversed(range(9))))


def test_an_unseen_label_is_named_with_file_and_row(tmp_path: Path) -> None:
    path = tmp_path / "dev.jsonl"
    path.write_text("\n".join(map(json.dumps, rows(["good", "maybe"]))))
    with pytest.raises(
        DataError,
        match=r'dev\.jsonl row 2 has the label "maybe", which the training data does not have; '
        "known labels: bad, good",
    ):
        SINGLE.read(str(path))
    path.write_text(json.dumps({"a": "x", "b": "y", "score": "high"}))
    with pytest.raises(DataError, match='row 1 has the label "high"; the training data has finite'):
        SCORES.read(str(path))


def test_one_sentence_and_two_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "dev.jsonl"
    path.write_text(json.dumps({"text": "x", "label": "yes"}))
    with pytest.raises(DataError, match="gives one sentence, the model reads two; name the second"):
        PAIR.read(str(path))
    path.write_text(json.dumps({"sentence1": "x", "sentence2": "y", "label": "good"}))
    with pytest.raises(DataError, match="gives two sentences, the model reads one"):
        SINGLE.read(str(path))
    chosen = SINGLE.read(str(path), LabelledDataConfig(text_column="sentence2"))
    assert chosen[0].text == "y"


def test_task_json_round_trip(tmp_path: Path) -> None:
    for task in (SINGLE, PAIR, SCORES):
        save_task(task, tmp_path)
        assert load_task(tmp_path) == task
    record = json.loads((tmp_path / "task.json").read_text())
    assert record["task"] == "text-classification"
    assert {"electra_version", "labels", "columns", "max_length", "has_pair"} <= record.keys()


def test_damaged_model_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone is not a folder"):
        load_task(tmp_path / "gone")
    with pytest.raises(DataError, match=r"has no task\.json; give a folder that `finetune` wrote"):
        load_task(tmp_path)
    (tmp_path / "task.json").write_text("{")
    with pytest.raises(DataError, match=r"task\.json cannot be read"):
        load_task(tmp_path)
    (tmp_path / "task.json").write_text('{"task": "text-classification"}')
    with pytest.raises(DataError, match="does not describe a text-classification task"):
        load_task(tmp_path)


def test_unknown_task() -> None:
    with pytest.raises(ConfigError, match='no task "poetry"; allowed: text-classification'):
        task_class("poetry")
    with pytest.raises(ConfigError, match=r'did you mean "text-classification"\? \(allowed: text-'):
        task_class("text-clasification")


@pytest.mark.parametrize("family", ["modernbert", "electra", "bert", "roberta"])
def test_any_encoder_gets_a_head(encoders: dict[str, Path], family: str, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = PAIR.build_model(str(encoders[family]), HeadConfig())
    body = AutoModel.from_pretrained(encoders[family])
    for name, tensor in body.state_dict().items():
        if "pooler" not in name:
            assert torch.equal(model.base_model.state_dict()[name], tensor), name
    assert model.config.id2label == {0: "no", 1: "yes"}
    tokenizer = load_tokenizer(str(encoders[family]))
    assert reads_token_types(model) == (family in ("bert", "electra", "roberta"))
    predictor = Predictor(PAIR, model, tokenizer)
    texts = [("a good film", "the play was dull"), ("one", "two")]
    ours = predictor.logits(predictor.features([LabelledExample(0, *t) for t in texts]))

    tokenizer.model_max_length = 32
    save_model_folder(tmp_path, PAIR, model, tokenizer)
    assert (tmp_path / "vocab.txt").read_text().splitlines()[:2] == ["[PAD]", "[UNK]"]
    assert json.loads((tmp_path / "tokenizer.json").read_text())["truncation"] is None
    reopened = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    own = AutoTokenizer.from_pretrained(tmp_path)
    assert own.model_max_length == 32
    for text, logits in zip(texts, ours, strict=True):
        encoded = own(*text, return_tensors="pt", return_token_type_ids=reads_token_types(model))
        with torch.inference_mode():
            theirs = reopened(**encoded).logits[0].numpy()
        np.testing.assert_allclose(theirs, logits, atol=1e-6)


def test_a_special_token_in_a_text_is_text(encoders: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(str(encoders["bert"]))
    (feature,) = PAIR.features(
        PAIR.of_texts([("a [SEP] film", "[MASK]")]), tokenizer, token_types=True
    )
    special = tokenizer.convert_tokens_to_ids(["[UNK]", "[SEP]", "[MASK]"])
    assert [feature.input_ids.count(i) for i in special] == [6, 2, 0]
    assert sum(feature.token_type_ids or []) == 4


def test_pooling(encoders: dict[str, Path]) -> None:
    modern = str(encoders["modernbert"])
    assert SINGLE.build_model(modern, HeadConfig()).config.classifier_pooling == "mean"
    cls = SINGLE.build_model(modern, HeadConfig(pooling="cls", dropout=0.25))
    assert cls.config.classifier_pooling == "cls"
    assert "(drop): Dropout(p=0.25" in str(cls)
    with pytest.raises(ConfigError, match=r"--model\.pooling is mean; electra reads a sentence"):
        SINGLE.build_model(str(encoders["electra"]), HeadConfig(pooling="mean"))


def test_from_scratch_has_the_shape_but_not_the_weights(encoders: dict[str, Path]) -> None:
    path = str(encoders["electra"])
    trained = SINGLE.build_model(path, HeadConfig())
    fresh = SINGLE.build_model(path, HeadConfig(), from_scratch=True)
    name = "electra.encoder.layer.0.attention.self.query.weight"
    assert fresh.state_dict().keys() == trained.state_dict().keys()
    assert not torch.equal(fresh.state_dict()[name], trained.state_dict()[name])


def test_a_run_folder_stands_for_its_encoder(tmp_path: Path) -> None:
    make_encoder(tmp_path / "encoder")
    assert find_encoder(str(tmp_path)) == str(tmp_path / "encoder")


def test_encoders_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"holds no config\.json, neither itself nor in encoder/"):
        find_encoder(str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"gone does not exist \(a folder or a Hub id is wanted\)"
    ):
        find_encoder(str(tmp_path / "gone"))
    monkeypatch.setattr(model_folder, "hub_is_reachable", lambda: False)
    with pytest.raises(ConfigError, match="owner/name is no folder here and could not be had from"):
        SINGLE.build_model("owner/name", HeadConfig())
    (tmp_path / "config.json").write_text('{"model_type": "electra"}')
    with pytest.raises(ConfigError, match=r"cannot be opened: .*model\.safetensors"):
        SINGLE.build_model(str(tmp_path), HeadConfig())


def test_weights_of_another_network_are_refused(encoders: dict[str, Path], tmp_path: Path) -> None:
    config = (encoders["bert"] / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    weights = (encoders["modernbert"] / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(ConfigError, match=r"lacks \d+ tensors of a bert model, bert\."):
        SINGLE.build_model(str(tmp_path), HeadConfig())


def test_longest_input(encoders: dict[str, Path]) -> None:
    lengths = {
        family: longest_input(SINGLE.build_model(str(path), HeadConfig()).config)
        for family, path in encoders.items()
    }
    assert lengths == {"modernbert": 64, "electra": 64, "bert": 64, "roberta": 63}


def test_features_are_cut_and_typed(encoders: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(str(encoders["bert"]))
    example = LabelledExample(0, "good " * 50, "bad dull", "yes")
    (feature,) = PAIR.features([example], tokenizer, token_types=True)
    assert len(feature.input_ids) == 32
    assert feature.token_type_ids == [0] * 29 + [1] * 3
    assert feature.target == 1
    (shorter,) = PAIR.features([example], tokenizer, token_types=False, max_length=16)
    assert len(shorter.input_ids) == 16
    assert shorter.token_type_ids is None
    assert PAIR.features([], tokenizer, token_types=True) == []


@pytest.mark.parametrize("family", ["modernbert", "electra", "bert", "roberta"])
def test_a_fresh_head_of_scores_begins_at_their_mean(family: str, tmp_path: Path) -> None:
    """With weights of zero the answer to everything is the mean of the training scores."""
    encoder = str(make_encoder(tmp_path / family, family))
    model = SCORES.build_model(encoder, HeadConfig())
    labels = [0.5, 1.0, 4.5]
    features = [Feature(i, [2, 5, 3], target=target) for i, target in enumerate(labels)]
    SCORES.start_head(model, features)
    heads = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 1]
    assert [head.bias.tolist() for head in heads] == [[2.0]]
    classes = SINGLE.build_model(encoder, HeadConfig())
    before = {name: tensor.clone() for name, tensor in classes.state_dict().items()}
    SINGLE.start_head(classes, features)
    assert all(torch.equal(before[name], x) for name, x in classes.state_dict().items())


def test_loss_is_a_sum_and_regression_a_squared_error() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    loss = SINGLE.loss(logits, torch.tensor([0, 0]))
    expected = np.log1p(np.exp(-2)) + np.log1p(np.exp(1))
    assert loss.total.item() == pytest.approx(expected)
    correct, count = loss.metrics["accuracy"]
    assert (int(correct), count) == (1, 2)
    smoothed = SINGLE.loss(logits, torch.tensor([0, 0]), label_smoothing=0.2)
    other = np.log1p(np.exp(2)) + np.log1p(np.exp(-1))
    assert smoothed.total.item() == pytest.approx(0.9 * expected + 0.1 * other)
    squared = SCORES.loss(torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 1.0]))
    assert squared.total.item() == pytest.approx(5.0)
    assert SCORES.targets([Feature(0, [1], target=2.5)], 1).dtype == torch.float32


def test_decode_metrics_and_collapse() -> None:
    examples = [LabelledExample(i, "x", None, label) for i, label in enumerate(["bad", "good"])]
    logits = [np.array([1.0, 0.0], np.float32), np.array([0.0, 3.0], np.float32)]
    answers = SINGLE.decode(examples, [], logits)
    assert [a["label"] for a in answers] == ["bad", "good"]
    assert answers[1]["score"] == pytest.approx(1 / (1 + np.exp(-3)))
    assert sum(answers[0]["scores"].values()) == pytest.approx(1)
    assert SINGLE.metrics(examples, answers) == {
        "accuracy": 1.0,
        "macro_f1": 1.0,
        "mcc": 1.0,
        "auc": 1.0,
    }
    assert SINGLE.collapsed(examples, answers) is None
    same = SINGLE.decode(examples, [], logits[:1] * 2)
    assert 'answers "bad" to all 2 validation rows' in str(SINGLE.collapsed(examples, same))
    scored = [LabelledExample(i, "x", "y", label) for i, label in enumerate(["1.5", "3"])]
    answers = SCORES.decode(scored, [], [np.array([0.0]), np.array([2.0])])
    assert SCORES.metrics(scored, answers) == {
        "pearson": pytest.approx(1),
        "spearman": pytest.approx(1),
    }
    assert "the same number" in str(SCORES.collapsed(scored, [answers[0]] * 2))


@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e5])
def test_a_collapse_is_one_whatever_the_scale(scale: float) -> None:
    examples = [LabelledExample(i, "x", "y", str(label * scale)) for i, label in enumerate([1, 3])]

    def answers(spread: float) -> list[Prediction]:
        return SCORES.decode(examples, [], [np.array([0.0]), np.array([spread * scale])])

    assert SCORES.collapsed(examples, answers(0.01)) is None
    assert "the same number" in str(SCORES.collapsed(examples, answers(0.001)))


@pytest.mark.parametrize(
    ("task", "given", "message"),
    [
        (PAIR, ("a", "b", "c"), r"two sentences, \(text, text\); \('a', 'b', 'c'\) was given"),
        (PAIR, (1, 2), r"two sentences, \(text, text\); \(1, 2\) was given"),
        (PAIR, "ab", r"two sentences, \(text, text\); 'ab' was given"),
        (PAIR, None, "two sentences"),
        (SINGLE, 3, "one sentence, a text; 3 was given"),
        (SINGLE, ["a"], "one sentence"),
        (SINGLE, "a\udcff", r"input 0 is not UTF-8: character 2 is byte 0xff"),
        (PAIR, ("a", "\ud800"), r"input 0 is not UTF-8: character 1 is U\+D800"),
    ],
)
def test_inputs_of_another_form(task: TextClassification, given: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        task.of_texts([given])
    assert PAIR.of_texts([["a", "b"]]) == PAIR.of_texts([("a", "b")])


def test_only_the_head_learns(encoders: dict[str, Path]) -> None:
    model = SINGLE.build_model(str(encoders["bert"]), HeadConfig())
    objective = FinetuneObjective(SINGLE, model, train_encoder=False)
    learning = {name for name, p in objective.named_parameters() if p.requires_grad}
    parts = ("model.classifier", "model.bert.pooler.dense")  # the pooler is of the head
    assert learning == {f"{part}.{name}" for part in parts for name in ("weight", "bias")}


def test_predictor_keeps_order_whatever_the_batch_size(encoders: dict[str, Path]) -> None:
    model = SINGLE.build_model(str(encoders["modernbert"]), HeadConfig())
    tokenizer = load_tokenizer(str(encoders["modernbert"]))
    texts = [" ".join(["good"] * (i * 7 % 11 + 1)) + " film" * (i % 3) for i in range(20)]
    one = Predictor(SINGLE, model.train(), tokenizer, batch_size=1).predict(texts)
    assert model.training
    seen: list[tuple[int, int]] = []
    for size in (3, 64):
        many = Predictor(SINGLE, model, tokenizer, batch_size=size).predict(
            texts, lambda done, total: seen.append((done, total))
        )
        for a, b in zip(one, many, strict=True):
            assert a["scores"]["good"] == pytest.approx(b["scores"]["good"], abs=1e-6)
    assert seen[0] == (3, 20)
    assert seen[-1] == (20, 20)
    with pytest.raises(DataError, match="input 0: the model reads one sentence"):
        Predictor(SINGLE, model, tokenizer).predict([("a", "b")])
    assert Predictor(SINGLE, model, tokenizer).predict([]) == []
