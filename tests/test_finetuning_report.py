"""What a person sees after fine-tuning: report.html and README.md, and `evaluate --report`."""

import json
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from electra.artifacts import report as html
from electra.artifacts.finetuned_card import write_finetuned_card
from electra.artifacts.finetuning_report import write_finetuning_report
from electra.config import FinetuneConfig, HeadConfig, finetune_defaults
from electra.errors import ConfigError
from electra.evaluate import evaluate
from electra.recipe import resolve
from electra.tasks.choice_files import ChoiceExample
from electra.tasks.labelled_data import LabelledExample
from electra.tasks.model_folder import load_tokenizer, save_model_folder
from electra.tasks.relation_files import RelationExample
from electra.tasks.squad_data import Answer, Question
from electra.tasks.tagged_data import TaggedExample
from electra.tasks.tagged_files import Entity
from electra.tasks.task import Task, task_class
from tests.tiny import make_encoder, sentences, write_tsv

DRAWS_FIGURES = True

CURVES = [
    {"step": 10, "tokens_seen": 100, "lr": 1e-4, "task_loss": 0.9},
    {"step": 10, "tokens_seen": 100, "eval_accuracy": 0.5, "eval_f1": 0.4},
    {"step": 20, "tokens_seen": 200, "lr": 5e-5, "task_loss": 0.4},
    {"step": 20, "tokens_seen": 200, "eval_accuracy": math.nan, "eval_f1": 0.6},
]
BAD = "<script>alert('&')</script>"
VOID = {"meta", "path", "use", "rect", "br"}


def text_task(labels: list[str], kind: str = "single_label_classification") -> Task[Any]:
    columns = {"text": "text", "text_pair": None, "label": "label"}
    return task_class("text-classification").from_settings(
        {"problem_type": kind, "labels": labels, "columns": columns, "max_length": 32}
    )


def tagging(intents: list[str] | None = None) -> Task[Any]:
    from electra.tasks.tagged_data import WordRule
    from electra.tasks.tagged_files import TagColumns
    from electra.tasks.token_classification import TokenClassification

    return TokenClassification(
        "BIO", ("LOC", "PER"), 64, WordRule(), TagColumns(), tuple(intents or ())
    )


def answering() -> Task[Any]:
    settings = json.loads(
        '{"head": "plain", "language": "en", "unanswerable": true, "null_threshold": 0.0,'
        '"max_length": 64, "doc_stride": 16, "max_answer_length": 30,'
        '"columns": {"question": "question", "context": "context", "answers": "answers"}}'
    )
    return task_class("question-answering").from_settings(settings)


def relations(labels: list[str]) -> Task[Any]:
    from electra.tasks.relation_extraction import RelationExtraction
    from electra.tasks.relation_files import ColumnNames

    return RelationExtraction(tuple(labels), ColumnNames(), 64)


def label_of(label: str, score: float, labels: list[str]) -> dict[str, Any]:
    rest = (1 - score) / max(1, len(labels) - 1)
    return {
        "label": label,
        "score": score,
        "scores": {name: score if name == label else rest for name in labels},
    }


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        for name, value in attrs:
            outside = name in ("src", "href", "xlink:href") and not (value or "").startswith("#")
            assert not outside, f"{name}={value} leaves the page"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()


def written(path: Path, task: Task[Any], examples: Any, predictions: Any, **more: Any) -> str:
    """The page, checked to be whole, without scripts and without anything from elsewhere."""
    metrics = more.pop("metrics", {"accuracy": 0.5, "f1": 0.25})
    write_finetuning_report(
        path / "report.html",
        task=task,
        examples=examples,
        predictions=predictions,
        metrics=metrics,
        **{"curves_rows": CURVES, "facts": {"seed": 1, "model": {"name": "enc"}}} | more,
    )
    page = (path / "report.html").read_text(encoding="utf-8")
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert "script" not in tags.seen
    return page


def headings(page: str) -> list[str]:
    return re.findall("<h2>(.*?)</h2>", page)


HARD = ["Wrong answers the model was surest of", "Right answers the model was least sure of"]
SECTIONS = ["Run", "Metrics", "Training"]


