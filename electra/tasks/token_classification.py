"""Entities, chunks and slots: a tag for each word, and with slots an intent for the sentence.

The head is that of `AutoModelForTokenClassification`. A word is tagged at its first word piece. A
text longer than the model is read in windows that overlap, and a word is tagged in the one that
shows most around it. Tags are decoded to the best sequence that spells whole entities (Viterbi).

With intents the same head has outputs for them, named `intent:NAME`, and the sentence's logits are
their mean over its words: as the head is linear, that is a head of its own on the mean of the
words' vectors, and the folder still opens with the Auto class. The two losses, each a mean, are
added. Models are chosen by the F1 of entities in either case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TextIO

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from electra.config import FinetuneConfig, HeadConfig, LabelledDataConfig
from electra.errors import DataError
from electra.tasks import entity_metrics
from electra.tasks.batches import Feature
from electra.tasks.cases import Case, entity_cases
from electra.tasks.heads import with_text_head
from electra.tasks.model_folder import load_config, load_with_head
from electra.tasks.tag_schemes import BIO, IOB1, Tagset, entities_of, tags_of
from electra.tasks.tagged_data import (
    TaggedExample,
    WordRule,
    check_known,
    listed,
    notes,
    scheme_of,
    to_example,
    to_examples,
)
from electra.tasks.tagged_files import TagColumns, TaggedRow, read_tagged
from electra.tasks.tagged_inputs import open_untagged
from electra.tasks.task import TASK_FILE, Logits, Prediction, Task, TaskLoss
from electra.tasks.word_windows import windows_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

INTENT = "intent:"
"""Before the names of intents among the outputs."""
IGNORED = -100
"""The target of tokens that are no word's first piece."""


