"""Extractive question answering: the answer is a part of a given context, or there is none.

A context that is too long is read in windows that overlap; the best spans of all windows compete.
The head is that of `AutoModelForQuestionAnswering`, or with `--model.head joint` the one ELECTRA
was measured with (`electra.tasks.span_heads`). Where some questions of the training data are
unanswerable, the answer is empty above a threshold that is chosen on the validation data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TextIO, cast

import torch
from torch import Tensor

from electra.config import FinetuneConfig, HeadConfig, LabelledDataConfig
from electra.errors import DataError
from electra.evaluation.answers import (
    CHINESE,
    answer_metrics,
    best_null_threshold,
    language_of,
    score_answer,
)
from electra.tasks.answer_spans import (
    Answers,
    joint_spans,
    merge,
    null_score,
    plain_spans,
    prediction_of,
)
from electra.tasks.answer_windows import Window, by_example, make_windows
from electra.tasks.batches import Feature
from electra.tasks.cases import Case, answer_cases
from electra.tasks.inputs import CHUNK, is_json, open_input
from electra.tasks.labelled_data import Columns
from electra.tasks.squad_data import (
    Question,
    column_names,
    notes,
    question_of,
    read_questions,
    squad_rows,
)
from electra.tasks.task import Logits, Prediction, Task, TaskLoss
from electra.training.loop import Batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PLAIN, JOINT = "plain", "joint"
N_BEST = 20
ANSWERABLE_WEIGHT = 0.5
"""Of the joint head's loss of answerability (google-research/electra, `answerable_weight`)."""
_NEVER = -1e4


