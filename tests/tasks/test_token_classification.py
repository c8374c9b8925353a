import io
import json
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from electra.cli import run
from electra.config import FINETUNE_DEFAULTS, FinetuneConfig, HeadConfig
from electra.errors import ConfigError, DataError
from electra.evaluate import evaluate
from electra.finetune import FinetuneResult, finetune
from electra.predict import predict
from electra.recipe import resolve
from electra.tasks.batches import Feature, LengthBatches, pad
from electra.tasks.model_folder import load_tokenizer, save_model_folder
from electra.tasks.objective import FinetuneObjective
from electra.tasks.predictor import Predictor
from electra.tasks.tagged_data import TaggedExample, WordRule, to_example
from electra.tasks.tagged_files import TagColumns, TaggedRow
from electra.tasks.task import load_task, save_task
from electra.tasks.token_classification import IGNORED, TokenClassification
from electra.training.noise import Noise
from tests.tiny import BAD, GOOD

TASK = TokenClassification("BIO", ("BAD", "GOOD"), 32, WordRule(), TagColumns())
JOINT = TokenClassification("BMES", ("BAD", "GOOD"), 32, WordRule(), TagColumns(), ("no", "yes"))
FAMILIES = ["modernbert", "electra", "bert", "roberta"]


def tagged(count: int, seed: int, scheme: str = "BIO") -> list[tuple[list[str], list[str], str]]:
    """(words, tags, intent): `very` goes with what follows it; the rest tells the intent."""
    generator = random.Random(seed)
    rest = {
        "yes": ["film", "play", "book", "a", "the"],
        "no": ["was", "is", "here", "there", "one"],
    }
    rows = []
    for i in range(count):
        intent = "yes" if i % 2 else "no"
        words: list[str] = []
        tags: list[str] = []
        for _ in range(generator.randint(1, 3)):
            middle = generator.choices(rest[intent], k=generator.randint(1, 4))
            words += middle
            tags += ["O"] * len(middle)
            judgement = generator.choice(GOOD + BAD)
            label = "GOOD" if judgement in GOOD else "BAD"
            very = ["very"] * generator.randint(0, 1)
            words += [*very, judgement]
            if scheme == "BIO":
                tags += [f"B-{label}", f"I-{label}"][: len(very) + 1]
            else:
                tags += [f"B-{label}", f"E-{label}"] if very else [f"S-{label}"]
        rows.append((words, tags, intent))
    return rows


def write_conll(path: Path, count: int, seed: int) -> Path:
    lines = []
    for words, tags, _ in tagged(count, seed):
        lines += [f"{w} {t}\n" for w, t in zip(words, tags, strict=True)] + ["\n"]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def write_atis(folder: Path, count: int, seed: int) -> Path:
    folder.mkdir()
    rows = tagged(count, seed, "BIOES")
    for name, column in (("seq.in", [" ".join(w) for w, _, _ in rows]),
                         ("seq.out", [" ".join(t) for _, t, _ in rows]),
                         ("label", [i for _, _, i in rows])):  # fmt: skip
        (folder / name).write_text("".join(line + "\n" for line in column))
    return folder


def examples_of(count: int, seed: int, *, joint: bool = False) -> list[TaggedExample]:
    scheme = "BIOES" if joint else "BIO"
    return [
        to_example(
            TaggedRow(i, "", words=tuple(words), tags=tuple(tags), intent=intent),
            WordRule(),
            scheme,
        )
        for i, (words, tags, intent) in enumerate(tagged(count, seed, scheme))
    ]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tagging")
    write_conll(folder / "train.txt", 160, 0)
    write_conll(folder / "dev.txt", 60, 1)
    write_atis(folder / "train", 240, 0)
    write_atis(folder / "dev", 60, 1)
    return folder


def learn(home: Path, encoder: Path, output: Path, ending: str, epochs: int) -> FinetuneResult:
    settings = {
        "training": {"epochs": epochs, "global_batch_size": 16},
        "optimizer": {"learning_rate": 5e-3},
    }
    return finetune(
        model=str(encoder),
        train=str(home / f"train{ending}"),
        validation=str(home / f"dev{ending}"),
        output=output,
        task="token-classification",
        config=resolve(FinetuneConfig, [("defaults", FINETUNE_DEFAULTS), ("test", settings)]),
    )


@pytest.fixture(scope="module")
def model(home: Path, encoders: dict[str, Path]) -> Path:
    """A model that has learned."""
    result = learn(home, encoders["modernbert"], home / "model", ".txt", 20)
    assert result.metric == "f1"
    assert result.score > 0.95
    return result.output


