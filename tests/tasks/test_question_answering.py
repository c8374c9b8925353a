import gzip
import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from electra.cli import run
from electra.config import FinetuneConfig, HeadConfig, LabelledDataConfig, finetune_defaults
from electra.errors import ConfigError, DataError
from electra.evaluate import evaluate
from electra.finetune import FinetuneResult, finetune
from electra.recipe import resolve
from electra.tasks.answer_spans import Answers, Span, joint_spans, merge, plain_spans, prediction_of
from electra.tasks.answer_windows import Window, make_windows, target_in
from electra.tasks.batches import pad
from electra.tasks.labelled_data import Columns
from electra.tasks.model_folder import load_tokenizer, reads_token_types, save_model_folder
from electra.tasks.objective import FinetuneObjective
from electra.tasks.predictor import Predictor
from electra.tasks.question_answering import QuestionAnswering
from electra.tasks.squad_data import Answer, Question, notes, read_questions
from electra.tasks.task import load_task, save_task
from tests.tiny import GOOD
from tests.tiny import PLAIN as PLAIN_WORDS

COLUMNS = Columns("question", "context", "answers")
PLAIN = QuestionAnswering("plain", "en", False, COLUMNS, 32, 8, 30)
WITH_NULL = QuestionAnswering("plain", "en", True, COLUMNS, 32, 8, 30, 0.0)
JOINT = QuestionAnswering("joint", "en", True, COLUMNS, 32, 8, 30, 0.0)
WORDS = [
    "a",
    "the",
    "film",
    "play",
    "book",
    "was",
    "is",
    "and",
    "then",
    "here",
    "there",
    "one",
    "two",
    "very",
    "not",
]
TEXTS = [
    "the film was good and then the play was very bad here and there " * 3,
    "北京是中国的首都，位于华北平原的北部。" * 5,
    "a 😀 film 👨‍👩‍👧 was  good\n\nthere 🇩🇪! " * 6,
    "one",
]


