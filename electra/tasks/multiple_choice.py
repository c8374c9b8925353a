"""Which of some options answers a question about a passage.

Every option is read with the passage and the question, `[CLS] passage [SEP] question option [SEP]`,
and scored by the head of `AutoModelForMultipleChoice`; where the question has one blank (`_`), the
option stands there. A passage that is too long is cut to the stretch that shares most with the
question and the options, the same for all of them; question and options are never cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TextIO

import torch
from torch import Tensor

from electra.config import FinetuneConfig, HeadConfig, LabelledDataConfig
from electra.errors import ConfigError, DataError
from electra.evaluation import metrics
from electra.tasks.batches import Choices, Feature
from electra.tasks.cases import Case, choice_cases
from electra.tasks.choice_files import ChoiceExample, read_choices, row_choices
from electra.tasks.heads import probabilities, with_text_head
from electra.tasks.inputs import CHUNK, is_json, open_input
from electra.tasks.model_folder import load_config, load_with_head
from electra.tasks.passages import Frame, best_stretch
from electra.tasks.task import Logits, Prediction, Task, TaskLoss

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ABSENT, WRONG, RIGHT = -1, 0, 1
"""Targets: what pads an example of fewer options, a wrong option, the right one."""
_BLANK = re.compile(r"(?<![A-Za-z0-9])_+(?![A-Za-z0-9])")


@dataclass(frozen=True)
class MultipleChoice(Task[ChoiceExample]):
    """See the module's docstring."""

    name: ClassVar[str] = "multiple-choice"

    max_length: int

    @property
    def metric(self) -> str:
        """Accuracy."""
        return "accuracy"

    @classmethod
    def from_training(
        cls, source: str, config: FinetuneConfig
    ) -> tuple[MultipleChoice, list[ChoiceExample]]:
        """The rows; there is nothing to learn from them.

        Raises:
            DataError: as `read_choices`.
        """
        task = cls(config.data.max_length)
        return task, task.read(source, config.data)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """From `task.json`."""
        return cls(max_length=int(settings["max_length"]))

    def settings(self) -> dict[str, Any]:
        """For `task.json`."""
        return {"max_length": self.max_length, "metric": self.metric}

    def read(
        self, source: str, data: LabelledDataConfig | None = None, *, labelled: bool = True
    ) -> list[ChoiceExample]:
        """Rows of a file.

        Raises:
            DataError: as `read_choices`.
            ConfigError: columns are named, which this task has of its own.
        """
        _no_columns(data)
        return list(read_choices(source, labelled=labelled))

    def of_texts(self, texts: Sequence[Any]) -> list[ChoiceExample]:
        """From rows with `context`, `question` and `choices`."""
        examples: list[ChoiceExample] = []
        for number, row in enumerate(texts):
            if not isinstance(row, Mapping):
                raise DataError(
                    f"input {number} is {type(row).__name__}; a row with context, question and "
                    "choices is wanted"
                )
            examples += row_choices(row, number, f"input {number}", labelled=False)
        return examples

    def of_arguments(self, texts: Sequence[str]) -> list[ChoiceExample]:
        """One example: a passage, a question, and two options or more."""
        if len(texts) < 4:
            raise DataError(
                "the model reads a passage, a question and two options or more, in this order; "
                f"{len(texts)} texts given (or give --input with a JSONL file of context, "
                "question, choices)"
            )
        context, question, *choices = texts
        return self.of_texts([{"context": context, "question": question, "choices": choices}])

    def open_unlabelled(
        self, input: str, data: LabelledDataConfig, stdin: TextIO | None = None
    ) -> tuple[Iterator[ChoiceExample], int]:
        """Rows of JSON or JSONL."""
        _no_columns(data)
        if is_json(input):
            return read_choices(input, labelled=False), CHUNK
        source = open_input(input, stdin=stdin)
        examples = (
            example
            for number, row in enumerate(source.rows)
            for example in row_choices(
                row, number, f"{source.place} row {number + 1}", labelled=False
            )
        )
        return examples, source.chunk

    def build_model(
        self, encoder: str, head: HeadConfig, *, from_scratch: bool = False
    ) -> PreTrainedModel:
        """`AutoModelForMultipleChoice` with a fresh head.

        Raises:
            ConfigError: the encoder cannot be opened, or has no such head or pooling.
        """
        from transformers import AutoModelForMultipleChoice

        return with_text_head(AutoModelForMultipleChoice, encoder, head, from_scratch=from_scratch)

    def load_model(self, folder: Path) -> PreTrainedModel:
        """A fine-tuned model; its head must be there."""
        from transformers import AutoModelForMultipleChoice

        config = load_config(str(folder))
        return load_with_head(AutoModelForMultipleChoice, str(folder), config, fresh_head=False)

    def features(
        self,
        examples: Sequence[ChoiceExample],
        tokenizer: PreTrainedTokenizerBase,
        *,
        token_types: bool,
        max_length: int | None = None,
    ) -> list[Feature]:
        """One feature an example, a row for each of its options.

        Raises:
            DataError: question and option alone are longer than what the model reads.
        """
        if not examples:
            return []

        def tokens(texts: list[str]) -> list[list[int]]:
            encoded = tokenizer(
                texts,
                add_special_tokens=False,
                truncation=False,
                verbose=False,
                return_attention_mask=False,
                return_token_type_ids=False,
            )
            found: list[list[int]] = encoded["input_ids"]
            return found

        frame = Frame.of(tokenizer)
        longest = min(max_length or self.max_length, self.max_length)
        contexts = list(dict.fromkeys(e.context for e in examples))
        passages = dict(zip(contexts, tokens(contexts), strict=True))
        statements = iter(tokens([fill(e.question, c) for e in examples for c in e.choices]))
        features: list[Feature] = []
        for number, example in enumerate(examples):
            options = [next(statements) for _ in example.choices]
            needed = max(map(len, options)) + frame.size
            if needed >= longest:
                raise DataError(
                    f"{example.place or f'input {number}'}: question and option take {needed} of "
                    f"the {longest} tokens that the model reads at once, and nothing is left for "
                    "the passage; raise --data.max-length or shorten them"
                )
            passage = passages[example.context]
            wanted = {token for option in options for token in option}
            passage = passage[slice(*best_stretch(passage, wanted, longest - needed))]
            rows = tuple(
                Feature(
                    number,
                    frame.ids(passage, option),
                    frame.token_types(len(passage), len(option)) if token_types else None,
                )
                for option in options
            )
            features.append(Choices.of(rows, example.label))
        return features

    def targets(self, features: Sequence[Feature], length: int) -> Tensor:
        """RIGHT, WRONG or ABSENT for each option; int64 [B, C]."""
        counts = [len(f.rows) for f in features if isinstance(f, Choices)]
        targets = torch.full((len(counts), max(counts)), ABSENT)
        for row, (count, feature) in enumerate(zip(counts, features, strict=True)):
            targets[row, :count] = WRONG
            targets[row, feature.target] = RIGHT
        return targets

    def num_targets(self, targets: Tensor) -> Tensor:
        """B."""
        return torch.tensor(len(targets), device=targets.device)

    def loss(self, logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> TaskLoss:
        """Cross-entropy of logits [B, C] over the options that are there, summed over B."""
        absent = targets == ABSENT
        chances = logits.masked_fill(absent, float("-inf")).log_softmax(-1)
        chances = chances.masked_fill(absent, 0.0)
        right = (targets == RIGHT).to(chances.dtype)
        there = (~absent).to(chances.dtype)
        goal = (1 - label_smoothing) * right + label_smoothing * there / there.sum(-1, keepdim=True)
        answers = logits.masked_fill(absent, float("-inf")).argmax(-1)
        correct = (answers == right.argmax(-1)).sum()
        return TaskLoss(-(goal * chances).sum(), {"accuracy": (correct, len(targets))})

    def decode(
        self,
        examples: Sequence[ChoiceExample],
        features: Sequence[Feature],
        logits: Sequence[Logits],
    ) -> list[Prediction]:
        """`choice` (0-based), its `text`, its probability `score`, and `scores` of all options."""
        predictions = []
        for example, row in zip(examples, logits, strict=True):
            scores = probabilities(row[: len(example.choices)])
            choice = max(range(len(scores)), key=scores.__getitem__)
            predictions.append(
                {
                    "choice": choice,
                    "text": example.choices[choice],
                    "score": scores[choice],
                    "scores": scores,
                }
            )
        return predictions

    def metrics(
        self, examples: Sequence[ChoiceExample], predictions: Sequence[Prediction]
    ) -> dict[str, float]:
        """`accuracy`, over all questions."""
        truth, answers = [e.label for e in examples], [p["choice"] for p in predictions]
        return {"accuracy": metrics.accuracy(truth, answers)}

    def cases(
        self, examples: Sequence[ChoiceExample], predictions: Sequence[Prediction]
    ) -> list[Case]:
        """Questions with their options."""
        return choice_cases(examples, predictions)

    def collapsed(
        self, examples: Sequence[ChoiceExample], predictions: Sequence[Prediction]
    ) -> str | None:
        """The same place in the list for examples whose answers stand in several."""
        chosen = {p["choice"] for p in predictions}
        if len({e.label for e in examples}) < 2 or len(chosen) > 1:
            return None
        return (
            f"the model chooses option {chosen.pop()} in all {len(examples)} validation rows: it "
            "has not learned the task; try another seed (--seeds 3), a lower "
            "--optimizer.learning-rate, or more steps"
        )


def fill(question: str, option: str) -> str:
    """The option in the question's blank where it has one, else behind the question."""
    if len(_BLANK.findall(question)) == 1:
        return _BLANK.sub(lambda _: option, question)
    return f"{question} {option}" if question.strip() else option


def _no_columns(data: LabelledDataConfig | None) -> None:
    if data is not None and (data.text_column or data.text_pair_column or data.label_column):
        raise ConfigError(
            "multiple-choice has columns of its own (context, question, choices, label): leave "
            "--data.*-column out"
        )
