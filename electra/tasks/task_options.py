"""Options of fine-tuning that some tasks alone read."""

from __future__ import annotations

from typing import Any

from electra.config import FinetuneConfig
from electra.errors import ConfigError
from electra.tasks.task import Task

_TEXTS, _ANSWERS = "text-classification", "question-answering"
_ONLY_FOR = {
    "training.class_weights": (_TEXTS, "relation-extraction"),
    "data.text_pair_column": (_TEXTS, _ANSWERS),
    "data.long_texts": (_TEXTS,),
    "data.label_separator": (_TEXTS,),
    "data.out_of_scope_label": (_TEXTS,),
    "data.max_answer_length": (_ANSWERS,),
    "data.lost_answers": (_ANSWERS,),
    "data.language": (_ANSWERS,),
    "model.head": (_ANSWERS,),
}
"""Fields that the tasks not named would pass over."""


def check_options(task: type[Task[Any]], config: FinetuneConfig) -> None:
    """Refuse an option, other than its default, that a task does not read.

    Raises:
        ConfigError: naming the option and what it is for.
    """
    default = FinetuneConfig()
    for field, tasks in _ONLY_FOR.items():
        section, name = field.split(".")
        value = getattr(getattr(config, section), name)
        if task.name not in tasks and value != getattr(getattr(default, section), name):
            raise ConfigError(
                f"--{field.replace('_', '-')} is {value}, which is for {' and '.join(tasks)}; "
                f"leave it out of {task.name}"
            )
