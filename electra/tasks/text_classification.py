"""Text classification and regression of one sentence or a pair.

The head is that of `AutoModelForSequenceClassification`. Where all labels of the training data are
numbers and one of them is not whole, the task is regression (STS-B), else single-label
classification with the labels' names; multi-label is not there yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TextIO

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from electra.config import FinetuneConfig, HeadConfig, LabelledDataConfig
from electra.errors import DataError
from electra.evaluation import metrics
from electra.tasks.batches import Feature
from electra.tasks.heads import probabilities, with_text_head
from electra.tasks.inputs import open_input
from electra.tasks.labelled_data import (
    Columns,
    LabelledExample,
    choose_columns,
    read_examples,
    row_example,
)
from electra.tasks.model_folder import load_config, load_with_head
from electra.tasks.regularizers import OF_PROBLEM_TYPE, Divergence
from electra.tasks.task import Logits, Prediction, Task, TaskLoss

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CLASSIFICATION, REGRESSION = "single_label_classification", "regression"
"""Values of `problem_type`, as in transformers' configurations."""


@dataclass(frozen=True)
class TextClassification(Task[LabelledExample]):
    """See the module's docstring."""

    name: ClassVar[str] = "text-classification"

    problem_type: str
    labels: tuple[str, ...]
    """Sorted, by number where all are whole numbers; empty for regression."""
    columns: Columns
    max_length: int

    @property
    def metric(self) -> str:
        """Accuracy, or Pearson's correlation for regression."""
        return "pearson" if self.problem_type == REGRESSION else "accuracy"

    @property
    def has_pair(self) -> bool:
        """Whether an example is two sentences."""
        return self.columns.text_pair is not None

    @classmethod
    def from_training(
        cls, source: str, config: FinetuneConfig
    ) -> tuple[TextClassification, list[LabelledExample]]:
        """Columns by `config.data`, labels from the rows.

        Raises:
            DataError: as `read_examples`; or the labels are all the same, or as many as rows.
        """
        columns, examples = read_examples(source, config.data)
        names = {e.label for e in examples if e.label is not None}
        numbers = [_number(name) for name in names]
        task = cls(CLASSIFICATION, (), columns, config.data.max_length)
        if None not in numbers and any(x is not None and x != int(x) for x in numbers):
            return replace(task, problem_type=REGRESSION), examples
        place = f'{source} column "{columns.label}"'
        if len(names) == 1:
            raise DataError(
                f'{place} holds one label alone, "{names.pop()}"; two or more are wanted'
            )
        if len(names) == len(examples) > 20:
            raise DataError(
                f"{place} holds another value in each of the {len(examples)} rows; name the "
                "label's column with --data.label-column"
            )
        whole = all(name.removeprefix("-").isdecimal() for name in names)
        labels = sorted(names, key=int) if whole else sorted(names)
        return replace(task, labels=tuple(labels)), examples

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """From `task.json`."""
        columns = settings["columns"]
        return cls(
            problem_type=settings["problem_type"],
            labels=tuple(settings["labels"]),
            columns=Columns(columns["text"], columns["text_pair"], columns["label"]),
            max_length=int(settings["max_length"]),
        )

    def settings(self) -> dict[str, Any]:
        """For `task.json`."""
        return {
            "problem_type": self.problem_type,
            "labels": list(self.labels),
            "columns": {
                "text": self.columns.text,
                "text_pair": self.columns.text_pair,
                "label": self.columns.label,
            },
            "has_pair": self.has_pair,
            "max_length": self.max_length,
            "metric": self.metric,
        }

    def read(
        self, source: str, data: LabelledDataConfig | None = None, *, labelled: bool = True
    ) -> list[LabelledExample]:
        """Rows of another file, with labels that training knew.

        Raises:
            DataError: a label that is not among `labels`, or a file of another shape.
        """
        columns, examples = read_examples(
            source,
            data or LabelledDataConfig(),
            labelled=labelled,
            known=self.columns,
            allow_empty=not labelled,
        )
        self.check_pair(columns.text_pair is not None, source)
        if labelled:
            for example in examples:
                self._check_label(example)
        return examples

    def of_texts(self, texts: Sequence[Any]) -> list[LabelledExample]:
        """From texts, or pairs of them for a model of two sentences."""
        examples = []
        for number, text in enumerate(texts):
            if isinstance(text, str) == self.has_pair:
                wanted = "two sentences" if self.has_pair else "one sentence"
                raise DataError(f"input {number}: the model reads {wanted}")
            first, second = (text, None) if isinstance(text, str) else text
            examples.append(LabelledExample(number, first, second))
        return examples

    def of_arguments(self, texts: Sequence[str]) -> list[LabelledExample]:
        """For a model of two sentences the texts come in twos."""
        if not self.has_pair:
            return self.of_texts(texts)
        if len(texts) % 2:
            raise DataError(
                f"the model reads two sentences, so texts come in twos; {len(texts)} given (or "
                "give --input with a JSONL, CSV or TSV file of two columns)"
            )
        return self.of_texts(list(zip(texts[::2], texts[1::2], strict=True)))

    def open_unlabelled(
        self, input: str, data: LabelledDataConfig, stdin: TextIO | None = None
    ) -> tuple[Iterator[LabelledExample], int]:
        """Rows of text files and tables."""
        names = (data.text_column, data.text_pair_column, self.columns.text, self.columns.text_pair)
        # trained on a file without a header, so this one has none either
        headerless = data.header == "auto" and self.columns.text.isdigit()
        source = open_input(
            input,
            header="false" if headerless else data.header,
            columns=[name for name in names if name],
            stdin=stdin,
        )
        return self._of_rows(source.rows, source.place, data), source.chunk

    def _of_rows(
        self, rows: Iterator[dict[str, Any]], place: str, data: LabelledDataConfig
    ) -> Iterator[LabelledExample]:
        columns: Columns | None = None
        for number, row in enumerate(rows):
            if columns is None:
                columns = choose_columns(list(row), data, place, labelled=False, known=self.columns)
                if self.has_pair and list(row) == ["text"]:
                    raise DataError(
                        f"{place} holds one text a line, the model reads two sentences: give "
                        "JSONL, CSV or TSV with two columns"
                    )
                self.check_pair(columns.text_pair is not None, place)
            where = f"{place} row {number + 1}"
            yield row_example(row, columns, number, where, allow_empty=True)
        if columns is None:
            raise DataError(f"{place} holds no rows")

    def check_pair(self, has_pair: bool, source: str) -> None:
        """Refuse one sentence where two are wanted, and the other way round.

        Raises:
            DataError: naming what was given and how to mend it.
        """
        if has_pair and not self.has_pair:
            raise DataError(
                f"{source} gives two sentences, the model reads one; name its column with "
                "--data.text-column"
            )
        if self.has_pair and not has_pair:
            raise DataError(
                f"{source} gives one sentence, the model reads two; name the second one's column "
                "with --data.text-pair-column"
            )

    def _check_label(self, example: LabelledExample) -> None:
        assert example.label is not None, "labelled rows have labels"
        if self.problem_type == REGRESSION:
            if _number(example.label) is None:
                raise DataError(
                    f'{example.place} has the label "{example.label}"; the training data has '
                    "numbers (regression)"
                )
        elif example.label not in self.labels:
            raise DataError(
                f'{example.place} has the label "{example.label}", which the training data does '
                f"not have; known labels: {listed(self.labels)}"
            )

    def build_model(
        self, encoder: str, head: HeadConfig, *, from_scratch: bool = False
    ) -> PreTrainedModel:
        """`AutoModelForSequenceClassification` with a fresh head.

        Raises:
            ConfigError: the encoder cannot be opened, or has no such pooling.
        """
        from transformers import AutoModelForSequenceClassification

        return with_text_head(
            AutoModelForSequenceClassification,
            encoder,
            head,
            labels=self.labels or ("score",),
            problem_type=self.problem_type,
            from_scratch=from_scratch,
        )

    def load_model(self, folder: Path) -> PreTrainedModel:
        """A fine-tuned model; its head must be there."""
        from transformers import AutoModelForSequenceClassification

        config = load_config(str(folder))
        return load_with_head(
            AutoModelForSequenceClassification, str(folder), config, fresh_head=False
        )

    def features(
        self,
        examples: Sequence[LabelledExample],
        tokenizer: PreTrainedTokenizerBase,
        *,
        token_types: bool,
        max_length: int | None = None,
    ) -> list[Feature]:
        """One feature an example; what is too long is cut at the end, of a pair the longer one."""
        if not examples:
            return []
        encoded = tokenizer(
            [e.text for e in examples],
            [e.text_pair or "" for e in examples] if self.has_pair else None,
            truncation=True,
            max_length=min(max_length or self.max_length, self.max_length),
            return_attention_mask=False,
            return_token_type_ids=token_types,
        )
        types: Sequence[list[int] | None] = (
            encoded["token_type_ids"] if token_types else [None] * len(examples)
        )
        return [
            Feature(i, input_ids, token_type_ids, self._target(example))
            for i, (example, input_ids, token_type_ids) in enumerate(
                zip(examples, encoded["input_ids"], types, strict=True)
            )
        ]

    def _target(self, example: LabelledExample) -> int | float | None:
        if example.label is None:
            return None
        if self.problem_type == REGRESSION:
            return _number(example.label)
        return self.labels.index(example.label)

    def targets(self, features: Sequence[Feature], length: int) -> Tensor:
        """Label numbers int64 [B], or scores float32 [B]."""
        dtype = torch.float32 if self.problem_type == REGRESSION else torch.int64
        return torch.tensor([f.target for f in features], dtype=dtype)

    def num_targets(self, targets: Tensor) -> Tensor:
        """B."""
        return torch.tensor(len(targets), device=targets.device)

    def loss(self, logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> TaskLoss:
        """Cross-entropy of logits [B, labels], or squared error of [B, 1], summed over B."""
        if self.problem_type == REGRESSION:
            return TaskLoss(F.mse_loss(logits.squeeze(-1), targets, reduction="sum"))
        total = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=label_smoothing)
        correct = (logits.argmax(-1) == targets).sum()
        return TaskLoss(total, {"accuracy": (correct, len(targets))})

    def divergence(self) -> Divergence | None:
        """Of the labels' chances; scores have none."""
        return OF_PROBLEM_TYPE.get(self.problem_type)

    def decode(
        self,
        examples: Sequence[LabelledExample],
        features: Sequence[Feature],
        logits: Sequence[Logits],
    ) -> list[Prediction]:
        """`label`, its probability `score`, and `scores` of all labels; for regression `score`."""
        if self.problem_type == REGRESSION:
            return [{"label": None, "score": float(x[0]), "scores": {}} for x in logits]
        return [label_prediction(self.labels, row) for row in logits]

    def metrics(
        self, examples: Sequence[LabelledExample], predictions: Sequence[Prediction]
    ) -> dict[str, float]:
        """accuracy, macro_f1, mcc, with two labels auc; for regression pearson and spearman."""
        if self.problem_type == REGRESSION:
            scores = [float(e.label or "nan") for e in examples]
            predicted = [p["score"] for p in predictions]
            return {
                "pearson": metrics.pearson(scores, predicted),
                "spearman": metrics.spearman(scores, predicted),
            }
        truth, answers = [e.label or "" for e in examples], [p["label"] for p in predictions]
        result = {
            "accuracy": metrics.accuracy(truth, answers),
            "macro_f1": metrics.macro_f1(truth, answers),
            "mcc": metrics.mcc(truth, answers),
        }
        if len(self.labels) == 2:
            positive = self.labels[1]
            area = metrics.auc(
                [t == positive for t in truth], [p["scores"][positive] for p in predictions]
            )
            if area is not None:
                result["auc"] = area
        return result

    def per_class(
        self, examples: Sequence[LabelledExample], predictions: Sequence[Prediction]
    ) -> list[dict[str, Any]]:
        """Of each label; none for regression."""
        truth, answers = [e.label or "" for e in examples], [p["label"] for p in predictions]
        return metrics.per_class(truth, answers, self.labels) if self.labels else []

    def collapsed(
        self, examples: Sequence[LabelledExample], predictions: Sequence[Prediction]
    ) -> str | None:
        """One label, or one number, for examples that differ."""
        if len({e.label for e in examples}) < 2:
            return None
        if self.problem_type == REGRESSION:
            same = float(np.ptp([p["score"] for p in predictions])) < 1e-3
            answer = "the same number"
        else:
            same = len({p["label"] for p in predictions}) == 1
            answer = f'"{predictions[0]["label"]}"'
        if not same:
            return None
        return (
            f"the model answers {answer} to all {len(examples)} validation rows: it has not "
            "learned the task; try another seed (--seeds 3), a lower --optimizer.learning-rate, "
            "or more steps"
        )


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def label_prediction(labels: Sequence[str], logits: Logits) -> Prediction:
    """The likeliest `label`, its probability `score`, and the `scores` of all; logits [labels]."""
    scores = probabilities(logits)
    best = int(np.argmax(logits))
    return {
        "label": labels[best],
        "score": scores[best],
        "scores": dict(zip(labels, scores, strict=True)),
    }


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names for a message; of many the first."""
    rest = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
