"""Which relation, and in which direction, holds between two entities of a text.

The entities are marked in the text, `[E1] ... [/E1]` and `[E2] ... [/E2]`, by tokens of their own
(Baldini Soares et al., 2019, "entity markers"), and the marked text is classified by the head of
`AutoModelForSequenceClassification`. A text that is too long is cut around the entities.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, TextIO

import numpy as np

from electra.config import FinetuneConfig, LabelledDataConfig
from electra.corpus.files import kind_of
from electra.errors import ConfigError, DataError
from electra.evaluation import metrics
from electra.tasks import relation_scores
from electra.tasks.batches import Feature
from electra.tasks.inputs import CHUNK, STDIN, file_and_splits, is_json, open_input
from electra.tasks.label_losses import balanced_weights
from electra.tasks.labels import require_known
from electra.tasks.relation_files import (
    ColumnNames,
    RelationExample,
    Span,
    parse_marks,
    read_relations,
    read_text,
    row_relation,
)
from electra.tasks.sequence_classifier import SequenceClassifier, same_answer
from electra.tasks.task import Prediction

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARKERS = ("[E1]", "[/E1]", "[E2]", "[/E2]")
SHORTEST = 16
"""Tokens that an example must be allowed: the markers, and something in and around them."""
_MARKER = re.compile(r"\[(/?E[12])\]")


@dataclass(frozen=True)
class RelationExtraction(SequenceClassifier[RelationExample]):
    """See the module's docstring."""

    name: ClassVar[str] = "relation-extraction"
    special_tokens: ClassVar[tuple[str, ...]] = MARKERS

    labels: tuple[str, ...]
    """Sorted; of a relation with a direction both."""
    columns: ColumnNames
    max_length: int
    class_weights: tuple[float, ...] = ()
    """In training alone."""

    @property
    def metric(self) -> str:
        """Macro-F1 with direction, `Other` left out: SemEval-2010 Task 8's official score."""
        return "macro_f1"

    @classmethod
    def from_training(
        cls, source: str, config: FinetuneConfig
    ) -> tuple[RelationExtraction, list[RelationExample]]:
        """Labels from the rows; where one has a direction, the other direction is a label, too.

        Raises:
            DataError: as `read_relations`; or all labels are the same.
            ConfigError: `max_length` has no room for the markers.
        """
        if config.data.max_length < SHORTEST:
            raise ConfigError(
                f"--data.max-length is {config.data.max_length}; allowed in relation-extraction: "
                f"{SHORTEST} or more"
            )
        columns = ColumnNames(config.data.text_column, config.data.label_column)
        examples = read_relations(source, config.data.header, columns)
        names = {e.label for e in examples if e.label is not None}
        if len(names) == 1:
            raise DataError(f'{source} holds one label alone, "{names.pop()}"; two are wanted')
        for name in list(names):
            relation = relation_scores.relation_of(name)
            if relation != name:
                names |= {relation + direction for direction in relation_scores.DIRECTIONS}
        task = cls(tuple(sorted(names)), columns, config.data.max_length)
        if config.training.class_weights != "none":
            weights = balanced_weights([e.label for e in examples], task.labels)
            task = replace(task, class_weights=weights)
        return task, examples

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """From `task.json`."""
        columns = settings["columns"]
        return cls(
            labels=tuple(settings["labels"]),
            columns=ColumnNames(columns["text"], columns["label"]),
            max_length=int(settings["max_length"]),
        )

    def settings(self) -> dict[str, Any]:
        """For `task.json`."""
        return {
            "labels": list(self.labels),
            "columns": {"text": self.columns.text, "label": self.columns.label},
            "max_length": self.max_length,
            "metric": self.metric,
        }

    def read(
        self, source: str, data: LabelledDataConfig | None = None, *, labelled: bool = True
    ) -> list[RelationExample]:
        """Rows of another file, with labels that training knew.

        Raises:
            DataError: a label that is not among `labels`, or what `read_relations` says.
        """
        data = data or LabelledDataConfig()
        examples = read_relations(source, data.header, self._columns(data), labelled=labelled)
        for example in examples if labelled else ():
            require_known(example.label, self.labels, example.place)
        return examples

    def _columns(self, data: LabelledDataConfig) -> ColumnNames:
        return ColumnNames(
            data.text_column, data.label_column, known=(self.columns.text, self.columns.label)
        )

    def of_texts(self, texts: Sequence[Any]) -> list[RelationExample]:
        """From texts with <e1> and <e2>, or rows with `text`, `head` and `tail`."""
        examples = []
        for number, given in enumerate(texts):
            place = f"input {number}"
            if isinstance(given, str):
                examples.append(RelationExample(number, *parse_marks(given, place), place=place))
            elif isinstance(given, Mapping):
                row = dict(given)
                examples.append(row_relation(row, ColumnNames(), number, place, labelled=False))
            else:
                raise DataError(f"{place} is {type(given).__name__}; a text or a row is wanted")
        return examples

    def open_unlabelled(
        self, input: str, data: LabelledDataConfig, stdin: TextIO | None = None
    ) -> tuple[Iterator[RelationExample], int]:
        """SemEval's format, lines with <e1> and <e2>, or rows."""
        path, _ = file_and_splits(input)
        if input != STDIN and not is_json(str(path)) and kind_of(path) == "text":
            return read_text(path, labelled=False), CHUNK
        columns = self._columns(data)
        source = open_input(input, header=data.header, columns=columns.asked(), stdin=stdin)
        examples = (
            row_relation(row, columns, number, f"{source.place} row {number + 1}", labelled=False)
            for number, row in enumerate(source.rows)
        )
        return examples, source.chunk

    def features(
        self,
        examples: Sequence[RelationExample],
        tokenizer: PreTrainedTokenizerBase,
        *,
        token_types: bool,
        max_length: int | None = None,
    ) -> list[Feature]:
        """One feature an example, cut by `around_entities` where it is too long."""
        if not examples:
            return []
        encoded = tokenizer(
            [mark_entities(e.text, e.head, e.tail) for e in examples],
            truncation=False,
            verbose=False,
            return_attention_mask=False,
            return_special_tokens_mask=True,
        )
        markers: Any = tokenizer.convert_tokens_to_ids(list(MARKERS))
        longest = min(max_length or self.max_length, self.max_length)
        features = []
        for number, example in enumerate(examples):
            ids = encoded["input_ids"][number]
            if len(ids) > longest:
                places = [ids.index(marker) for marker in markers]
                special = encoded["special_tokens_mask"][number]
                ids = [ids[i] for i in around_entities(special, places, longest)]
            target = None if example.label is None else self.labels.index(example.label)
            types = [0] * len(ids) if token_types else None
            features.append(Feature(number, ids, types, target))
        return features

    def metrics(
        self, examples: Sequence[RelationExample], predictions: Sequence[Prediction]
    ) -> dict[str, float]:
        """macro_f1 and micro_f1 of `relation_scores`, and accuracy over all labels."""
        truth, answers = _sides(examples, predictions)
        return {
            "macro_f1": relation_scores.macro_f1(truth, answers),
            "micro_f1": relation_scores.micro_f1(truth, answers),
            "accuracy": metrics.accuracy(truth, answers),
        }

    def per_class(
        self, examples: Sequence[RelationExample], predictions: Sequence[Prediction]
    ) -> list[dict[str, Any]]:
        """Of each relation; an answer in the wrong direction is wrong."""
        return relation_scores.relation_table(*_sides(examples, predictions))

    def collapsed(
        self, examples: Sequence[RelationExample], predictions: Sequence[Prediction]
    ) -> str | None:
        """One label for examples that differ."""
        truth, answers = _sides(examples, predictions)
        return same_answer(truth, [f'"{answer}"' for answer in answers])


