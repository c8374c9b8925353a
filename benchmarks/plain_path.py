"""Fine-tuning by the plain path of transformers: its model classes, padding, a default loop.

Of its examples are the model classes, labels on first pieces, windows and answers (run_glue.py,
run_ner.py, run_qa.py, run_swag.py), batches in random order, and of its Trainer the fused AdamW
without decay on biases and norms, linear decay and clipping at 1. Warmup over a tenth, the rate and
epsilon are our recipe's, rows and metrics those of `electra.tasks`, so that both paths learn from
the same and are scored alike.

Padding to the longest allowed is the default of run_glue.py and run_qa.py; run_ner.py and
run_swag.py pad a batch to its longest row. So there are two peers: `plain` pads all to the longest
allowed; with `pad_to_longest` every batch is cut to its longest row. In the loss of answers padding
competes with the answer's tokens, as in transformers' heads; in ours it does not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from transformers import get_linear_schedule_with_warmup

from electra.tasks.multiple_choice import fill
from electra.tasks.relation_extraction import MARKERS, mark_entities
from electra.tasks.tag_schemes import OUTSIDE, entities_of, tags_of
from electra.tasks.task import Task

IGNORED = -100
STRIDE = 128
N_BEST = 20
LONGEST_ANSWER = 30
NO_OPTION = "无效答案"
EVALUATION_BATCH = 32


@dataclass
class Encoded:
    """Rows as tensors."""

    tensors: dict[str, Tensor]
    """Inputs [N, ...] and, in training, the model's targets."""
    origin: list[Any]
    """Of each of the N what `predictions` needs."""


