import pytest

from electra.tasks.cases import (
    BORDERS,
    MISSED,
    SPURIOUS,
    answer_cases,
    choice_cases,
    entity_cases,
    labelled_cases,
)
from electra.tasks.choice_files import ChoiceExample
from electra.tasks.labelled_data import LabelledExample
from electra.tasks.relation_files import RelationExample
from electra.tasks.squad_data import Answer, Question
from electra.tasks.tagged_data import TaggedExample
from electra.tasks.tagged_files import Entity


def test_one_label() -> None:
    prediction = {"label": "b", "score": 0.7, "scores": {"a": 0.3, "b": 0.7}}
    (case,) = labelled_cases([LabelledExample(0, "one", "two", "a")], [prediction])
    assert (case.text, case.truth, case.answer, case.score) == ("one | two", "a", "b", 0.7)
    assert (case.credit, case.outcome) == (0.0, "wrong")
    assert case.confusions == (("a", "b"),)
    assert case.judged == ((0.7, False),)
    assert case.squared_error == pytest.approx(0.98)


def test_several_labels() -> None:
    example = LabelledExample(0, "t", labels=("a", "b"))
    prediction = {"labels": ["b", "c"], "score": 0.6, "scores": {"a": 0.4, "b": 0.9, "c": 0.6}}
    (case,) = labelled_cases([example], [prediction])
    assert (case.truth, case.answer, case.credit) == ("a, b", "b, c", 0.5)
    assert case.outcome == "partly right"
    assert case.confusions == (("b", "b"), ("a", MISSED), (SPURIOUS, "c"))
    assert case.judged == ((0.4, True), (0.9, True), (0.6, False))
    assert case.squared_error == pytest.approx((0.36 + 0.01 + 0.36) / 3)


def test_no_label_is_an_answer() -> None:
    prediction = {"labels": [], "score": 0.1, "scores": {"a": 0.1}}
    (case,) = labelled_cases([LabelledExample(0, "t", labels=())], [prediction])
    assert (case.truth, case.answer, case.credit) == ("(none)", "(none)", 1.0)
    assert case.score == pytest.approx(0.9)


def test_numbers() -> None:
    prediction = {"label": None, "score": 1.25, "scores": {}}
    (case,) = labelled_cases([LabelledExample(0, "t", label="2")], [prediction])
    assert (case.numbers, case.credit, case.outcome) == ((2.0, 1.25), None, "")


def test_relations_show_both_entities() -> None:
    example = RelationExample(0, "The author of a book.", (16, 20), (4, 10), "wrote")
    prediction = {"label": "wrote", "score": 0.9, "scores": {"wrote": 0.9, "other": 0.1}}
    (case,) = labelled_cases([example], [prediction])
    assert case.text == "The [E2 author] of a [E1 book]."
    assert case.credit == 1


def entity(start: int, end: int, label: str, score: float = 0.5) -> dict[str, object]:
    return {"start": start, "end": end, "label": label, "score": score}


def test_entities_are_confused_with_what_stands_there() -> None:
    truth = [(0, 1, "A"), (2, 3, "B"), (4, 6, "C"), (8, 9, "D"), (10, 12, "E")]
    example = TaggedExample(0, "abcdefghijklmnop", (), tuple(Entity(*t) for t in truth))
    found = [
        entity(0, 1, "A", 0.9),  # right
        entity(2, 3, "X", 0.7),  # another type
        entity(4, 5, "C"),  # other borders
        entity(11, 13, "F"),  # overlaps E
        entity(14, 15, "G"),  # nothing is there
    ]
    (case,) = entity_cases([example], [{"entities": found}])
    assert case.confusions == (
        ("A", "A"),
        ("B", "X"),
        ("C", BORDERS),
        ("E", "F"),
        ("D", MISSED),
        (SPURIOUS, "G"),
    )
    assert case.credit == pytest.approx(2 / 10)
    assert case.judged[:2] == ((0.9, True), (0.7, False))
    assert case.truth.startswith("a [A], c [B], ef [C]")


def test_the_entity_with_the_same_borders_comes_before_one_that_overlaps() -> None:
    example = TaggedExample(0, "abcdef", (), (Entity(0, 2, "A"),))
    found = [entity(0, 3, "A"), entity(0, 2, "B")]
    (case,) = entity_cases([example], [{"entities": found}])
    assert case.confusions == (("A", "B"), (SPURIOUS, "A"))


def test_intents_are_half_of_a_sentence() -> None:
    example = TaggedExample(0, "a b", (), (Entity(0, 1, "A"),), intent="go")
    prediction = {"entities": [entity(0, 1, "A")], "intent": "stay", "intent_score": 0.9}
    (case,) = entity_cases([example], [prediction])
    assert (case.truth, case.answer) == ("go: a [A]", "stay: a [A]")
    assert (case.credit, case.outcome) == (0.5, "partly right")
    assert ("intent go", "intent stay") in case.confusions


@pytest.mark.parametrize(
    ("truths", "answer", "verdict", "outcome"),
    [
        (["the red house"], "red house", "exact", 1.0),
        (["the red house"], "a red door", "near: some of it is right", 0.5),
        (["the red house"], "sea", "wrong", 0.0),
        (["the red house"], "", "no answer, but there is one", 0.0),
        ([], "", "rightly no answer", 1.0),
        ([], "sea", "answered, but there is no answer", 0.0),
        (["red house"], "house red", "near: some of it is right", 0.99),
    ],
)
def test_answers(truths: list[str], answer: str, verdict: str, outcome: float) -> None:
    context = "x " * 300 + "the red house" + " y" * 300
    answers = tuple(Answer(truth, context.find(truth)) for truth in truths)
    example = Question(0, "where?", context, answers)
    prediction = {"answer": answer, "start": 0, "end": 5, "score": 0.5}
    (case,) = answer_cases([example], [prediction], "en")
    assert (case.verdict, case.credit) == (verdict, outcome)
    assert case.judged == ((0.5, outcome == 1),)
    assert len(case.text) < 250
    if len(truths) and truths[0].startswith("the"):
        assert "the red house" in case.text


def test_choices() -> None:
    example = ChoiceExample(0, "a passage", "a question", ("one", "two"), label=1)
    prediction = {"choice": 0, "text": "one", "score": 0.8, "scores": [0.8, 0.2]}
    (case,) = choice_cases([example], [prediction])
    assert case.text == "a question | one / two | a passage"
    assert (case.truth, case.answer, case.credit) == ("two", "one", 0.0)
    assert case.squared_error == pytest.approx(1.28)