def test_classification(tmp_path: Path) -> None:
    labels = ["bad", "good"]
    examples = [LabelledExample(i, f"text {i}", label=labels[i % 2]) for i in range(60)]
    predictions = [label_of(labels[i % 2 or i < 40], 0.51 + i / 200, labels) for i in range(60)]
    page = written(tmp_path, text_task(labels), examples, predictions)
    assert headings(page) == [
        *SECTIONS,
        *("Classes", "Answers", "Confusions", "Calibration"),
        *HARD,
    ]
    assert page.count("<svg") == 4
    # 20 bad ones were called good; rows of the truth are 30
    assert '<td class="number">20</td><td>66.7%</td>' in page
    wrong = page[page.index(HARD[0]) : page.index(HARD[1])]
    shown = re.findall(r"<td>text (\d+)</td>", wrong)
    assert shown == [str(i) for i in range(38, -1, -2)]  # the surest first, twenty of them
    right = re.findall(r"<td>text (\d+)</td>", page[page.index(HARD[1]) :])
    assert right == ["1", "3", "5", "7", "9", "11", "13", "15", "17", "19"]


def test_everything_is_escaped(tmp_path: Path) -> None:
    labels = sorted([BAD, "b & c"])
    examples = [LabelledExample(i, f"{BAD} {i}", BAD, label=labels[i % 2]) for i in range(4)]
    predictions = [label_of(BAD, 0.9, labels)] * 4
    facts = {"train": {"name": BAD, "sha256": "0" * 64}, BAD: BAD}
    page = written(
        tmp_path, text_task(labels), examples, predictions, facts=facts, metrics={BAD: 1.0}
    )
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt; 0" in page
    assert "b &amp; c" in page


def test_many_classes_have_no_heat_map_but_their_pairs(tmp_path: Path) -> None:
    labels = [f"class {i:02d}" for i in range(40)]
    examples = [LabelledExample(i, "t", label=labels[i % 40]) for i in range(200)]
    predictions = [label_of(labels[i * 7 % 40], 0.5, labels) for i in range(200)]
    page = written(tmp_path, text_task(labels), examples, predictions)
    assert 'class="heat"' not in page
    confused = page[page.index("<h2>Confusions") : page.index("<h2>Calibration")]
    assert confused.count("<tr>") == 1 + 15
    assert "The most frequent of" in confused


def test_several_labels(tmp_path: Path) -> None:
    labels = ["a", "b", "c"]
    examples = [LabelledExample(i, f"text {i}", labels=("a",) if i else ()) for i in range(3)]
    predictions = [
        {"labels": given, "score": 0.6, "scores": {"a": 0.6, "b": 0.6, "c": 0.1}}
        for given in (["a"], ["a", "b"], ["a"])
    ]
    page = written(tmp_path, text_task(labels, "multi_label_classification"), examples, predictions)
    assert headings(page)[3:] == ["Classes", "Answers", "Confusions", "Calibration", *HARD]
    assert "partly right" in page
    assert "(spurious)" in page
    # 3 of a's 3 rows less one, none of b's and c's: over 9 pairs of row and label
    assert '<td>over all labels: share that is true</td><td class="number">0.2222</td>' in page
    assert '<td>over all labels: mean probability</td><td class="number">0.4333</td>' in page
    assert "of the answers" not in page
    assert "the more labels of rows." in page


def test_regression(tmp_path: Path) -> None:
    truth = ["1", "2.5", "4", "nan"]
    examples = [LabelledExample(i, f"text {i}", label=x) for i, x in enumerate(truth)]
    predictions = [{"label": None, "score": x, "scores": {}} for x in (2.0, 2.5, 1.0, 3.0)]
    page = written(tmp_path, text_task([], "regression"), examples, predictions)
    assert headings(page) == [*SECTIONS, "Truth and prediction", "Largest errors"]
    assert '<td>mean absolute error</td><td class="number">1.333</td>' in page
    assert re.findall(r"<td>text (\d)</td>", page) == ["2", "0", "1"]