@pytest.fixture(scope="module")
def joint(home: Path, encoders: dict[str, Path]) -> Path:
    """Slots and intents."""
    result = learn(home, encoders["electra"], home / "joint", "", 12)
    assert set(result.metrics) == {
        "f1", "precision", "recall", "intent_accuracy", "sentence_accuracy"
    }  # fmt: skip
    assert result.score > 0.95
    assert result.metrics["intent_accuracy"] > 0.9
    assert result.metrics["sentence_accuracy"] > 0.85
    return result.output


def test_task_json_round_trip(tmp_path: Path) -> None:
    for task in (TASK, JOINT):
        save_task(task, tmp_path)
        assert load_task(tmp_path) == task
    record = json.loads((tmp_path / "task.json").read_text())
    assert record["scheme"] == "BMES"
    assert record["metric"] == "f1"
    record["scheme"] = "XYZ"
    (tmp_path / "task.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="does not describe a token-classification task"):
        load_task(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("task", [TASK, JOINT], ids=["tags", "joint"])
def test_the_auto_class_opens_it(
    encoders: dict[str, Path], family: str, task: TokenClassification, tmp_path: Path
) -> None:
    from transformers import AutoModel, AutoModelForTokenClassification, AutoTokenizer

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = task.build_model(str(encoders[family]), HeadConfig())
    body = AutoModel.from_pretrained(encoders[family]).state_dict()
    for name, tensor in network.base_model.state_dict().items():
        assert torch.equal(body[name], tensor), name
    assert tuple(network.config.id2label.values()) == task.labels
    tokenizer = load_tokenizer(str(encoders[family]))
    predictor = Predictor(task, network, tokenizer)
    features = predictor.features(task.of_texts(["the play was very good"]))
    ours = predictor.logits(features)[0]
    save_model_folder(tmp_path, task, network, tokenizer)
    theirs = AutoModelForTokenClassification.from_pretrained(tmp_path).eval()
    encoded = AutoTokenizer.from_pretrained(tmp_path)("the play was very good", return_tensors="pt")
    assert encoded["input_ids"].tolist() == [features[0].input_ids]
    with torch.inference_mode():
        np.testing.assert_allclose(ours, theirs(**encoded).logits[0].numpy(), atol=1e-5)
    again = Predictor.open(tmp_path)
    np.testing.assert_array_equal(again.logits(features)[0], ours)


def test_labels_stand_on_first_pieces(encoders: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(str(encoders["bert"]))
    rows = [(["plays", "here", "goods"], ["B-GOOD", "O", "B-BAD"]), (["goodly"], ["B-GOOD"])]
    examples = [
        to_example(TaggedRow(0, "", words=tuple(w), tags=tuple(t)), WordRule()) for w, t in rows
    ]
    features = TASK.features(examples, tokenizer, token_types=True)
    pieces = [tokenizer.convert_ids_to_tokens(f.input_ids) for f in features]
    assert pieces[0] == ["[CLS]", "play", "##s", "here", "good", "##s", "[SEP]"]
    good, bad = TASK.labels.index("B-GOOD"), TASK.labels.index("B-BAD")
    targets = TASK.targets(features, 7)
    x = IGNORED
    assert targets.tolist() == [[x, good, x, 0, bad, x, x], [x, good, x, x, x, x, x]]
    assert TASK.num_targets(targets) == 4
    assert features[0].token_type_ids == [0] * 7


def test_the_loss_is_a_mean_over_words_and_one_over_sentences(encoders: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(str(encoders["bert"]))
    examples = examples_of(5, 3, joint=True)
    features = JOINT.features(examples, tokenizer, token_types=False)
    length = pad(features, 0)["input_ids"].shape[1]
    targets = JOINT.targets(features, length)
    assert targets.shape == (5, length + 1)
    logits = torch.randn(5, length, len(JOINT.labels))
    total = 0.0
    for row, example in enumerate(examples):
        count = len(example.words)
        probabilities = logits[row, 1 : count + 1, :9].log_softmax(-1)
        tags = JOINT._targets_of(example)
        assert tags is not None
        total -= sum(float(p[t]) for p, t in zip(probabilities, tags, strict=True))
        intent = logits[row, 1 : count + 1, 9:].mean(0).log_softmax(-1)
        total -= count * float(intent[JOINT.intents.index(example.intent or "")])
    loss = JOINT.loss(logits, targets)
    assert loss.total.item() == pytest.approx(total, rel=1e-5)
    assert JOINT.num_targets(targets) == sum(len(e.words) for e in examples)
    assert loss.metrics["intent_accuracy"][1] == 5
    smooth = JOINT.loss(logits, targets, label_smoothing=0.1)
    assert smooth.total != loss.total


@pytest.mark.parametrize("task", [TASK, JOINT], ids=["tags", "joint"])
def test_gradients_do_not_depend_on_the_batch(
    encoders: dict[str, Path], task: TokenClassification
) -> None:
    network = task.build_model(str(encoders["bert"]), HeadConfig(dropout=0.0)).eval()
    tokenizer = load_tokenizer(str(encoders["bert"]))
    features = task.features(examples_of(8, 4, joint=task is JOINT), tokenizer, token_types=True)
    objective = FinetuneObjective(task, network)

    def total(size: int) -> float:
        stream = LengthBatches(features, task.targets, pad_token_id=0, global_batch_size=8, seed=0)
        losses = 0.0
        for start in range(0, 8, size):
            batch, counts = objective.prepare(stream.batch(start, size), Noise(0))
            assert counts["task_loss"] > 0
            losses += objective(batch, Noise(0)).losses["task_loss"].item()
        return losses

    assert total(8) == pytest.approx(total(1), rel=1e-5)


def test_long_texts_get_one_prediction_a_word(encoders: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(str(encoders["bert"]))
    generator = random.Random(0)
    short = TokenClassification("BIO", ("A",), 12, WordRule(), TagColumns())
    texts = [
        " ".join(generator.choices(["film", "plays", "goodly", "一", "x"], k=k))
        for k in (0, 1, 9, 10, 11, 30, 77)
    ]
    examples = short.of_texts([*texts, "films" * 40, "   "])
    features = short.features(examples, tokenizer, token_types=True)
    assert max(len(f.input_ids) for f in features) == 12
    found: dict[int, list[int]] = {i: [] for i in range(len(examples))}
    for feature in features:
        positions, words = feature.origin
        assert len(positions) == len(words) > 0
        found[feature.example] += words
        for position, word in zip(positions, words, strict=True):
            start, end = examples[feature.example].words[word]
            text = examples[feature.example].text[start:end]
            first = tokenizer(text, add_special_tokens=False)["input_ids"][0]
            assert feature.input_ids[position] == first
    for i, example in enumerate(examples):
        assert sorted(found[i]) == list(range(len(example.words)))
    long = [f for f in features if f.example == 6]
    for feature in long:  # whatever is cut stands at least a word away
        positions, words = feature.origin
        if words[0] > 0:
            assert positions[0] > 1
        if words[-1] < len(examples[6].words) - 1:
            assert positions[-1] < len(feature.input_ids) - 2
    answers = Predictor(
        short, short.build_model(str(encoders["bert"]), HeadConfig()), tokenizer
    ).predict_examples(examples)
    assert answers[0] == {"entities": []}
    assert len(answers) == len(examples)


def test_spaces_stay_before_byte_level_pieces() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["the film was good, and 北京 was not"] * 5, trainer)
    backend.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), add_prefix_space=False
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", cls_token="<s>", sep_token="</s>"
    )
    text = "the film was good, 😀"
    (example,) = TASK.of_texts([text])
    (feature,) = TASK.features([example], tokenizer, token_types=False)
    assert feature.input_ids == tokenizer(text)["input_ids"]  # spaces are where they were
    assert len(feature.origin[1]) == len(example.words) == 6


def test_a_word_that_leaves_no_token_is_outside(encoders: dict[str, Path]) -> None:
    network = TASK.build_model(str(encoders["bert"]), HeadConfig())
    predictor = Predictor(TASK, network, load_tokenizer(str(encoders["bert"])))
    examples = TASK.of_texts([["\x00"], ["film", "\x00", "good"]])
    features = predictor.features(examples)
    assert [f.origin[1] for f in features] == [[0, 2]]
    answers = predictor.predict_examples(examples)
    assert answers[0] == {"text": "\x00", "entities": []}


def logits_for(task: TokenClassification, example: TaggedExample, tags: list[str]) -> list[Any]:
    """A feature and logits in favour of those tags, nine to one and better."""
    rows = np.zeros((len(tags) + 2, len(task.labels)), dtype=np.float32)
    for i, tag in enumerate(tags):
        rows[i + 1, task.labels.index(tag)] = 5.0
    words = list(range(len(tags)))
    feature = Feature(0, [0] * len(rows), origin=([i + 1 for i in words], words))
    return [example], [feature], [rows]


TEXTS = {
    "Zoë, of “St. Ives”.": ["B-GOOD", "O", "O", "O", "B-BAD", "I-BAD", "I-BAD", "O", "O"],
    "我爱北京天安门！": ["O", "O", "B-GOOD", "I-GOOD", "B-BAD", "I-BAD", "I-BAD", "O"],
    "hi 😀😀 𠀀 there": ["O", "B-BAD", "B-BAD", "B-GOOD", "I-GOOD"],
}


@pytest.mark.parametrize("text", TEXTS)
def test_offsets_point_into_the_text(text: str) -> None:
    (example,) = TASK.of_texts([text])
    (answer,) = TASK.decode(*logits_for(TASK, example, TEXTS[text]))
    assert list(answer) == ["entities"]
    expected = {
        "Zoë, of “St. Ives”.": ["Zoë", "St. Ives"],
        "我爱北京天安门！": ["北京", "天安门"],
        "hi 😀😀 𠀀 there": ["😀", "😀", "𠀀 there"],
    }[text]
    assert [e["text"] for e in answer["entities"]] == expected
    for entity in answer["entities"]:
        assert list(entity) == ["start", "end", "text", "label", "score"]
        assert text[entity["start"] : entity["end"]] == entity["text"]
        probability = np.exp(5) / (np.exp(5) + len(TASK.labels) - 1)
        assert entity["score"] == pytest.approx(probability)


def test_inconsistent_tags_are_repaired() -> None:
    (example,) = TASK.of_texts(["a b c"])
    examples, features, (rows,) = logits_for(TASK, example, ["O", "I-GOOD", "B-BAD"])
    rows[2, TASK.labels.index("B-GOOD")] = 4.0
    (answer,) = TASK.decode(examples, features, [rows])
    found = [(e["text"], e["label"]) for e in answer["entities"]]
    assert found == [("b", "GOOD"), ("c", "BAD")]
    share = np.exp(rows[2, TASK.labels.index("B-GOOD")]) / np.exp(rows[2]).sum()
    assert answer["entities"][0]["score"] == pytest.approx(share)
    (example,) = JOINT.of_texts([["a", "b", "c"]])  # B without an end
    (answer,) = JOINT.decode(*logits_for(JOINT, example, ["B-GOOD", "O", "S-BAD"]))
    assert answer["text"] == "a b c"
    assert [e["text"] for e in answer["entities"]] == ["c"]


def test_metrics_compare_whole_entities() -> None:
    examples = examples_of(2, 0, joint=True)
    right = [
        {
            "intent": e.intent,
            "entities": [{"start": s, "end": t, "label": n} for s, t, n in e.entities or ()],
        }
        for e in examples
    ]
    assert set(JOINT.metrics(examples, right).values()) == {1.0}
    count = sum(len(e.entities or ()) for e in examples)
    wrong = json.loads(json.dumps(right))
    wrong[0]["entities"][0]["end"] += 1
    wrong[1]["intent"] = "no"
    metrics = JOINT.metrics(examples, wrong)
    assert metrics["f1"] == metrics["precision"] == pytest.approx(1 - 1 / count)
    assert (metrics["intent_accuracy"], metrics["sentence_accuracy"]) == (0.5, 0.0)
    rows = JOINT.per_class(examples, right)
    assert sum(row["support"] for row in rows) == count
    assert JOINT.collapsed(examples, right) is None
    nothing = [{"entities": [], "intent": "no"}] * 2
    assert "finds no entity in any of the 2" in (JOINT.collapsed(examples, nothing) or "")


def test_it_learns_and_its_batches_do_not_matter(model: Path, home: Path) -> None:
    examples = examples_of(40, 9)
    one, many = (Predictor.open(model, batch_size=size) for size in (1, 16))
    answers = [p.predict_examples(examples) for p in (one, many)]
    for single, batched in zip(*answers, strict=True):
        assert [dict(e, score=0) for e in single["entities"]] == [
            dict(e, score=0) for e in batched["entities"]
        ]
        for a, b in zip(single["entities"], batched["entities"], strict=True):
            assert a["score"] == pytest.approx(b["score"], abs=1e-5)
    report = json.loads((model / "report.json").read_text())
    assert evaluate(model=model, data=str(home / "dev.txt"))["metrics"] == report["metrics"]
    (answer,) = many.predict(["The film  VERY good\tthe book dull "])
    found = [(e["start"], e["end"], e["text"], e["label"]) for e in answer["entities"]]
    assert found == [(10, 19, "VERY good", "GOOD"), (29, 33, "dull", "BAD")]


def test_intents_come_with_slots(joint: Path) -> None:
    answers = list(predict(model=joint, texts=["the play a very good", "was dull is"]))
    assert list(answers[0]) == ["id", "entities", "intent", "intent_score"]
    assert [a["intent"] for a in answers] == ["yes", "no"]
    assert 0.5 < answers[0]["intent_score"] <= 1
    assert [e["text"] for e in answers[0]["entities"]] == ["very good"]


@pytest.mark.parametrize("name", ["a.txt", "a.conll", "a.jsonl", "a.json", "folder", "words.txt"])
def test_inputs_of_predict(joint: Path, tmp_path: Path, name: str) -> None:
    words = ["the", "film", "was", "very", "good"]
    path = tmp_path / name
    columns = None
    if name.endswith(("json", "jsonl")):
        path.write_text(json.dumps({"id": "z", "tokens": words}) + "\n")
    elif name == "folder":
        path.mkdir()
        (path / "seq.in").write_text(" ".join(words) + "\n")
    elif name == "words.txt":
        from electra.config import LabelledDataConfig

        path.write_text("\n".join(words) + "\n")
        columns = LabelledDataConfig(text_column="0")
    else:
        path.write_text("".join(f"{word} O\n" for word in words))
    (answer,) = predict(model=joint, input=str(path), columns=columns)
    assert answer["id"] == ("z" if "json" in name else 0)
    assert answer["text"] == "the film was very good"
    (entity,) = answer["entities"]
    assert (entity["start"], entity["end"], entity["label"]) == (13, 22, "GOOD")


def test_lines_of_text_and_standard_input(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a very good film\n\nthe dull play\n")
    answers = list(predict(model=model, input=str(tmp_path / "a.txt")))
    assert [[e["text"] for e in a["entities"]] for a in answers] == [["very good"], ["dull"]]
    assert "text" not in answers[0]
    stream = io.StringIO('{"text": "a good film"}\n{"tokens": ["dull"]}\n')
    answers = list(predict(model=model, input="-", stdin=stream))
    assert [a["entities"][0]["text"] for a in answers] == ["good", "dull"]
    with pytest.raises(DataError, match="standard input holds no rows"):
        list(predict(model=model, input="-", stdin=io.StringIO("")))
    (tmp_path / "b.jsonl").write_text('{"body": 3}\n')
    with pytest.raises(DataError, match=r'b\.jsonl row 1 has no "text" .nor tokens.; it has: body'):
        list(predict(model=model, input=str(tmp_path / "b.jsonl")))
    with pytest.raises(DataError, match="input 0: the model reads a text or a list of words"):
        Predictor.open(model).predict([3])


def test_command_line(
    home: Path,
    model: Path,
    encoders: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "run"
    command = ["finetune", "--task", "token-classification", "--model", str(encoders["bert"])]
    command += ["--train", str(home / "train.txt"), "--validation", str(home / "dev.txt")]
    command += ["--output", str(output), "--training.max-steps", "4"]
    assert run(command) == 0
    capsys.readouterr()
    assert run(["evaluate", "--model", str(output), "--data", str(home / "dev.txt"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["task"], result["metric"], result["n"]) == ("token-classification", "f1", 60)
    assert set(result["metrics"]) == {"f1", "precision", "recall"}
    assert run(["predict", "--model", str(model), "--json", "was very good 😀 dull"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {(4, 13), (16, 20)} <= {(e["start"], e["end"]) for e in answer["entities"]}
    assert run(["predict", "--model", str(model), "was very good"]) == 0
    assert capsys.readouterr().out == "0\tvery good [GOOD]\n"
    wrong = [*command, "--overwrite"]
    wrong[wrong.index("--train") + 1] = str(tmp_path / "gone")
    assert run(wrong) == 2
    assert "gone does not exist" in capsys.readouterr().err


def test_a_model_of_another_task(model: Path, home: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="or what the model was made for: token-classification"):
        evaluate(model=model, data=str(home / "dev.txt"), task="text-classification")
    from electra.tasks.labelled_data import Columns
    from electra.tasks.text_classification import CLASSIFICATION, TextClassification

    other = TextClassification(CLASSIFICATION, ("a", "b"), Columns("text", None, "label"), 32)
    network = other.build_model(str(model), HeadConfig())
    save_model_folder(tmp_path, other, network, load_tokenizer(str(model)))
    with pytest.raises(ConfigError, match="or what the model was made for: text-classification"):
        evaluate(model=tmp_path, data=str(home / "dev.txt"), task=TASK.name)
    save_task(TASK, tmp_path)  # says what it is not
    with pytest.raises(DataError, match=r"names other outputs \(a, b\) than its task\.json"):
        evaluate(model=tmp_path, data=str(home / "dev.txt"))