@dataclass(frozen=True)
class QuestionAnswering(Task[Question]):
    """See the module's docstring."""

    name: ClassVar[str] = "question-answering"

    head: str
    """`plain` or `joint`."""
    language: str
    """Whose scorer compares answers: `en` or `zh`."""
    unanswerable: bool
    """Whether some training questions have no answer."""
    columns: Columns
    """Question, context and answers, where the data is flat rows."""
    max_length: int
    doc_stride: int
    max_answer_length: int
    """In tokens."""
    null_threshold: float | None = None
    """The answer is empty where the score of that, over the best answer's, is above it."""

    @property
    def metric(self) -> str:
        """F1 of the official scorer."""
        return "f1"

    @property
    def averages_logits(self) -> bool:
        """Not those of the joint head, which names its own likeliest spans."""
        return self.head == PLAIN

    @classmethod
    def from_training(
        cls, source: str, config: FinetuneConfig
    ) -> tuple[QuestionAnswering, list[Question]]:
        """The language from the contexts, answerability from the questions.

        Raises:
            DataError: as `read_questions`; or no question has an answer.
        """
        data = config.data
        columns = column_names(data)
        questions = read_questions(
            source, columns, lost_answers=data.lost_answers, header=data.header
        )
        if not any(a.start is not None for q in questions for a in q.answers or ()):
            raise DataError(f"{source} holds no question with an answer at its offset")
        language = data.language
        if language == "auto":
            language = cast(Any, language_of({question.context for question in questions}))
        unanswerable = any(question.answers == () for question in questions)
        task = cls(
            head=config.model.head,
            language=language,
            unanswerable=unanswerable,
            columns=columns,
            max_length=data.max_length,
            doc_stride=data.doc_stride,
            max_answer_length=data.max_answer_length or (50 if language == CHINESE else 30),
            null_threshold=0.0 if unanswerable else None,
        )
        return task, questions

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """From `task.json`."""
        columns = settings["columns"]
        threshold = settings["null_threshold"]
        if settings["head"] not in (PLAIN, JOINT):
            raise ValueError(f"head {settings['head']}")
        return cls(
            head=settings["head"],
            language=str(settings["language"]),
            unanswerable=bool(settings["unanswerable"]),
            columns=Columns(columns["question"], columns["context"], columns["answers"]),
            max_length=int(settings["max_length"]),
            doc_stride=int(settings["doc_stride"]),
            max_answer_length=int(settings["max_answer_length"]),
            null_threshold=None if threshold is None else float(threshold),
        )

    def settings(self) -> dict[str, Any]:
        """For `task.json`."""
        return {
            "head": self.head,
            "language": self.language,
            "unanswerable": self.unanswerable,
            "columns": {
                "question": self.columns.text,
                "context": self.columns.text_pair,
                "answers": self.columns.label,
            },
            "max_length": self.max_length,
            "doc_stride": self.doc_stride,
            "max_answer_length": self.max_answer_length,
            "null_threshold": self.null_threshold,
            "metric": self.metric,
        }

    def read(
        self, source: str, data: LabelledDataConfig | None = None, *, labelled: bool = True
    ) -> list[Question]:
        """Questions of another file."""
        data = data or LabelledDataConfig()
        return read_questions(
            source,
            column_names(data, self.columns),
            labelled=labelled,
            lost_answers=data.lost_answers,
            header=data.header,
        )

    def of_texts(self, texts: Sequence[Any]) -> list[Question]:
        """From pairs (question, context), or mappings of these two names."""
        questions = []
        for number, given in enumerate(texts):
            if isinstance(given, str) or (not isinstance(given, Mapping) and len(given) != 2):
                raise DataError(f"input {number}: the model reads a question and a context")
            if not isinstance(given, Mapping):
                given = {"question": given[0], "context": given[1]}
            questions.append(question_of(given, number, "input", str(number)))
        return questions

    def of_arguments(self, texts: Sequence[str]) -> list[Question]:
        """The texts come in twos: question, context, question, context."""
        if len(texts) % 2:
            raise DataError(
                f"the model reads a question and a context, so texts come in twos; {len(texts)} "
                "given (or give --input with SQuAD's JSON, or JSONL with question and context)"
            )
        return self.of_texts(list(zip(texts[::2], texts[1::2], strict=True)))

    def open_unlabelled(
        self, input: str, data: LabelledDataConfig, stdin: TextIO | None = None
    ) -> tuple[Iterator[Question], int]:
        """SQuAD's JSON, or rows of tables with a question and a context."""
        columns = column_names(data, self.columns)
        if is_json(input):
            rows = enumerate(squad_rows(input))
            return (question_of(row, i, input, where) for i, (where, row) in rows), CHUNK
        asked = [name for name in (columns.text, columns.text_pair) if name]
        source = open_input(input, header=data.header, columns=asked, stdin=stdin)
        return self._of_rows(source.rows, source.place, columns), source.chunk

    def _of_rows(
        self, rows: Iterator[dict[str, Any]], place: str, columns: Columns
    ) -> Iterator[Question]:
        for number, row in enumerate(rows):
            if list(row) == ["text"]:
                raise DataError(
                    f"{place} holds one text a line, the model reads a question and a context: "
                    "give SQuAD's JSON, or JSONL, CSV or TSV with these two columns"
                )
            yield question_of(row, number, place, f"row {number + 1}", columns)

    def build_model(
        self, encoder: str, head: HeadConfig, *, from_scratch: bool = False
    ) -> PreTrainedModel:
        """`AutoModelForQuestionAnswering`, or the joint head, fresh."""
        from electra.tasks.span_heads import build_span_model

        return build_span_model(encoder, head, joint=self.head == JOINT, from_scratch=from_scratch)

    def load_model(self, folder: Path) -> PreTrainedModel:
        """A fine-tuned model; its head must be there."""
        from electra.tasks.span_heads import load_span_model

        return load_span_model(folder, joint=self.head == JOINT)

    def features(
        self,
        examples: Sequence[Question],
        tokenizer: PreTrainedTokenizerBase,
        *,
        token_types: bool,
        max_length: int | None = None,
    ) -> list[Feature]:
        """The windows of each question."""
        return list(
            make_windows(
                examples,
                tokenizer,
                max_length=min(max_length or self.max_length, self.max_length),
                doc_stride=self.doc_stride,
                token_types=token_types,
                answer_mask=self.head == JOINT,
            )
        )

    def targets(self, features: Sequence[Feature], length: int) -> Tensor:
        """int64 [B, 3]: position of the first and of the last token, whether unanswerable."""
        return torch.tensor([f.target for f in features], dtype=torch.int64)

    def num_targets(self, targets: Tensor) -> Tensor:
        """B."""
        return torch.tensor(len(targets), device=targets.device)

    def logits(
        self, model: PreTrainedModel, inputs: Batch, targets: Tensor | None = None
    ) -> Tensor:
        """Of starts and ends, [B, L, 2], padding out of reach; or what `JointSpanModel` says."""
        if self.head == JOINT:
            starts = None if targets is None else targets[:, 0]
            answer: Tensor = model(**inputs, start_positions=starts)
            return answer
        output = model(**inputs)
        both = torch.stack([output.start_logits, output.end_logits], dim=-1).float()  # [B, L, 2]
        return both.masked_fill(inputs["attention_mask"].unsqueeze(-1) == 0, _NEVER)

    def loss(self, logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> TaskLoss:
        """Mean cross-entropy of start and end, with the joint head answerability's beside it.

        Args:
            logits: [B, L, 2], or [B, L, 3] of the joint head.
            targets: [B, 3].
            label_smoothing: share spread over the tokens where an answer may be.
        """
        total = torch.zeros((), device=logits.device)
        right = torch.ones(len(targets), dtype=torch.bool, device=logits.device)
        for side in (0, 1):
            log_p = logits[..., side].log_softmax(-1)  # [B, L]
            of_target = log_p.gather(1, targets[:, side : side + 1]).squeeze(1)  # [B]
            if label_smoothing:
                within = logits[..., side] > _NEVER / 2
                spread = (log_p * within).sum(-1) / within.sum(-1)
                of_target = (1 - label_smoothing) * of_target + label_smoothing * spread
            total = total - of_target.sum() / 2
            right &= logits[..., side].argmax(-1) == targets[:, side]
        if self.head == JOINT:
            judged = torch.nn.functional.binary_cross_entropy_with_logits(
                logits[:, 0, 2], targets[:, 2].float(), reduction="sum"
            )
            total = total + ANSWERABLE_WEIGHT * judged
        return TaskLoss(total, {"accuracy": (right.sum(), len(targets))})

    def answers(
        self, examples: Sequence[Question], features: Sequence[Feature], logits: Sequence[Logits]
    ) -> list[Answers]:
        """The best spans of each question over its windows."""
        windows = cast(Sequence[Window], features)
        spans = joint_spans if self.head == JOINT else plain_spans
        length = self.max_answer_length
        return [
            merge(
                (
                    spans(
                        windows[i],
                        logits[i],
                        example.context,
                        max_answer_length=length,
                        most=N_BEST,
                    )
                    for i in numbers
                ),
                N_BEST,
            )
            for example, numbers in zip(examples, by_example(windows, len(examples)), strict=True)
        ]

    def tuned(
        self, examples: Sequence[Question], features: Sequence[Feature], logits: Sequence[Logits]
    ) -> Self:
        """With the null threshold of the best F1 on these examples."""
        if not self.unanswerable:
            return self
        nulls, if_answered, if_empty = [], [], []
        for example, found in zip(examples, self.answers(examples, features, logits), strict=True):
            if found.spans:
                _, start, end = found.spans[0]
                best = example.context[start:end]
                nulls.append(null_score(found, joint=self.head == JOINT))
                if_answered.append(score_answer(best, example.truths, self.language)[1])
                if_empty.append(score_answer("", example.truths, self.language)[1])
        if not nulls:
            return self
        return replace(self, null_threshold=best_null_threshold(nulls, if_answered, if_empty))

    def decode(
        self, examples: Sequence[Question], features: Sequence[Feature], logits: Sequence[Logits]
    ) -> list[Prediction]:
        """`answer` = context[`start`:`end`], its probability `score`, and `n_best` of the like.

        Probabilities are over the best spans and, where the model knows unanswerable questions,
        the empty answer, whose start and end are 0. What is answered need not be the likeliest:
        whether the answer is empty is up to the threshold.
        """
        every = self.answers(examples, features, logits)
        return [
            prediction_of(
                example.context,
                found,
                joint=self.head == JOINT,
                null_threshold=self.null_threshold,
                most=N_BEST,
            )
            for example, found in zip(examples, every, strict=True)
        ]

    def metrics(
        self, examples: Sequence[Question], predictions: Sequence[Prediction]
    ) -> dict[str, float]:
        """exact_match and f1; with unanswerable questions those of either kind."""
        answers = [prediction["answer"] for prediction in predictions]
        return answer_metrics(answers, [e.truths for e in examples], self.language)

    def notes(self, examples: Sequence[Question]) -> list[str]:
        """How many answers do not occur at their offset."""
        return notes(examples)

    def cases(self, examples: Sequence[Question], predictions: Sequence[Prediction]) -> list[Case]:
        """Questions with the context around the answer."""
        return answer_cases(examples, predictions, self.language)

    def collapsed(
        self, examples: Sequence[Question], predictions: Sequence[Prediction]
    ) -> str | None:
        """All answers empty, or all from the first word of the context."""
        if not any(e.answers for e in examples) or len(examples) < 2:
            return None
        first = [len(e.context) - len(e.context.lstrip()) for e in examples]
        right = [(e.answers[0].start, i) for e, i in zip(examples, first, strict=True) if e.answers]
        given = [(p["start"], i) for p, i in zip(predictions, first, strict=True) if p["answer"]]
        if not given:
            what = "gives no answer"
        elif len(given) == len(examples) and all(start == i for start, i in given):
            if all(start == i for start, i in right):
                return None
            what = "answers with the beginning of the context"
        else:
            return None
        return (
            f"the model {what} to all {len(examples)} validation questions: it has not learned the "
            "task; try another seed (--seeds 3), a lower --optimizer.learning-rate, or more steps"
        )