@pytest.mark.parametrize("intents", [None, ["go", "stay"]])
def test_entities(tmp_path: Path, intents: list[str] | None) -> None:
    text = "Ann met Bob in Rome"
    examples = [
        TaggedExample(0, text, ((0, 3),), (Entity(0, 3, "PER"), Entity(15, 19, "LOC")), (), "go"),
        TaggedExample(1, text, ((0, 3),), (), (), "go"),
    ]
    found = [
        [{"start": 0, "end": 3, "text": "Ann", "label": "LOC", "score": 0.9}],
        [{"start": 8, "end": 11, "text": "Bob", "label": "PER", "score": 0.8}],
    ]
    predictions = [{"entities": e} | ({"intent": "stay"} if intents else {}) for e in found]
    page = written(tmp_path, tagging(intents), examples, predictions)
    assert headings(page)[3:] == ["Classes", "Answers", "Confusions", "Calibration", *HARD]
    for said in ("(missed)", "(spurious)", "Ann [PER], Rome [LOC]", "Bob [PER]"):
        assert said in page
    assert ("intent stay" in page) == bool(intents)


def test_answers(tmp_path: Path) -> None:
    context = "The red house stands by the sea."
    examples = [
        Question(0, "what stands?", context, (Answer("red house", 4),)),
        Question(1, "where?", context, (Answer("by the sea", 21),)),
        Question(2, "who?", context, ()),
    ]
    predictions = [
        {"answer": "The red house", "start": 0, "end": 13, "score": 0.9, "n_best": []},
        {"answer": "the sea", "start": 24, "end": 31, "score": 0.6, "n_best": []},
        {"answer": "house", "start": 8, "end": 13, "score": 0.4, "n_best": []},
    ]
    page = written(tmp_path, answering(), examples, predictions)
    assert headings(page)[3:] == ["Answers", "Calibration", *HARD]
    for kind in ("exact", "near: some of it is right", "answered, but there is no answer"):
        assert f'<td>{kind}</td><td class="number">1</td>' in page


def test_relations(tmp_path: Path) -> None:
    labels = ["Cause(e1,e2)", "Cause(e2,e1)", "Other"]
    example = RelationExample(0, "a fire and smoke", (2, 6), (11, 16), labels[0])
    page = written(tmp_path, relations(labels), [example], [label_of(labels[1], 0.8, labels)])
    assert headings(page)[3:] == ["Classes", "Answers", "Confusions", "Calibration", *HARD]
    assert "a [E1 fire] and [E2 smoke]" in page


def test_choices(tmp_path: Path) -> None:
    task = task_class("multiple-choice").from_settings({"max_length": 64})
    examples = [ChoiceExample(0, "a passage", "why?", ("one", "two"), label=1)]
    predictions = [{"choice": 0, "text": "one", "score": 0.8, "scores": [0.8, 0.2]}]
    page = written(tmp_path, task, examples, predictions)
    assert headings(page)[3:] == ["Answers", "Calibration", *HARD]
    assert "why? | one / two | a passage" in page


def test_odd_inputs(tmp_path: Path) -> None:
    task = text_task(["a", "b"])
    nothing: dict[str, Any] = {"curves_rows": [], "facts": None}
    page = written(tmp_path, task, [], [], **nothing, metrics={})
    assert headings(page) == ["Run", "Metrics", "Answers", *HARD]
    one = [LabelledExample(0, "x" * 5000, label="a")]
    page = written(tmp_path, task, one, [label_of("a", 1.0000001, ["a", "b"])], **nothing)
    assert "Nothing was confused." in page
    assert "x" * 299 + "…</td>" in page
    assert "x" * 300 not in page
    worst = {"label": "b", "score": math.nan, "scores": {"a": math.nan, "b": math.nan}}
    page = written(tmp_path, task, one, [worst], metrics={"accuracy": math.nan, "auc": math.inf})
    assert '<td class="number">nan</td>' in page
    assert "Calibration" not in page
    unscored = {"label": "b", "score": None, "scores": {}}
    assert "probability" not in written(tmp_path, task, one, [unscored], **nothing)
    scores = text_task([], "regression")
    number = {"label": None, "score": math.nan, "scores": {}}
    assert "No row has a number" in written(tmp_path, scores, one, [number])
    number = {"label": None, "score": 1.0, "scores": {}}
    page = written(tmp_path, scores, [LabelledExample(0, "t", label="1")], [number])
    assert '<td>largest error</td><td class="number">0</td>' in page


