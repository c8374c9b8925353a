"""Options that a task would pass over are refused."""

from typing import Any

import pytest

from electra.config import FinetuneConfig, finetune_defaults
from electra.errors import ConfigError
from electra.recipe import resolve
from electra.tasks.task import TASKS, task_class
from electra.tasks.task_options import check_options

TEXTS, RELATIONS = "text-classification", "relation-extraction"
ANSWERS = "question-answering"


def config(task: str, **tables: dict[str, Any]) -> FinetuneConfig:
    return resolve(FinetuneConfig, [*finetune_defaults(task), ("flags", tables)])


@pytest.mark.parametrize(
    ("section", "field", "value", "allowed"),
    [
        ("training", "class_weights", "balanced", (TEXTS, RELATIONS)),
        ("data", "text_pair_column", "b", (TEXTS, ANSWERS)),
        ("data", "long_texts", "windows", (TEXTS,)),
        ("data", "label_separator", ";", (TEXTS,)),
        ("data", "out_of_scope_label", "oos", (TEXTS,)),
        ("data", "max_answer_length", 9, (ANSWERS,)),
        ("data", "lost_answers", "search", (ANSWERS,)),
        ("data", "language", "zh", (ANSWERS,)),
        ("model", "head", "joint", (ANSWERS,)),
    ],
)
def test_options_of_other_tasks(
    section: str, field: str, value: object, allowed: tuple[str, ...]
) -> None:
    for name in TASKS:
        given = config(name, **{section: {field: value}})
        if name in allowed:
            check_options(task_class(name), given)
            continue
        with pytest.raises(ConfigError) as raised:
            check_options(task_class(name), given)
        flag = f"--{section}.{field.replace('_', '-')}"
        assert str(raised.value) == (
            f"{flag} is {value}, which is for {' and '.join(allowed)}; leave it out of {name}"
        )


@pytest.mark.parametrize("name", TASKS)
def test_the_defaults_pass(name: str) -> None:
    check_options(task_class(name), config(name))