def mark_entities(text: str, head: Span, tail: Span) -> str:
    """The text with the markers around both spans: `The [E1] author[/E1] of a [E2] book[/E2].`

    White space before an entity is repeated behind its marker, so that the entity is split into the
    tokens it has without markers. What looks like a marker in the text is pulled apart.
    """
    parts = []
    end = 0
    for (start, stop), opening, closing in sorted([(head, *MARKERS[:2]), (tail, *MARKERS[2:])]):
        before, entity = (_MARKER.sub(r"[ \1 ]", t) for t in (text[end:start], text[start:stop]))
        space = " " if before[-1:].isspace() else ""
        parts += [before, opening, space, entity, closing]
        end = stop
    return "".join([*parts, _MARKER.sub(r"[ \1 ]", text[end:])])


def around_entities(special: Sequence[int], markers: Sequence[int], length: int) -> list[int]:
    """Which `length` tokens of a text that is too long to keep, in order.

    First what frames it and the four markers, then the entities (from their starts), then what
    stands between them, then what stands outside; each nearest to an entity first.

    Args:
        special: 1 for the tokens the tokenizer puts around a text.
        markers: positions of the four markers.
        length: tokens to keep.
    """
    (a, b), (c, d) = sorted([(markers[0], markers[1]), (markers[2], markers[3])])
    position = np.arange(len(special))
    distance = np.abs(position[:, None] - np.array([a, b, c, d])).min(axis=1)
    rank = np.full(len(special), 3)
    rank[b:c] = 2
    for start, stop in ((a, b), (c, d)):
        rank[start : stop + 1] = 1
        distance[start : stop + 1] = np.arange(stop + 1 - start)
    rank[list(markers)] = 0
    rank[np.asarray(special) == 1] = 0
    kept: list[int] = np.sort(np.lexsort((distance, rank))[:length]).tolist()
    return kept


def _sides(
    examples: Sequence[RelationExample], predictions: Sequence[Prediction]
) -> tuple[list[str], list[str]]:
    return [e.label or "" for e in examples], [p["label"] for p in predictions]