def test_labels_cut_alike_stay_apart() -> None:
    long = "a" * 50
    page = html.heat_map([long + "1", long + "2"], [long + "1"], {(long + "2", long + "1"): 3})
    assert page.count("a" * 39 + "…") == 3
    assert page.count(">3</td>") == 1


def test_without_matplotlib_a_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    examples = [LabelledExample(0, "t", label="a")]
    page = written(tmp_path, text_task(["a", "b"]), examples, [label_of("b", 0.7, ["a", "b"])])
    assert "<svg" not in page
    assert "Figures need matplotlib: pip install &quot;electra[plot]&quot;" in page
    assert "expected calibration error (15 bins)" in page


def test_evaluate_writes_the_page(tmp_path: Path) -> None:
    encoder = str(make_encoder(tmp_path / "encoder"))
    task = text_task(["bad", "good"])
    model = task.build_model(encoder, HeadConfig())
    save_model_folder(tmp_path / "model", task, model, load_tokenizer(encoder))
    data = write_tsv(tmp_path / "dev.tsv", ["text", "label"], sentences(12, 3))
    file = tmp_path / "page.html"
    result = evaluate(model=tmp_path / "model", data=str(data), report=file)
    page = file.read_text(encoding="utf-8")
    assert "<h1>Evaluation: text-classification</h1>" in page
    assert "Training" not in headings(page)
    assert f'<td class="number">{result["metrics"]["accuracy"]:.4g}</td>' in page
    with pytest.raises(ConfigError, match=r"there is no folder .*nowhere"):
        evaluate(model=tmp_path / "model", data=str(data), report=tmp_path / "nowhere" / "p.html")
    with pytest.raises(ConfigError, match=r"--report .* is a folder; a file is wanted"):
        evaluate(model=tmp_path / "model", data=str(data), report=tmp_path)
    with pytest.raises(ConfigError, match="--report is for fine-tuned models"):
        evaluate(model="m", data=str(data), task="minimal-pairs", report=file)


DATA = {"text_column": "a/b/words", "label_separator": "|", "out_of_scope_label": " oos"}