@dataclass
class PlainPath:
    """A task, a model with a fresh head and a tokenizer."""

    task: Task[Any]
    model: Any
    tokenizer: Any
    max_length: int
    pad_to_longest: bool = False
    """Cut every batch to its longest row in evaluation."""

    @classmethod
    def of(
        cls, task: Task[Any], encoder: str, max_length: int, *, pad_to_longest: bool = False
    ) -> PlainPath:
        """The encoder's weights under the head of transformers' Auto class; seed torch before."""
        transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
        model = _model(task, encoder, tokenizer)
        return cls(task, model, tokenizer, max_length, pad_to_longest)

    def encode(self, examples: Sequence[Any], *, training: bool) -> Encoded:
        """Tokenized and padded to `max_length`; in training with targets."""
        encode = {
            "text-classification": self._texts,
            "relation-extraction": self._relations,
            "token-classification": self._words,
            "question-answering": self._questions,
            "multiple-choice": self._choices,
        }[self.task.name]
        return encode(examples, training)

    @torch.inference_mode()
    def predictions(self, examples: Sequence[Any]) -> list[dict[str, Any]]:
        """Tokenize, run, decode: what `Task.metrics` takes, for each example."""
        encoded = self.encode(examples, training=False)
        self.model.eval()
        outputs = []
        names = list(encoded.tensors)
        for batch in _loader(encoded.tensors, EVALUATION_BATCH):
            inputs = dict(zip(names, batch, strict=True))
            outputs.append(
                self.model(**(cut_to_longest(inputs) if self.pad_to_longest else inputs))
            )
        if self.task.name == "question-answering":
            starts = torch.cat([self._whole(o.start_logits) for o in outputs]).numpy()
            ends = torch.cat([self._whole(o.end_logits) for o in outputs]).numpy()
            return _best_answers(examples, encoded.origin, starts, ends)
        if self.task.name == "token-classification":
            logits = torch.cat([self._whole(o.logits.mT).mT for o in outputs])
            return list(self._entities(examples, encoded.origin, logits))
        logits = torch.cat([o.logits for o in outputs])
        if self.task.name == "multiple-choice":
            return [{"choice": int(i)} for i in logits.argmax(-1)]
        if not self.labels:
            return [{"label": None, "score": float(x), "scores": {}} for x in logits[:, 0]]
        chances = logits.softmax(-1).tolist()
        return [
            {"label": self.labels[int(np.argmax(row))], "score": max(row)}
            | {"scores": dict(zip(self.labels, row, strict=True))}
            for row in chances
        ]

    @property
    def labels(self) -> list[str]:
        """Names of the classes or tags; none for regression and where there are none."""
        return _labels(self.task)

    def _whole(self, logits: Tensor) -> Tensor:
        """Logits [..., L] as [..., max_length]; what was cut off is chosen by nothing."""
        missing = self.max_length - logits.shape[-1]
        return torch.nn.functional.pad(logits, (0, missing), value=-torch.inf)

    def _pad(self, *texts: Any, **more: Any) -> Any:
        given = {"truncation": True, "padding": "max_length", "max_length": self.max_length}
        return self.tokenizer(*texts, **(given | {"return_tensors": "pt"} | more))

    def _texts(self, examples: Sequence[Any], training: bool) -> Encoded:
        pairs = [e.text_pair for e in examples]
        texts = ([e.text for e in examples], *([pairs] if pairs[0] is not None else []))
        tensors = dict(self._pad(*texts))
        if training and self.labels:
            tensors["labels"] = torch.tensor([self.labels.index(e.label) for e in examples])
        elif training:
            tensors["labels"] = torch.tensor([float(e.label) for e in examples])
        return Encoded(tensors, list(range(len(examples))))

    def _relations(self, examples: Sequence[Any], training: bool) -> Encoded:
        tensors = dict(self._pad([mark_entities(e.text, e.head, e.tail) for e in examples]))
        if training:
            tensors["labels"] = torch.tensor([self.labels.index(e.label) for e in examples])
        return Encoded(tensors, list(range(len(examples))))

    def _words(self, examples: Sequence[Any], training: bool) -> Encoded:
        scheme = self.task.tagset.scheme  # type: ignore[attr-defined]
        words = [[e.text[start:end] for start, end in e.words] for e in examples]
        encoded = self._pad(words, is_split_into_words=True)
        labels = torch.full_like(encoded["input_ids"], IGNORED)
        first_pieces = []
        for row, example in enumerate(examples):
            tags = tags_of(len(example.words), example.spans, scheme)
            before, places = None, []
            for place, word in enumerate(encoded.word_ids(row)):
                if word is not None and word != before:
                    labels[row, place] = self.labels.index(tags[word]) if training else 0
                    places.append((word, place))
                before = word
            first_pieces.append(places)
        return Encoded(dict(encoded) | ({"labels": labels} if training else {}), first_pieces)

    def _entities(
        self, examples: Sequence[Any], first_pieces: Sequence[Any], logits: Tensor
    ) -> Iterator[dict[str, Any]]:
        scheme = self.task.tagset.scheme  # type: ignore[attr-defined]
        best = logits.argmax(-1).tolist()
        for example, places, row in zip(examples, first_pieces, best, strict=True):
            tags = [OUTSIDE] * len(example.words)  # words that were cut off are outside
            for word, place in places:
                tags[word] = self.labels[row[place]]
            yield {
                "entities": [
                    {"start": example.words[a][0], "end": example.words[b - 1][1], "label": label}
                    for a, b, label in entities_of(tags, scheme)
                ]
            }

    def _questions(self, examples: Sequence[Any], training: bool) -> Encoded:
        if training:
            examples = [e for e in examples if any(a.start is not None for a in e.answers)]
        encoded = self._pad(
            [e.question.lstrip() for e in examples],
            [e.context for e in examples],
            truncation="only_second",
            stride=STRIDE,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        of = encoded.pop("overflow_to_sample_mapping").tolist()
        offsets = encoded.pop("offset_mapping").tolist()
        origin = []
        starts, ends = [], []
        for row, number in enumerate(of):
            in_context = [part == 1 for part in encoded.sequence_ids(row)]
            spans = [
                o if inside else None for o, inside in zip(offsets[row], in_context, strict=True)
            ]
            origin.append((number, spans))
            if training:
                start, end = _answer_tokens(examples[number], spans)
                starts.append(start)
                ends.append(end)
        tensors = dict(encoded)
        if training:
            tensors |= {
                "start_positions": torch.tensor(starts),
                "end_positions": torch.tensor(ends),
            }
        return Encoded(tensors, origin)

    def _choices(self, examples: Sequence[Any], training: bool) -> Encoded:
        count = max(len(e.choices) for e in examples)
        # the head wants as many for all; C3 has two to four
        choices = [[*e.choices, *[NO_OPTION] * (count - len(e.choices))] for e in examples]
        encoded = self._pad(
            [e.context for e in examples for _ in range(count)],
            [fill(e.question, c) for e, own in zip(examples, choices, strict=True) for c in own],
            truncation="only_first",
        )
        tensors = {k: v.view(len(examples), count, -1) for k, v in encoded.items()}
        if training:
            tensors["labels"] = torch.tensor([e.label for e in examples])
        return Encoded(tensors, list(range(len(examples))))


class PlainTraining:
    """The default loop; `run` may be called again and goes on."""

    def __init__(
        self,
        model: Any,
        encoded: Encoded,
        *,
        learning_rate: float,
        batch_size: int,
        steps: int,
        pad_to_longest: bool = False,
    ) -> None:
        """`steps` is the whole budget, for the schedule; seed torch before."""
        self._model = model
        self._pad_to_longest = pad_to_longest
        self._names = list(encoded.tensors)
        self._tensors, self._batch_size = encoded.tensors, batch_size
        self._batches: Iterator[Any] = iter(())
        weights = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim < 2]  # biases and norms
        self._optimizer = torch.optim.AdamW(
            [
                {"params": weights, "weight_decay": 0.01},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=learning_rate,
            eps=1e-6,
            fused=True,  # the Trainer's default, adamw_torch_fused
        )
        self._schedule = get_linear_schedule_with_warmup(  # type: ignore[no-untyped-call]
            self._optimizer, num_warmup_steps=steps // 10, num_training_steps=steps
        )

    def run(self, steps: int) -> int:
        """Take some steps; return how many rows they read."""
        self._model.train()
        rows = 0
        for _ in range(steps):
            batch = self._next()
            rows += len(batch[0])
            inputs = dict(zip(self._names, batch, strict=True))
            loss = self._model(**(cut_to_longest(inputs) if self._pad_to_longest else inputs)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
            self._optimizer.step()
            self._schedule.step()
            self._optimizer.zero_grad()
        return rows

    def _next(self) -> Any:
        batch = next(self._batches, None)
        if batch is None:
            self._batches = iter(_loader(self._tensors, self._batch_size, shuffle=True))
            batch = next(self._batches)
        return batch


def cut_to_longest(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Inputs and targets [B, ..., L] without the columns that are padding in all rows."""
    length = int(inputs["attention_mask"].sum(-1).max())
    cut = {name: x[..., :length] if x.ndim > 1 else x for name, x in inputs.items()}
    return {name: x.contiguous() for name, x in cut.items()}


def _loader(
    tensors: dict[str, Tensor], batch_size: int, *, shuffle: bool = False
) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(*tensors.values()), batch_size=batch_size, shuffle=shuffle)


def _labels(task: Any) -> list[str]:
    if task.name == "token-classification":
        return list(task.tagset.names)
    return list(getattr(task, "labels", ()))


def _model(task: Task[Any], encoder: str, tokenizer: Any) -> Any:
    auto = {
        "text-classification": transformers.AutoModelForSequenceClassification,
        "relation-extraction": transformers.AutoModelForSequenceClassification,
        "token-classification": transformers.AutoModelForTokenClassification,
        "question-answering": transformers.AutoModelForQuestionAnswering,
        "multiple-choice": transformers.AutoModelForMultipleChoice,
    }[task.name]
    more: dict[str, Any] = {}
    if task.name not in ("question-answering", "multiple-choice"):
        labels = _labels(task)
        more["num_labels"] = len(labels) or 1
        if task.name == "text-classification" and not labels:
            more["problem_type"] = "regression"
    model = auto.from_pretrained(encoder, dtype=torch.float32, **more)
    if task.name == "relation-extraction":
        tokenizer.add_tokens(list(MARKERS))
        model.resize_token_embeddings(len(tokenizer))
    return model


def _answer_tokens(example: Any, spans: Sequence[Any]) -> tuple[int, int]:
    """First and last token of the first answer; 0, 0 ([CLS]) where the window has not all of it."""
    answer = next(a for a in example.answers if a.start is not None)
    first, last = answer.start, answer.start + len(answer.text)
    inside = [i for i, span in enumerate(spans) if span is not None]
    if not inside or spans[inside[0]][0] > first or spans[inside[-1]][1] < last:
        return 0, 0
    start = max(i for i in inside if spans[i][0] <= first)
    end = min(i for i in inside if spans[i][1] >= last)
    return start, end


def _best_answers(
    examples: Sequence[Any], origin: Sequence[Any], starts: Any, ends: Any
) -> list[dict[str, Any]]:
    """The span of the highest start plus end logit, over the windows of each question."""
    windows = defaultdict(list)
    for row, (number, _) in enumerate(origin):
        windows[number].append(row)
    found = []
    for number, example in enumerate(examples):
        best, answer = -np.inf, ""
        for row in windows[number]:
            spans = origin[row][1]
            for start in np.argsort(-starts[row])[:N_BEST]:
                for end in np.argsort(-ends[row])[:N_BEST]:
                    if spans[start] is None or spans[end] is None:
                        continue
                    if end < start or end - start + 1 > LONGEST_ANSWER:
                        continue
                    score = starts[row][start] + ends[row][end]
                    if score > best:
                        best = score
                        answer = example.context[spans[start][0] : spans[end][1]]
        found.append({"answer": answer})
    return found
