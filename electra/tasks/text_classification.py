"""Text classification and regression of one sentence or a pair.

The head is that of `AutoModelForSequenceClassification`. Where the training data have lists of
labels, or a separator is given, an input has any number of labels; where all labels are numbers and
one of them is not whole, the task is regression (STS-B); else one label with its name.

A text that is too long is cut, or read in windows that overlap: each is trained on the text's
label, so that a text counts as many times as it has windows, and the answer is decoded from the
mean of the windows' logits.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, TextIO

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from electra.config import FinetuneConfig, LabelledDataConfig
from electra.errors import ConfigError, DataError
from electra.evaluation import metrics
from electra.tasks.batches import Feature
from electra.tasks.label_losses import balanced_weights, binary_cross_entropy, positive_weights
from electra.tasks.label_sets import (
    DEFAULT_THRESHOLD,
    best_threshold,
    set_metrics,
    set_prediction,
    set_table,
    sigmoid,
)
from electra.tasks.labelled_data import Columns, LabelledExample, read_examples
from electra.tasks.labels import (
    CLASSIFICATION,
    MULTI_LABEL,
    REGRESSION,
    check_label,
    kinds_note,
    learn_labels,
    listed,
    number,
)
from electra.tasks.sequence_classifier import SequenceClassifier, same_answer
from electra.tasks.task import Logits, Prediction, TaskLoss
from electra.tasks.text_inputs import check_pair, open_texts, text_examples
from electra.tasks.text_windows import encode_texts, mean_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CUT, WINDOWS = "cut", "windows"


@dataclass(frozen=True)
class TextClassification(SequenceClassifier[LabelledExample]):
    """See the module's docstring."""

    name: ClassVar[str] = "text-classification"

    problem_type: str
    labels: tuple[str, ...]
    """Sorted, by number where all are whole numbers; empty for regression."""
    columns: Columns
    max_length: int
    long_texts: str = CUT
    """Or `windows`."""
    doc_stride: int = 0
    """Tokens two neighbouring windows share."""
    label_separator: str | None = None
    threshold: float = DEFAULT_THRESHOLD
    """Of several labels: the probability from which on one is given."""
    out_of_scope_label: str | None = None
    class_weights: tuple[float, ...] = ()
    """In training alone; of several labels those of the positives."""

    @property
    def metric(self) -> str:
        """Accuracy; micro-F1 for several labels, Pearson's correlation for regression."""
        return {REGRESSION: "pearson", MULTI_LABEL: "micro_f1"}.get(self.problem_type, "accuracy")

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
            DataError: as `read_examples` and `learn_labels`; no row is out of scope.
            ConfigError: a setting that does not go with the labels or with two sentences.
        """
        data = config.data
        columns, examples = read_examples(source, data)
        problem_type, labels = learn_labels(examples, f'{source} column "{columns.label}"')
        task = cls(
            problem_type,
            labels,
            columns,
            data.max_length,
            long_texts=data.long_texts,
            doc_stride=data.doc_stride,
            label_separator=data.label_separator,
            out_of_scope_label=data.out_of_scope_label,
        )
        task._check_settings(source)
        smoothing = config.training.label_smoothing
        if smoothing and problem_type == REGRESSION:
            raise ConfigError(
                f"--training.label-smoothing is {smoothing:g}, which is for labels; {source} has "
                "numbers (regression)"
            )
        if config.training.class_weights == "none":
            return task, examples
        if problem_type == REGRESSION:
            raise ConfigError(
                f"--training.class-weights is {config.training.class_weights}, which is for "
                f"labels; {source} has numbers (regression)"
            )
        if problem_type == MULTI_LABEL:
            weights = positive_weights([e.labels or () for e in examples], labels)
        else:
            weights = balanced_weights([e.label for e in examples], labels)
        return replace(task, class_weights=weights), examples

    def _check_settings(self, source: str) -> None:
        if self.long_texts == WINDOWS and self.has_pair:
            raise ConfigError(
                f"--data.long-texts is windows, which is for one sentence; {source} has two, "
                f"{self.columns.text} and {self.columns.text_pair} (allowed: cut)"
            )
        label = self.out_of_scope_label
        if label is not None and self.problem_type != CLASSIFICATION:
            raise ConfigError(
                f"--data.out-of-scope-label is {label}, which is for one label a row; the rows of "
                f"{source} have {'numbers' if self.problem_type == REGRESSION else 'several'}"
            )
        if label is not None and label not in self.labels:
            raise DataError(
                f"--data.out-of-scope-label is {label}, which no row of {source} has; labels: "
                f"{listed(self.labels)}"
            )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """From `task.json`."""
        columns = settings["columns"]
        return cls(
            problem_type=settings["problem_type"],
            labels=tuple(settings["labels"]),
            columns=Columns(columns["text"], columns["text_pair"], columns["label"]),
            max_length=int(settings["max_length"]),
            # folders of before these were there lack them
            long_texts=settings.get("long_texts", CUT),
            doc_stride=int(settings.get("doc_stride", 0)),
            label_separator=settings.get("label_separator"),
            threshold=float(settings.get("threshold", DEFAULT_THRESHOLD)),
            out_of_scope_label=settings.get("out_of_scope_label"),
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
            "long_texts": self.long_texts,
            "doc_stride": self.doc_stride,
            "label_separator": self.label_separator,
            "threshold": self.threshold,
            "out_of_scope_label": self.out_of_scope_label,
            "metric": self.metric,
        }

    def read(
        self, source: str, data: LabelledDataConfig | None = None, *, labelled: bool = True
    ) -> list[LabelledExample]:
        """Rows of another file, with labels that training knew.

        Raises:
            DataError: a label that is not among `labels`, or a file of another shape.
        """
        data = data or LabelledDataConfig()
        separator = data.label_separator or self.label_separator
        columns, examples = read_examples(
            source,
            replace(data, label_separator=separator),
            labelled=labelled,
            known=self.columns,
            allow_empty=not labelled,
        )
        check_pair(columns.text_pair is not None, self.has_pair, source)
        if labelled:
            for example in examples:
                check_label(example, self.problem_type, self.labels)
        return examples

    def of_texts(self, texts: Sequence[Any]) -> list[LabelledExample]:
        """From texts, or pairs of them for a model of two sentences.

        Raises:
            DataError: an input is something else, or no UTF-8.
        """
        return text_examples(texts, self.has_pair)

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
        """Rows of text files and tables, and of TREC's form where the training data had it."""
        return open_texts(input, data, self.columns, stdin)

    def head_type(self) -> str:
        """`problem_type`."""
        return self.problem_type

    def features(
        self,
        examples: Sequence[LabelledExample],
        tokenizer: PreTrainedTokenizerBase,
        *,
        token_types: bool,
        max_length: int | None = None,
    ) -> list[Feature]:
        """One feature an example, cut at the end (of a pair the longer one), or its windows."""
        if not examples:
            return []
        return encode_texts(
            [e.text for e in examples],
            [e.text_pair or "" for e in examples] if self.has_pair else None,
            [self._target(e) for e in examples],
            tokenizer,
            max_length=min(max_length or self.max_length, self.max_length),
            doc_stride=self.doc_stride if self.long_texts == WINDOWS else None,
            token_types=token_types,
        )

    def _target(self, example: LabelledExample) -> Any:
        if example.labels is not None:
            return [self.labels.index(name) for name in example.labels]
        if example.label is None:
            return None
        if self.problem_type == REGRESSION:
            return number(example.label)
        return self.labels.index(example.label)

    def targets(self, features: Sequence[Feature], length: int) -> Tensor:
        """Label numbers int64 [B]; scores float32 [B]; or 1 for each label given, [B, labels]."""
        if self.problem_type == REGRESSION:
            return torch.tensor([f.target for f in features], dtype=torch.float32)
        if self.problem_type == CLASSIFICATION:
            return super().targets(features, length)
        given = torch.zeros(len(features), len(self.labels))
        for row, feature in enumerate(features):
            given[row, feature.target] = 1.0
        return given

    @torch.no_grad()
    def start_head(self, model: PreTrainedModel, features: Sequence[Feature]) -> None:
        """Scores begin at their mean: a bias moves by a learning rate a step, and would take the
        encoder along on the way there.
        """
        if self.problem_type != REGRESSION:
            return
        mean = statistics.fmean(feature.target for feature in features)
        for name, module in model.named_modules():
            heads = isinstance(module, torch.nn.Linear) and module.out_features == 1
            if heads and module.bias is not None and not name.startswith(model.base_model_prefix):
                module.bias.fill_(mean)

    def num_targets(self, targets: Tensor) -> Tensor:
        """B, or the sum of their class weights; of several labels B times labels."""
        if self.problem_type == CLASSIFICATION:
            return super().num_targets(targets)
        return torch.tensor(targets.numel(), device=targets.device)

    def loss(self, logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> TaskLoss:
        """Summed: cross-entropy, binary or not, of logits [B, labels]; squared error of [B, 1]."""
        if self.problem_type == REGRESSION:
            return TaskLoss(F.mse_loss(logits.squeeze(-1), targets, reduction="sum"))
        if self.problem_type == CLASSIFICATION:
            return super().loss(logits, targets, label_smoothing=label_smoothing)
        weights = self.class_weights
        return binary_cross_entropy(logits, targets, weights, label_smoothing=label_smoothing)

    def _logits(
        self, features: Sequence[Feature], logits: Sequence[Logits], count: int
    ) -> Sequence[Logits]:
        """Of each of `count` examples."""
        return mean_logits(features, logits, count) if self.long_texts == WINDOWS else logits

    def tuned(
        self,
        examples: Sequence[LabelledExample],
        features: Sequence[Feature],
        logits: Sequence[Logits],
    ) -> Self:
        """Of several labels: with the threshold of the largest micro-F1 on these examples."""
        if self.problem_type != MULTI_LABEL:
            return self
        truth = metrics.label_matrix([e.labels or () for e in examples], self.labels)
        scores = sigmoid(self._logits(features, logits, len(examples)))
        return replace(self, threshold=best_threshold(truth, scores))

    def decode(
        self,
        examples: Sequence[LabelledExample],
        features: Sequence[Feature],
        logits: Sequence[Logits],
    ) -> list[Prediction]:
        """`label`, its probability `score`, and `scores` of all labels; for regression `score`.

        Of several labels `labels`, `score` and `scores` as `set_prediction` says.
        """
        rows = self._logits(features, logits, len(examples))
        if self.problem_type == REGRESSION:
            return [{"label": None, "score": float(x[0]), "scores": {}} for x in rows]
        if self.problem_type == MULTI_LABEL:
            return [set_prediction(self.labels, sigmoid(x), self.threshold) for x in rows]
        return super().decode(examples, features, rows)

    def metrics(
        self, examples: Sequence[LabelledExample], predictions: Sequence[Prediction]
    ) -> dict[str, float]:
        """accuracy, macro_f1, mcc, with two labels auc; for regression pearson and spearman.

        Those of several labels are in `set_metrics`; with an out-of-scope label its two are added.
        """
        if self.problem_type == MULTI_LABEL:
            return set_metrics([e.labels or () for e in examples], predictions, self.labels)
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
        if self.out_of_scope_label is not None:
            result |= metrics.out_of_scope(truth, answers, self.out_of_scope_label)
        return result

    def notes(self, examples: Sequence[LabelledExample]) -> list[str]:
        """What reading had to put up with, and numbers and names among the labels."""
        return [e.note for e in examples if e.note] + kinds_note(examples)

    def per_class(
        self, examples: Sequence[LabelledExample], predictions: Sequence[Prediction]
    ) -> list[dict[str, Any]]:
        """Of each label; none for regression."""
        if self.problem_type == MULTI_LABEL:
            return set_table([e.labels or () for e in examples], predictions, self.labels)
        truth, answers = [e.label or "" for e in examples], [p["label"] for p in predictions]
        return metrics.per_class(truth, answers, self.labels) if self.labels else []

    def collapsed(
        self, examples: Sequence[LabelledExample], predictions: Sequence[Prediction]
    ) -> str | None:
        """One label or set of labels, or one number, for examples that differ."""
        if self.problem_type == MULTI_LABEL:
            sets = [frozenset(e.labels or ()) for e in examples]
            given = [", ".join(p["labels"]) for p in predictions]
            return same_answer(sets, [f'"{names}"' if names else "no label" for names in given])
        truth = [e.label for e in examples]
        if self.problem_type == CLASSIFICATION:
            return same_answer(truth, [f'"{p["label"]}"' for p in predictions])
        spread = float(np.ptp([float(e.label or "nan") for e in examples]))
        if float(np.ptp([p["score"] for p in predictions])) >= 1e-3 * spread:
            return None
        return same_answer(truth, ["the same number"] * len(predictions))