@dataclass(frozen=True)
class TokenClassification(Task[TaggedExample]):
    """See the module's docstring."""

    name: ClassVar[str] = "token-classification"

    scheme: str
    """As the training data was written; IOB1 is learned as BIO."""
    types: tuple[str, ...]
    """Of entities, sorted."""
    max_length: int
    rule: WordRule
    columns: TagColumns
    intents: tuple[str, ...] = ()

    @property
    def metric(self) -> str:
        """F1 over the entities, as conlleval counts."""
        return "f1"

    @cached_property
    def tagset(self) -> Tagset:
        """The tags that are learned."""
        return Tagset(BIO if self.scheme == IOB1 else self.scheme, self.types)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the outputs: tags, then intents."""
        return (*self.tagset.names, *(INTENT + name for name in self.intents))

    @classmethod
    def from_training(
        cls, source: str, config: FinetuneConfig
    ) -> tuple[TokenClassification, list[TaggedExample]]:
        """Scheme, types and what a word is from the rows.

        Raises:
            DataError: what is wrong in the file; nothing is marked; the intents are all the same.
        """
        columns = TagColumns().given(config.data)
        rows = read_tagged(source, config.data, columns)
        rule = WordRule.of(rows)
        examples = to_examples(rows, rule, source)
        types = {entity.label for e in examples for entity in e.entities or ()}
        if not types:
            raise DataError(
                f"{source} marks no entity in {len(examples)} sentences: there is nothing to learn"
            )
        intents = {e.intent for e in examples}
        if len(intents) == 1 and None not in intents:
            raise DataError(f'{source} has one intent alone, "{intents.pop()}"; two are wanted')
        tagged = [row.tags for row in rows if row.tags is not None]
        task = cls(
            scheme=scheme_of(tagged, source) if tagged else BIO,
            types=tuple(sorted(types)),
            max_length=config.data.max_length,
            intents=() if None in intents else tuple(sorted(filter(None, intents))),
            rule=rule,
            columns=columns,
        )
        return task, examples

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """From `task.json`."""
        task = cls(
            scheme=settings["scheme"],
            types=tuple(settings["types"]),
            max_length=int(settings["max_length"]),
            intents=tuple(settings["intents"]),
            rule=WordRule(**settings["words"]),
            columns=TagColumns(**settings["columns"]),
        )
        _ = task.tagset  # refuses an unknown scheme
        return task

    def settings(self) -> dict[str, Any]:
        """For `task.json`."""
        return {
            "scheme": self.scheme,
            "types": list(self.types),
            "intents": list(self.intents),
            "words": {"joiner": self.rule.joiner, "by_character": self.rule.by_character},
            "columns": {"text": self.columns.text, "label": self.columns.label},
            "max_length": self.max_length,
            "metric": self.metric,
        }

    def read(
        self, source: str, data: LabelledDataConfig | None = None, *, labelled: bool = True
    ) -> list[TaggedExample]:
        """Sentences of another file; a few labels may be unknown (`check_known`)."""
        rows = read_tagged(source, data or LabelledDataConfig(), self.columns, labelled=labelled)
        if not labelled:
            return [to_example(row, self.rule) for row in rows]
        examples = to_examples(rows, self.rule, source)
        return check_known(examples, self.types, self.intents, source)

    def of_texts(self, texts: Sequence[Any]) -> list[TaggedExample]:
        """From texts, or lists of words."""
        rows = []
        for number, text in enumerate(texts):
            place = f"input {number}"
            if isinstance(text, str):
                rows.append(TaggedRow(number, place, text=text))
            elif (
                isinstance(text, list | tuple)
                and text
                and all(isinstance(word, str) and word for word in text)
            ):
                rows.append(TaggedRow(number, place, words=tuple(text)))
            else:
                raise DataError(f"{place}: the model reads a text or a list of words")
        return [to_example(row, self.rule) for row in rows]

    def open_unlabelled(
        self, input: str, data: LabelledDataConfig, stdin: TextIO | None = None
    ) -> tuple[Iterator[TaggedExample], int]:
        """Texts of text files and tables, words of CoNLL columns and of folders as ATIS's."""
        rows, chunk = open_untagged(input, data, self.columns, stdin)
        return (to_example(row, self.rule) for row in rows), chunk

    def notes(self, examples: Sequence[TaggedExample]) -> list[str]:
        """Entities that tags on words cannot say, and unknown labels."""
        return notes(examples)

    def build_model(
        self, encoder: str, head: HeadConfig, *, from_scratch: bool = False
    ) -> PreTrainedModel:
        """`AutoModelForTokenClassification` with a fresh head."""
        from transformers import AutoModelForTokenClassification

        return with_text_head(
            AutoModelForTokenClassification,
            encoder,
            head,
            labels=self.labels,
            from_scratch=from_scratch,
        )

    def load_model(self, folder: Path) -> PreTrainedModel:
        """A fine-tuned model; its head must be there."""
        from transformers import AutoModelForTokenClassification

        config = load_config(str(folder))
        names = tuple((config.id2label or {}).values())
        if names != self.labels:
            raise DataError(
                f"--model {folder}: its config.json names other outputs ({listed(names, 5)}) than "
                f"its {TASK_FILE} ({listed(self.labels, 5)}); give a folder that `finetune` wrote"
            )
        return load_with_head(
            AutoModelForTokenClassification, str(folder), config, fresh_head=False
        )

    def features(
        self,
        examples: Sequence[TaggedExample],
        tokenizer: PreTrainedTokenizerBase,
        *,
        token_types: bool,
        max_length: int | None = None,
    ) -> list[Feature]:
        """Windows; none for a text without words. `origin` is (positions, words) to be tagged."""
        tags = [self._targets_of(example) for example in examples]
        features = []
        for window in windows_of(
            examples, tokenizer, min(max_length or self.max_length, self.max_length)
        ):
            known, target = tags[window.example], None
            if known is not None:
                intent = self._intent_id(examples[window.example])
                target = ([known[word] for word in window.words], intent)
            features.append(
                Feature(
                    example=window.example,
                    input_ids=window.input_ids,
                    token_type_ids=[0] * len(window.input_ids) if token_types else None,
                    target=target,
                    origin=(window.positions, window.words),
                )
            )
        return features

    def _targets_of(self, example: TaggedExample) -> list[int] | None:
        """The number of each word's tag."""
        if example.entities is None:
            return None
        ids = self.tagset.ids
        tags = tags_of(len(example.words), example.spans, self.tagset.scheme)
        return [ids[tag] for tag in tags]

    def _intent_id(self, example: TaggedExample) -> int:
        known = example.intent in self.intents
        return self.intents.index(example.intent or "") if known else IGNORED

    def targets(self, features: Sequence[Feature], length: int) -> Tensor:
        """Tag numbers int64 [B, L], `IGNORED` where none is wanted; with intents [B, L + 1]."""
        rows = np.full((len(features), length + bool(self.intents)), IGNORED, dtype=np.int64)
        for row, feature in zip(rows, features, strict=True):
            tags, intent = feature.target
            row[feature.origin[0]] = tags
            if self.intents:
                row[-1] = intent
        return torch.from_numpy(rows)

    def num_targets(self, targets: Tensor) -> Tensor:
        """Words to be tagged."""
        tags = targets[:, :-1] if self.intents else targets
        return (tags != IGNORED).sum()

    def loss(self, logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> TaskLoss:
        """Cross-entropy of logits [B, L, tags + intents], summed over words.

        The intent's counts once for each word of its sentence, so that divided by the number of
        words it is a mean, too.
        """
        num_tags = len(self.tagset.names)
        tags, tag_logits = targets[:, : logits.shape[1]], logits[..., :num_tags]
        total = F.cross_entropy(
            tag_logits.flatten(0, 1),
            tags.flatten(),
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=label_smoothing,
        )
        is_word = tags != IGNORED  # [B, L]
        correct = (tag_logits.argmax(-1) == tags).sum()
        metrics: dict[str, tuple[Tensor, Tensor | float]] = {"accuracy": (correct, is_word.sum())}
        if self.intents:
            intents, words = targets[:, -1], is_word.sum(1)  # [B]
            summed = (logits[..., num_tags:] * is_word[..., None]).sum(1)
            mean = summed / words.clamp(min=1)[:, None]  # [B, intents]
            each = F.cross_entropy(
                mean,
                intents,
                ignore_index=IGNORED,
                reduction="none",
                label_smoothing=label_smoothing,
            )
            total = total + (each * words).sum()
            metrics["intent_accuracy"] = ((mean.argmax(-1) == intents).sum(), len(intents))
        return TaskLoss(total, metrics)

    def decode(
        self,
        examples: Sequence[TaggedExample],
        features: Sequence[Feature],
        logits: Sequence[Logits],
    ) -> list[Prediction]:
        """`entities`, each with start, end, text, label and score, and with intents `intent`.

        An entity's score is the mean of the probabilities of its words' tags. Where the text was
        made from words it is given as `text`.
        """
        num_tags = len(self.tagset.names)
        rows = [np.zeros((len(e.words), len(self.labels))) for e in examples]  # [W, labels] each
        for feature, answer in zip(features, logits, strict=True):
            positions, words = feature.origin
            rows[feature.example][words] = answer[positions]
        predictions = []
        for example, scores in zip(examples, rows, strict=True):
            prediction: Prediction = {"text": example.text} if example.joined else {}
            prediction["entities"] = self._entities(example, _log_softmax(scores[:, :num_tags]))
            if self.intents:
                mean = scores[:, num_tags:].mean(0) if len(scores) else np.zeros(len(self.intents))
                probabilities = np.exp(_log_softmax(mean))
                best = int(probabilities.argmax())
                prediction["intent"] = self.intents[best]
                prediction["intent_score"] = float(probabilities[best])
            predictions.append(prediction)
        return predictions

    def _entities(
        self, example: TaggedExample, scores: NDArray[np.float64]
    ) -> list[dict[str, Any]]:
        if not len(scores):
            return []
        tags = self.tagset.decode(scores)
        names = [self.tagset.names[tag] for tag in tags]
        found = []
        for start, end, label in entities_of(names, self.tagset.scheme):
            first, last = example.words[start][0], example.words[end - 1][1]
            words = np.arange(start, end)
            found.append(
                {
                    "start": first,
                    "end": last,
                    "text": example.text[first:last],
                    "label": label,
                    "score": float(np.exp(scores[words, tags[words]]).mean()),
                }
            )
        return found

    def metrics(
        self, examples: Sequence[TaggedExample], predictions: Sequence[Prediction]
    ) -> dict[str, float]:
        """f1, precision and recall of entities; with intents intent_accuracy and sentence_accuracy.

        A sentence is right where its intent and all its entities are.
        """
        truth, found = entity_metrics.both(examples, predictions)
        result = entity_metrics.micro(truth, found)
        if self.intents:
            right = [e.intent == p["intent"] for e, p in zip(examples, predictions, strict=True)]
            whole = [r and t == f for r, t, f in zip(right, truth, found, strict=True)]
            result["intent_accuracy"] = sum(right) / len(right)
            result["sentence_accuracy"] = sum(whole) / len(whole)
        return result

    def per_class(
        self, examples: Sequence[TaggedExample], predictions: Sequence[Prediction]
    ) -> list[dict[str, Any]]:
        """Of each type of entity."""
        return entity_metrics.per_class(*entity_metrics.both(examples, predictions))

    def cases(
        self, examples: Sequence[TaggedExample], predictions: Sequence[Prediction]
    ) -> list[Case]:
        """Sentences; what is confused are types of entities, and intents."""
        return entity_cases(examples, predictions)

    def collapsed(
        self, examples: Sequence[TaggedExample], predictions: Sequence[Prediction]
    ) -> str | None:
        """No entity anywhere."""
        if any(p["entities"] for p in predictions) or not any(e.entities for e in examples):
            return None
        return (
            f"the model finds no entity in any of the {len(examples)} validation sentences: try "
            "more steps, a higher --optimizer.learning-rate, or another seed (--seeds 3)"
        )


def _log_softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = scores - scores.max(-1, keepdims=True, initial=-np.inf)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result