@pytest.fixture(scope="module")
def tokenizers(encoders: dict[str, Path]) -> dict[str, Any]:
    """Word pieces, and bytes with the white space before a word in its first token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "</s>", "<pad>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*special, *alphabet, "Ġt"])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ġ", "t")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 1)],
    )
    as_bytes = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>")
    return {"pieces": load_tokenizer(str(encoders["bert"])), "bytes": as_bytes}


def questions_on(context: str, count: int, seed: int) -> list[Question]:
    generator = random.Random(seed)
    found = []
    while len(found) < count:
        start, end = sorted(generator.sample(range(len(context) + 1), 2))
        if end - start < 6 and context[start:end].strip():
            answer = Answer(context[start:end], start)
            found.append(Question(len(found), "what is it", context, (answer,)))
    return found


def squad(paragraphs: list[tuple[str, list[dict[str, Any]]]]) -> dict[str, Any]:
    return {
        "version": "1.1",
        "data": [{"title": "t", "paragraphs": [{"context": c, "qas": q} for c, q in paragraphs]}],
    }


def qa(identity: str, text: str | None, start: int = 0, **more: Any) -> dict[str, Any]:
    answers = [] if text is None else [{"text": text, "answer_start": start}]
    return {"id": identity, "question": "what is it", "answers": answers, **more}


def write(path: Path, value: Any) -> str:
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(json.dumps(value).encode()))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in value), encoding="utf-8")
    else:
        path.write_text(json.dumps(value), encoding="utf-8")
    return str(path)


# reading


def test_the_forms_of_squad_give_the_same_questions(tmp_path: Path) -> None:
    context = "😀 the film was good"
    data = squad([(context, [qa("a", "film", 6), qa("b", None, is_impossible=True)])])
    flat = [
        {"question": "what is it", "context": context, "id": "a"}
        | {"answers": {"text": ["film"], "answer_start": [6]}},
        {"question": "what is it", "context": context, "id": "b"}
        | {"answers": {"text": [], "answer_start": []}},
    ]
    expected = [("a", context, (Answer("film", 6),), 0), ("b", context, (), 0)]
    for name, value in (("a.json", data), ("a.json.gz", data), ("a.jsonl", flat)):
        found = read_questions(write(tmp_path / name, value))
        assert [(q.id, q.context, q.answers, q.lost) for q in found] == expected
        assert notes(found) == []
    assert found[1].place.endswith("a.jsonl row 2")
    impossible = {**qa("c", "film", 6), "is_impossible": True}
    assert (
        read_questions(write(tmp_path / "a.json", squad([(context, [impossible])])))[0].answers
        == ()
    )


def test_answers_that_are_not_at_their_offset(tmp_path: Path) -> None:
    context = "the film was a film there"
    rows = [qa("a", "film", -1), qa("b", "film", 14), qa("c", "dull", -1), qa("d", "film", 4)]
    path = write(tmp_path / "a.json", squad([(context, rows)]))
    dropped = read_questions(path)
    assert [q.answers[0].start for q in dropped if q.answers] == [None, None, None, 4]
    assert [q.truths for q in dropped] == [["film"], ["film"], ["dull"], ["film"]]
    assert notes(dropped) == [
        f"{path}: 3 of 4 answers do not occur at their offset; 3 are not trained on, though they "
        'count as right answers; the first: "film", data[0].paragraphs[0].qas[0]; 3 questions are '
        "left without an answer to train on and stay out (--data.lost-answers search looks for "
        "them in the whole context)"
    ]
    found = read_questions(path, lost_answers="search")
    assert [q.answers[0].start for q in found if q.answers] == [4, 15, None, 4]
    assert "; 2 of them were found elsewhere in the context; 1 are not trained" in notes(found)[0]
    with pytest.raises(DataError, match=r'qas\[0\] answer 0: "film" does not occur at -1 of the'):
        read_questions(path, lost_answers="refuse")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], r"a\.json at its top has no list \"data\""),
        ({"data": [{"title": "x"}]}, r'data\[0\] has no list "paragraphs"'),
        (squad([("x", [])]), "holds no questions"),
        ({"data": [{"paragraphs": [{"qas": [{}]}]}]}, r'paragraphs\[0\] has no text in "context"'),
        (squad([("x", [{"id": 1, "answers": []}])]), r'qas\[0\] has no text in "question"; it has'),
        (squad([("  ", [qa("a", "x")])]), r'qas\[0\] has an empty text in "context"'),
        (squad([("x", [{"id": 1, "question": "q"}])]), r'qas\[0\] has no answers in "answers"'),
        (squad([("x", [qa("a", "")])]), r'qas\[0\] answer 0 has no "text"'),
        (squad([("x", [qa("a", "x", "0")])]), r"answer 0 has no whole number"),  # type: ignore[arg-type]
        (
            squad([("x", [qa("a", "x"), qa("b", "x"), qa("a", "x")])]),
            r'qas\[2\] has the id "a" of data\[0\]\.paragraphs\[0\]\.qas\[0\]; ids must differ',
        ),
    ],
)
def test_bad_json_is_named_by_its_path(value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_questions(write(tmp_path / "a.json", value))


def test_bad_files(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"data": [')
    with pytest.raises(DataError, match=r"a\.json is not JSON"):
        read_questions(str(tmp_path / "a.json"))
    with pytest.raises(DataError, match=r"gone\.json does not exist"):
        read_questions(str(tmp_path / "gone.json"))
    row = {"question": "q", "context": "x", "answers": {"text": ["x"], "answer_start": []}}
    with pytest.raises(DataError, match=r"a\.jsonl row 1 has 1 answers and 0 offsets"):
        read_questions(write(tmp_path / "a.jsonl", [row]))
    lost = squad([("x", [qa("a", "y")])])
    with pytest.raises(DataError, match="holds no question with an answer at its offset"):
        QuestionAnswering.from_training(write(tmp_path / "b.json", lost), FinetuneConfig())


def test_what_training_data_decides(tmp_path: Path) -> None:
    english = write(tmp_path / "en.json", squad([("the film", [qa("a", "film", 4)])]))
    chinese = write(tmp_path / "zh.json", squad([("北京是首都", [qa("a", "北京"), qa("b", None)])]))
    config = resolve(FinetuneConfig, finetune_defaults("question-answering"))
    task, _ = QuestionAnswering.from_training(english, config)
    assert (task.language, task.unanswerable, task.null_threshold) == ("en", False, None)
    assert (task.max_length, task.doc_stride, task.max_answer_length) == (384, 128, 30)
    task, _ = QuestionAnswering.from_training(chinese, config)
    assert (task.language, task.unanswerable, task.max_answer_length) == ("zh", True, 50)
    forced = resolve(FinetuneConfig, [("test", {"data": {"language": "en"}})])
    assert QuestionAnswering.from_training(chinese, forced)[0].language == "en"


def test_task_json_round_trip(tmp_path: Path) -> None:
    for task in (PLAIN, WITH_NULL, JOINT):
        save_task(task, tmp_path)
        assert load_task(tmp_path) == task
    record = json.loads((tmp_path / "task.json").read_text())
    (tmp_path / "task.json").write_text(json.dumps(record | {"head": "third"}))
    with pytest.raises(DataError, match="does not describe a question-answering task"):
        load_task(tmp_path)


# windows


@pytest.mark.parametrize("kind", ["pieces", "bytes"])
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(("max_length", "doc_stride"), [(32, 8), (40, 0), (64, 128)])
def test_windows_hold_every_token_and_every_answer(
    tokenizers: dict[str, Any], kind: str, text: str, max_length: int, doc_stride: int
) -> None:
    tokenizer = tokenizers[kind]
    questions = questions_on(text, 12, 5) if len(text) > 5 else []
    questions.append(Question("none", "what is it", text, ()))
    questions.append(Question("long", "what is it " * 2, text, (Answer(text[:1], 0),)))
    windows = make_windows(
        questions, tokenizer, max_length=max_length, doc_stride=doc_stride, token_types=False
    )
    whole = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    tokens = list(zip(whole["input_ids"], map(tuple, whole["offset_mapping"]), strict=True))
    for number, question in enumerate(questions):
        own = [w for w in windows if w.example == number]
        position = 0
        covered: list[Any] = []
        for window in own:
            assert len(window.input_ids) <= max_length
            ids = window.input_ids[window.first : window.first + len(window.offsets)]
            here = list(zip(ids, map(tuple, window.offsets.tolist()), strict=True))
            while tokens[position : position + len(here)] != here:
                position += 1
                assert position < len(tokens), "the window is no part of the context"
            assert position <= len(covered), "a gap between windows"
            covered[position:] = here
            check_target(window, question)
        assert covered == tokens
    if kind == "pieces" and len(text) > 5:
        hit = {w.example for w in windows if w.target[2] == 0}
        answers = [q.answers[0].text for q in questions if q.answers]
        if max_length == 64:  # an answer of 5 tokens fits into what windows share
            assert hit == set(range(12)) | {13}, answers


def check_target(window: Window, question: Question) -> None:
    """Against a search over all tokens of the window."""
    offsets = window.offsets.tolist()
    first, last, impossible = window.target
    if not question.answers:
        assert window.target == (0, 0, 1)
        return
    answer = question.answers[0]
    assert answer.start is not None
    begin = answer.start + len(answer.text) - len(answer.text.lstrip())
    end = answer.start + len(answer.text.rstrip())
    touched = [i for i, (a, b) in enumerate(offsets) if a < end and b > begin]
    inside = offsets[0][0] <= begin and end <= offsets[-1][1]
    if not inside or not touched:
        assert window.target == (0, 0, 1)
        return
    assert impossible == 0
    assert (first, last) == (window.first + touched[0], window.first + touched[-1])
    text = question.context[offsets[touched[0]][0] : offsets[touched[-1]][1]]
    assert answer.text.strip() in text


def test_targets_of_what_is_not_known() -> None:
    offsets = np.array([[0, 3], [4, 8]], dtype=np.int32)
    assert target_in(Question(0, "q", "the film"), offsets, 5) is None
    lost = Question(0, "q", "the film", (Answer("dull", None), Answer("dull", None)))
    assert target_in(lost, offsets, 5) is None
    second = Question(0, "q", "the film", (Answer("dull", None), Answer("film", 4)))
    assert target_in(second, offsets, 5) == (6, 6, 0)
    assert target_in(second, offsets[:1], 5) == (0, 0, 1)
    assert target_in(second, offsets[:0], 5) == (0, 0, 1)


def test_a_long_question_is_cut_and_a_context_as_question_is_refused(
    tokenizers: dict[str, Any],
) -> None:
    tokenizer = tokenizers["pieces"]
    cut = Question(0, "what " * 20, "the film was good")
    window = make_windows([cut], tokenizer, max_length=24, doc_stride=8, token_types=True)[0]
    assert window.first == 2 + 10  # half of the 21 beside [CLS] and two [SEP]
    assert len(window.offsets) == 4
    long = Question(0, "the film " * 20, "the film was good", where="row 3")
    with pytest.raises(DataError, match=r"input row 3: the question .* has 40 tokens, the model"):
        make_windows([long], tokenizer, max_length=24, doc_stride=8, token_types=True)
    with pytest.raises(ConfigError, match=r"--data\.max-length is 12; question answering needs 16"):
        make_windows([cut], tokenizer, max_length=12, doc_stride=8, token_types=True)


# decoding


@pytest.mark.parametrize("max_answer_length", [1, 3, 30])
def test_plain_decoding_against_every_span(
    tokenizers: dict[str, Any], max_answer_length: int
) -> None:
    context = TEXTS[0] + TEXTS[0]
    question = Question(0, "what is it", context)
    windows = make_windows(
        [question], tokenizers["pieces"], max_length=32, doc_stride=8, token_types=False
    )
    assert len(windows) > 2
    random_numbers = np.random.default_rng(0)
    best: dict[tuple[int, int], float] = {}
    parts, nulls = [], []
    for window in windows:
        logits = random_numbers.normal(size=(40, 2)).astype(np.float32)
        nulls.append(float(logits[0].sum(dtype=np.float64)))
        for i, j in itertools.product(range(len(window.offsets)), repeat=2):
            if i <= j < i + max_answer_length:
                place = (int(window.offsets[i, 0]), int(window.offsets[j, 1]))
                score = float(logits[window.first + i, 0]) + float(logits[window.first + j, 1])
                best[place] = max(score, best.get(place, -np.inf))
        parts.append(
            plain_spans(window, logits, context, max_answer_length=max_answer_length, most=20)
        )
    expected = sorted(best.items(), key=lambda item: -item[1])[:20]
    found = merge(parts, 20)
    assert [(s.start, s.end) for s in found.spans] == [place for place, _ in expected]
    np.testing.assert_allclose([s.score for s in found.spans], [score for _, score in expected])
    assert found.no_answer == pytest.approx(min(nulls))


def test_white_space_is_no_part_of_an_answer(tokenizers: dict[str, Any]) -> None:
    context = "on  the film"
    window = make_windows(
        [Question(0, "q", context)],
        tokenizers["bytes"],
        max_length=32,
        doc_stride=8,
        token_types=False,
    )[0]
    logits = np.zeros((32, 2), dtype=np.float32)
    starts = [i for i, (a, b) in enumerate(window.offsets.tolist()) if context[a:b] == " t"]
    logits[window.first + starts[0], 0] = logits[window.first + starts[0] + 2, 1] = 9
    spans, _ = plain_spans(window, logits, context, max_answer_length=5, most=3)
    best = max(spans)
    assert context[best.start : best.end] == "the"


def test_a_threshold_decides_whether_there_is_an_answer() -> None:
    context = "the film was good"
    found = Answers([Span(2.0, 4, 8), Span(1.0, 0, 8)], no_answer=2.5)
    common: dict[str, Any] = {"joint": False, "most": 20}
    answered = prediction_of(context, found, null_threshold=0.6, **common)
    empty = prediction_of(context, found, null_threshold=0.4, **common)
    never = prediction_of(context, found, null_threshold=None, **common)
    total = np.exp(2.0) + np.exp(1.0) + np.exp(2.5)
    assert (answered["answer"], answered["start"], answered["end"]) == ("film", 4, 8)
    assert answered["score"] == pytest.approx(np.exp(2.0) / total)
    assert (empty["answer"], empty["start"], empty["end"]) == ("", 0, 0)
    assert empty["score"] == pytest.approx(np.exp(2.5) / total)
    assert [entry["answer"] for entry in empty["n_best"]] == ["", "film", "the film"]
    assert answered["n_best"] == empty["n_best"]
    assert [entry["answer"] for entry in never["n_best"]] == ["film", "the film"]
    assert sum(entry["score"] for entry in never["n_best"]) == pytest.approx(1)
    nothing = prediction_of(context, Answers([], 1.0), null_threshold=None, **common)
    assert nothing == {
        "answer": "",
        "start": 0,
        "end": 0,
        "score": 1.0,
        "n_best": [{"answer": "", "start": 0, "end": 0, "score": 1.0}],
    }
    joint = prediction_of(context, found, joint=True, null_threshold=3.0, most=20)
    none = 1 / (1 + np.exp(-2.5))
    assert joint["answer"] == "film"
    assert joint["score"] == pytest.approx((1 - none) * np.exp(2.0) / (np.exp(2.0) + np.exp(1.0)))
    assert joint["n_best"][0] == {"answer": "", "start": 0, "end": 0, "score": pytest.approx(none)}


def test_the_threshold_is_the_best_on_validation_data(tokenizers: dict[str, Any]) -> None:
    context = "the film was good and dull here"
    questions = [
        Question(i, "what", context, (Answer("film", 4),) if i % 3 else ()) for i in range(40)
    ]
    features = WITH_NULL.features(questions, tokenizers["pieces"], token_types=False)
    random_numbers = np.random.default_rng(3)
    logits = [random_numbers.normal(size=(32, 2)).astype(np.float32) for _ in features]
    for question, window, scores in zip(questions, features, logits, strict=True):
        assert isinstance(window, Window)
        scores[window.first + 1] += 1.5
        scores[0] += 0.0 if question.answers else 2.0

    def f1(task: QuestionAnswering) -> float:
        return task.metrics(questions, task.decode(questions, features, logits))["f1"]

    tuned = WITH_NULL.tuned(questions, features, logits)
    each = [
        f1(QuestionAnswering("plain", "en", True, COLUMNS, 32, 8, 30, float(threshold)))
        for threshold in np.arange(-12, 12, 0.1)
    ]
    assert f1(tuned) >= max(each) - 1e-9
    assert max(each) > max(each[0], each[-1])
    assert PLAIN.tuned(questions, features, logits) is PLAIN


def test_collapse() -> None:
    questions = [Question(i, "q", " the film was", (Answer("film", 5),)) for i in range(4)]

    def predictions(answer: str, start: int) -> list[dict[str, Any]]:
        return [{"answer": answer, "start": start, "end": start + len(answer)}] * 4

    assert "gives no answer to all 4" in (PLAIN.collapsed(questions, predictions("", 0)) or "")
    said = PLAIN.collapsed(questions, predictions("the film was", 1)) or ""
    assert "answers with the beginning of the context" in said
    assert PLAIN.collapsed(questions, predictions("film", 5)) is None
    easy = [Question(i, "q", "film was", (Answer("film", 0),)) for i in range(4)]
    assert PLAIN.collapsed(easy, predictions("film", 0)) is None
    none = [Question(i, "q", "film was", ()) for i in range(4)]
    assert PLAIN.collapsed(none, predictions("", 0)) is None


# heads


@pytest.mark.parametrize("family", ["modernbert", "electra", "bert", "roberta"])
def test_the_auto_class_opens_the_folder(
    encoders: dict[str, Path], family: str, tmp_path: Path
) -> None:
    from transformers import AutoModel, AutoModelForQuestionAnswering, AutoTokenizer

    model = PLAIN.build_model(str(encoders[family]), HeadConfig())
    body = AutoModel.from_pretrained(encoders[family])
    for name, tensor in body.state_dict().items():
        if "pooler" not in name:
            assert torch.equal(model.base_model.state_dict()[name], tensor), name
    tokenizer = load_tokenizer(str(encoders[family]))
    predictor = Predictor(PLAIN, model, tokenizer)
    examples = PLAIN.of_texts([("what was good", "the film was good"), ("one", "a play")])
    ours = predictor.logits(predictor.features(examples))
    save_model_folder(tmp_path, PLAIN, model, tokenizer)
    reopened = AutoModelForQuestionAnswering.from_pretrained(tmp_path).eval()
    own = AutoTokenizer.from_pretrained(tmp_path)
    again = Predictor.open(tmp_path, device="cpu")
    for example, logits in zip(examples, ours, strict=True):
        encoded = own(
            example.question,
            example.context,
            return_tensors="pt",
            return_token_type_ids=reads_token_types(model),
        )
        with torch.inference_mode():
            output = reopened(**encoded)
        theirs = torch.stack([output.start_logits, output.end_logits], dim=-1)[0].numpy()
        np.testing.assert_allclose(theirs, logits[: len(theirs)], atol=1e-6)
        assert (logits[len(theirs) :] == -1e4).all()
    np.testing.assert_allclose(ours[0], again.logits(again.features(examples))[0], atol=1e-6)


@pytest.mark.parametrize("family", ["modernbert", "electra", "bert", "roberta"])
def test_the_joint_head(encoders: dict[str, Path], family: str, tmp_path: Path) -> None:
    from transformers import AutoModel

    torch.manual_seed(0)
    model = JOINT.build_model(str(encoders[family]), HeadConfig()).eval()
    tokenizer = load_tokenizer(str(encoders[family]))
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    predictor = Predictor(JOINT, model, tokenizer)
    texts = [("what was good", "the film was good here"), ("one", "a play " * 11)]
    examples = JOINT.of_texts(texts)
    features = predictor.features(examples)
    logits = predictor.logits(features)
    assert logits[0].shape == (20, 43)

    # the beams say what training's scores say of the same starts
    window = features[0]
    assert isinstance(window, Window)
    batch = pad([window], 0)
    start = int(logits[0][1, 0])
    with torch.inference_mode():
        scores = JOINT.logits(model, batch, torch.tensor([[start, 0, 0]]))[0]
    log_starts = scores[:, 0].log_softmax(-1)
    log_ends = scores[:, 1].log_softmax(-1)
    np.testing.assert_allclose(logits[0][1, 1], log_starts[start], atol=1e-4)
    np.testing.assert_allclose(logits[0][1, 2], scores[0, 2], atol=1e-4)
    ends = logits[0][1, 3:23].astype(int)
    reach = [0, *range(window.first, window.first + len(window.offsets))]
    found = [i for i in ends.tolist() if i in reach]
    assert found[:3] == log_ends[reach].topk(3).indices.apply_(lambda i: reach[i]).tolist()
    np.testing.assert_allclose(logits[0][1, 23], log_ends[ends[0]], atol=1e-4)

    spans, no_answer = joint_spans(
        window, logits[0], examples[0].context, max_answer_length=3, most=5
    )
    assert no_answer == pytest.approx(float(scores[0, 2]), abs=1e-4)
    expected = []
    for i in range(window.first, window.first + len(window.offsets)):
        with torch.inference_mode():
            after = JOINT.logits(model, batch, torch.tensor([[i, 0, 0]]))[0, :, 1].log_softmax(-1)
        for j in range(i, min(i + 3, window.first + len(window.offsets))):
            place = window.offsets[i - window.first, 0], window.offsets[j - window.first, 1]
            expected.append((float(log_starts[i] + after[j]), *map(int, place)))
    expected.sort(reverse=True)
    assert [tuple(s[1:]) for s in spans] == [e[1:] for e in expected[:5]]
    np.testing.assert_allclose([s.score for s in spans], [e[0] for e in expected[:5]], atol=1e-4)

    save_model_folder(tmp_path, JOINT, model, tokenizer)
    opened = Predictor.open(tmp_path, device="cpu")
    assert opened.predict(texts) == predictor.predict(texts)
    body = AutoModel.from_pretrained(tmp_path)
    for name, tensor in body.state_dict().items():
        if "pooler" not in name:
            assert torch.equal(model.base_model.state_dict()[name], tensor), name
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ConfigError, match="has no joint head that can be read"):
        Predictor.open(tmp_path, device="cpu")


def test_losses_by_hand(encoders: dict[str, Path]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 6, 3, generator=generator)
    targets = torch.tensor([[2, 3, 0], [0, 0, 1]])
    log_p = logits.log_softmax(1)
    spans = -sum(log_p[b, targets[b, k], k] for b in range(2) for k in range(2)) / 2
    judged = -torch.nn.functional.logsigmoid(torch.stack([-logits[0, 0, 2], logits[1, 0, 2]]))
    assert float(PLAIN.loss(logits[..., :2], targets).total) == pytest.approx(float(spans))
    joint = float(JOINT.loss(logits, targets).total)
    assert joint == pytest.approx(float(spans + 0.5 * judged.sum()))
    padded = torch.cat([logits[..., :2], torch.full((2, 3, 2), -1e4)], dim=1)
    for smoothing in (0.0, 0.3):
        short = PLAIN.loss(logits[..., :2], targets, label_smoothing=smoothing).total
        long = PLAIN.loss(padded, targets, label_smoothing=smoothing).total
        assert float(short) == pytest.approx(float(long))
    entropy = -(0.7 * spans - 0.3 * log_p[..., :2].mean(1).sum() / 2)
    smoothed = PLAIN.loss(logits[..., :2], targets, label_smoothing=0.3).total
    assert float(smoothed) == pytest.approx(float(-entropy))
    model = JOINT.build_model(str(encoders["bert"]), HeadConfig())
    frozen = FinetuneObjective(JOINT, model, train_encoder=False)
    learned = {name.split(".")[1] for name, p in frozen.named_parameters() if p.requires_grad}
    assert learned == {"start", "end", "end_token", "end_start", "no_answer", "no_answer_hidden"}


def test_settings_that_a_head_does_not_have(encoders: dict[str, Path]) -> None:
    bert, modern = str(encoders["bert"]), str(encoders["modernbert"])
    with pytest.raises(ConfigError, match="plain head of bert has none"):
        PLAIN.build_model(bert, HeadConfig(dropout=0.1))
    with pytest.raises(ConfigError, match=r"--model\.pooling is mean; an answer is read from"):
        PLAIN.build_model(modern, HeadConfig(pooling="mean"))
    dropout: Any = PLAIN.build_model(modern, HeadConfig(dropout=0.25))
    assert dropout.drop.p == 0.25
    joint: Any = JOINT.build_model(bert, HeadConfig(dropout=0.25), from_scratch=True)
    assert joint.dropout.p == 0.25


# inputs


def test_inputs_without_answers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="input 0: the model reads a question and a context"):
        PLAIN.of_texts(["what"])
    with pytest.raises(DataError, match='input 1 has an empty text in "context"'):
        PLAIN.of_texts([("q", "x"), ("q", " ")])
    with pytest.raises(DataError, match="texts come in twos; 3 given"):
        PLAIN.of_arguments(["a", "b", "c"])
    assert [q.context for q in PLAIN.of_arguments(["a", "b", "c", "d"])] == ["b", "d"]
    assert PLAIN.of_texts([{"question": "a", "context": "b", "id": "x"}])[0].id == "x"
    lines = tmp_path / "a.txt"
    lines.write_text("one\n")
    with pytest.raises(DataError, match="holds one text a line, the model reads a question and"):
        list(PLAIN.open_unlabelled(str(lines), LabelledDataConfig())[0])
    table = tmp_path / "a.csv"
    table.write_text("id,frage,text\n7,what,the film\n")
    columns = LabelledDataConfig(text_column="frage", text_pair_column="text")
    found = list(PLAIN.open_unlabelled(str(table), columns)[0])
    assert [(q.id, q.question, q.context) for q in found] == [("7", "what", "the film")]
    with pytest.raises(DataError, match=r'row 1 has no text in "question"; it has: id, frage, te'):
        list(PLAIN.open_unlabelled(str(table), LabelledDataConfig())[0])


# learning


def toy(count: int, seed: int, *, unanswerable: bool = False) -> dict[str, Any]:
    """The answer is the good word and what follows it; lengths differ, some contexts are long."""
    generator = random.Random(seed)
    paragraphs = []
    for number in range(count):
        words = generator.choices(PLAIN_WORDS[:15], k=generator.randint(3, 40))
        if unanswerable and number % 3 == 0:
            paragraphs.append((" ".join(words), [qa(str(number), None)]))
            continue
        place = generator.randrange(len(words))
        answer = f"{generator.choice(GOOD)} {words[place]}"
        words[place] = answer
        start = len(" ".join([*words[:place], ""]))
        paragraphs.append((" ".join(words), [qa(str(number), answer, start)]))
    return squad(paragraphs)


def learn(
    encoder: Path, folder: Path, *, unanswerable: bool, head: str, learning_rate: float
) -> FinetuneResult:
    train = write(folder / "train.json", toy(300, 0, unanswerable=unanswerable))
    dev = write(folder / "dev.json.gz", toy(60, 1, unanswerable=unanswerable))
    flags = {
        "data": {"max_length": 32, "doc_stride": 8},
        "training": {"epochs": 14, "global_batch_size": 16, "dtype": "float32"},
        "optimizer": {"learning_rate": learning_rate},
        "model": {"head": head},
    }
    config = resolve(FinetuneConfig, [*finetune_defaults("question-answering"), ("test", flags)])
    return finetune(
        model=str(encoder),
        train=train,
        validation=dev,
        output=folder / "run",
        task="question-answering",
        config=config,
    )


@pytest.mark.parametrize(("head", "unanswerable"), [("plain", False), ("joint", True)])
def test_a_marked_answer_is_learned(
    encoders: dict[str, Path], head: str, unanswerable: bool, tmp_path: Path
) -> None:
    result = learn(
        encoders["modernbert"], tmp_path, unanswerable=unanswerable, head=head, learning_rate=5e-3
    )
    assert result.metric == "f1"
    assert result.score > 0.9
    wanted = {"exact_match", "f1"}
    if unanswerable:
        wanted |= {"has_answer_exact_match", "has_answer_f1", "no_answer_accuracy"}
        assert min(result.metrics.values()) > 0.8
    assert set(result.metrics) == wanted
    record = json.loads((tmp_path / "run" / "task.json").read_text())
    assert (record["null_threshold"] is not None) == unanswerable
    context = "the film " * 12 + "was great here " + "and then " * 12
    found = Predictor.open(tmp_path / "run").predict([("what is it", context)])[0]
    assert found["answer"] == "great here" == context[found["start"] : found["end"]]
    assert evaluate(model=tmp_path / "run", data=str(tmp_path / "dev.json.gz"))["metrics"] == {
        name: pytest.approx(value) for name, value in result.metrics.items()
    }


def test_the_command_line(
    encoders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = toy(40, 0, unanswerable=True)
    train["data"][0]["paragraphs"][1]["qas"][0]["answers"][0]["answer_start"] = -1
    train_file, model = write(tmp_path / "train.json", train), str(tmp_path / "run")
    flags = "--training.max-steps 4 --data.max-length 32 --data.doc-stride 8 --model.head joint"
    arguments = ["--task", "question-answering", "--model", str(encoders["bert"])]
    arguments += ["--train", train_file, "--validation", train_file, "--output", model]
    assert run(["finetune", *arguments, *flags.split()]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "1 of 26 answers do not occur at their offset" in said.replace("- ", "")

    assert run(["evaluate", "--model", model, "--data", train_file, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["task"], result["metric"], result["n"]) == ("question-answering", "f1", 40)
    assert "no_answer_accuracy" in result["metrics"]

    context = "a film was good here"
    assert run(["predict", "--model", model, "--json", "what", context, "who", "one"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [a["id"] for a in answers] == [0, 1]
    for answer, text in zip(answers, (context, "one"), strict=True):
        assert list(answer) == ["id", "answer", "start", "end", "score", "n_best"]
        assert answer["answer"] == text[answer["start"] : answer["end"]]
        assert 1 < len(answer["n_best"]) <= 20
        assert all(0 <= entry["score"] <= 1 for entry in answer["n_best"])
    rows = write(tmp_path / "in.jsonl", [{"id": "x", "question": "what", "context": context}])
    assert run(["predict", "--model", model, "--input", rows]) == 0
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert row["id"] == "x"
    assert row["answer"] == answers[0]["answer"]
    assert row["score"] == pytest.approx(answers[0]["score"], abs=1e-4)
    assert run(["predict", "--model", model, "--input", train_file]) == 0
    ids = [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()]
    assert ids == [str(i) for i in range(40)]

    for wrong, message in (
        (["predict", "--model", model, "what"], "texts come in twos; 1 given"),
        (["predict", "--model", model, "what", ""], 'input 0 has an empty text in "context"'),
        (
            ["evaluate", "--model", model, "--data", train_file, "--data.doc-stride", "3"],
            "--data.doc-stride does not change a finished model",
        ),
        (
            ["evaluate", "--model", model, "--data", train_file, "--data.lost-answers", "refuse"],
            "does not occur at -1",
        ),
        (
            ["evaluate", "--model", model, "--data", train_file, "--task", "text-classification"],
            "what the model was made for: question-answering",
        ),
    ):
        assert run(wrong) == 2
        assert message in " ".join(capsys.readouterr().err.split())


def test_data_of_another_task_is_named(encoders: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "good film", "label": "good"}\n')
    with pytest.raises(DataError, match=r'train\.jsonl row 1 has no text in "question"; it has: t'):
        QuestionAnswering.from_training(str(path), FinetuneConfig())