def card(folder: Path, task: Task[Any], **report: Any) -> tuple[dict[str, Any], str]:
    """The front matter, read as the lines of YAML it is, and the text."""
    whole = {
        "electra": "0.1.0",
        "task": task.name,
        "model": {"name": "/home/me/secret/encoder", "sha256": "ab" * 32},
        "from_scratch": False,
        "train": {"name": "/home/me/secret/train.tsv", "sha256": "cd" * 32},
        "validation": {"name": "nyu-mll/glue/sst2:validation"},
        "seed": 7,
        "metric": task.metric,
        "metrics": {"accuracy": 0.91234, "macro_f1": math.nan},
        "best_step": 900,
        "steps": 1000,
        "examples": {"train": 8000, "validation": 872},
        "note": None,
    } | report
    config = resolve(
        FinetuneConfig,
        [
            *finetune_defaults(task.name),
            ("flags", {"optimizer": {"learning_rate": 3e-4}, "data": DATA}),
        ],
    )
    write_finetuned_card(folder, task=task, report=whole, config=config)
    text = (folder / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    read: dict[str, Any] = {}
    key = ""
    for line in front.splitlines():
        if line.startswith("- "):
            read[key].append(line[2:])
        else:
            key, _, value = line.partition(":")
            assert re.fullmatch("[a-z_]+", key)
            read[key] = json.loads(value) if value.startswith(' "') else value.strip() or []
    assert "/home" not in text
    assert "secret" not in text
    return read, body


def test_card(tmp_path: Path) -> None:
    front, body = card(tmp_path, text_task(["bad", "good`\n\n# no"]))
    assert front == {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["electra", "text-classification"],
        "metrics": ["accuracy", "f1"],
    }
    for said in (
        "The encoder `encoder` (weights: SHA-256 `abab",
        "from transformers import AutoModelForSequenceClassification, AutoTokenizer",
        'Predictor.open("PATH").predict(["a text"])',
        "2 labels: `bad`, `good' # no`.",
        "| accuracy | 0.9123 |",
        "higher than on data that had no say",
        "seed 7, steps 1,000, best step 900.",
        f"| train | train.tsv | 8000 | `{'cd' * 32}` |",
        "| validation | nyu-mll/glue/sst2:validation | 872 |  |",
        "| optimizer.learning_rate | 0.0003 |",
        "| data.text_column | a/b/words |",
        "| data.label_separator | \\| |",
        '| data.out_of_scope_label | " oos" |',
        "Texts are cut after 32 tokens",
    ):
        assert said in body
    assert "Warning" not in body


def test_card_names_a_base_model_of_the_hub_alone(tmp_path: Path) -> None:
    task = text_task(["a", "b"])
    hub = {"name": "google/electra-small-discriminator"}
    front, body = card(tmp_path, task, model=hub, note="the model answers the same")
    assert front["base_model"] == "google/electra-small-discriminator"
    assert "(https://huggingface.co/google/electra-small-discriminator)" in body
    assert "Warning: the model answers the same" in body
    front, body = card(tmp_path, task, model=hub, from_scratch=True)
    assert "base_model" not in front
    assert "random weights, of the shape of the encoder [google/" in body
    for name in ("/home/me/secret/x", "../secret/x", "C:\\secret\\x", str(tmp_path)):
        front, _ = card(tmp_path, task, model={"name": name})
        assert "base_model" not in front


@pytest.mark.parametrize(
    ("task", "pipeline", "said"),
    [
        (tagging(["go", "stay"]), "token-classification", "2 types: `LOC`, `PER`."),
        (tagging(), "token-classification", "AutoModelForTokenClassification"),
        (answering(), "question-answering", "windows of 64 tokens that share 16"),
        (relations(["a", "b"]), "text-classification", "64 tokens around the two entities"),
        (
            task_class("multiple-choice").from_settings({"max_length": 64}),
            "multiple-choice",
            "AutoModelForMultipleChoice",
        ),
        (text_task([], "regression"), "text-classification", "It answers with a number."),
    ],
)
def test_card_of_every_task(tmp_path: Path, task: Task[Any], pipeline: str, said: str) -> None:
    front, body = card(tmp_path, task)
    assert front["pipeline_tag"] == pipeline
    assert task.name in front["tags"]
    assert said in body


def test_card_of_little(tmp_path: Path) -> None:
    task = text_task(["a", "b"])
    write_finetuned_card(tmp_path, task=task, report={}, config=FinetuneConfig())
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "None" not in text
    assert "The encoder, fine-tuned with electra." in text


@pytest.mark.parametrize(
    ("length", "stride", "said"),
    [
        (128, 128, "128 tokens that share 63"),
        (128, 20, "128 tokens that share 20"),
        (9, 0, "9 tok"),
    ],
)
def test_card_tells_what_windows_share(tmp_path: Path, length: int, stride: int, said: str) -> None:
    settings = text_task(["a", "b"]).settings() | {"long_texts": "windows"}
    settings |= {"max_length": length, "doc_stride": stride}
    _, body = card(tmp_path, task_class("text-classification").from_settings(settings))
    assert f"Texts are read in windows of {said}" in body


def test_card_tells_the_threshold_and_splits_of_the_hub(tmp_path: Path) -> None:
    settings = text_task(["a", "b"], "multi_label_classification").settings()
    task = task_class("text-classification").from_settings(settings | {"threshold": 0.31})
    _, body = card(tmp_path, task, train={"name": "owner/name:train[:80%]"})
    assert "2 labels: `a`, `b`." in body
    assert "A label is given from probability 0.31." in body
    assert "| train | owner/name:train[:80%] |" in body
    _, body = card(tmp_path, text_task(["a", "b"]))
    assert "A label is given" not in body


def test_numbers_stay_in_order_beside_what_is_no_class() -> None:
    from electra.artifacts.finetuning_report import _ordered

    assert _ordered(["10", "(missed)", "9", "(spurious)"]) == ["9", "10", "(missed)", "(spurious)"]
    assert _ordered(["b", "10", "9"]) == ["10", "9", "b"]
