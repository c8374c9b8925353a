"""The best spans of a window from a model's scores, and of a context from its windows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from electra.tasks.answer_windows import Window
from electra.tasks.task import Logits, Prediction


class Span(NamedTuple):
    """A part of a context."""

    score: float
    """Score of its start plus score of its end."""
    start: int
    """Code points of the context."""
    end: int
    """Exclusive."""


class Answers(NamedTuple):
    """What a model says of one question."""

    spans: list[Span]
    """The best first."""
    no_answer: float
    """Score of giving none: of position 0 (plain head), the logit of unanswerable (joint)."""


def plain_spans(
    window: Window, logits: Logits, context: str, *, max_answer_length: int, most: int
) -> tuple[list[Span], float]:
    """The best spans of a window, exactly, and its score of position 0.

    Args:
        window: the window, whose tokens of the context number N.
        logits: [L, 2] of starts and ends.
        context: the whole context.
        max_answer_length: in tokens.
        most: how many.
    """
    size = len(window.offsets)
    no_answer = float(logits[0, 0]) + float(logits[0, 1])
    if not size:
        return [], no_answer
    here = logits[window.first : window.first + size].astype(np.float64)  # [N, 2]
    width = min(max_answer_length, size)
    ends = np.concatenate([here[:, 1], np.full(width - 1, -np.inf)])
    scores = here[:, :1] + np.lib.stride_tricks.sliding_window_view(ends, width)  # [N, width]
    flat = scores.reshape(-1)
    count = min(most, int(np.isfinite(flat).sum()))
    best = np.argpartition(-flat, count - 1)[:count] if count else np.empty(0, dtype=np.int64)
    starts, lengths = best // width, best % width
    return _spans(window, context, starts, starts + lengths, flat[best]), no_answer


def joint_spans(
    window: Window, beams: Logits, context: str, *, max_answer_length: int, most: int
) -> tuple[list[Span], float]:
    """The best spans of a window among those of the beams, and its logit of unanswerable.

    Args:
        window: the window.
        beams: [K, 3 + 2 K] of `JointSpanModel`.
        context: the whole context.
        max_answer_length: in tokens.
        most: how many.
    """
    count = len(beams)
    no_answer = float(beams[0, 2])
    starts = np.repeat(beams[:, :1].astype(np.int64), count, axis=1) - window.first  # [K, K]
    ends = beams[:, 3 : 3 + count].astype(np.int64) - window.first  # [K, K]
    scores = beams[:, 1:2].astype(np.float64) + beams[:, 3 + count :]  # [K, K]
    fits = (starts >= 0) & (ends >= starts) & (ends - starts < max_answer_length)
    fits &= ends < len(window.offsets)
    spans = _spans(window, context, starts[fits], ends[fits], scores[fits])
    return sorted(spans, key=lambda s: (-s.score, s.start, s.end))[:most], no_answer


def merge(windows: Iterable[tuple[list[Span], float]], most: int) -> Answers:
    """The best spans over windows, each once, and the least score of giving no answer."""
    best: dict[tuple[int, int], float] = {}
    no_answer = np.inf
    for spans, window_no_answer in windows:
        no_answer = min(no_answer, window_no_answer)
        for score, start, end in spans:
            if score > best.get((start, end), -np.inf):
                best[start, end] = score
    found = [Span(score, start, end) for (start, end), score in best.items()]
    return Answers(sorted(found, key=lambda s: (-s.score, s.start, s.end))[:most], no_answer)


def null_score(found: Answers, *, joint: bool) -> float:
    """Higher where an answer is less likely: of none over the best one, or the joint head's."""
    if joint:
        return found.no_answer
    return found.no_answer - found.spans[0].score if found.spans else np.inf


def prediction_of(
    context: str, found: Answers, *, joint: bool, null_threshold: float | None, most: int
) -> Prediction:
    """`answer`, `start`, `end`, `score` (a probability) and `n_best` of the like, likeliest first.

    Args:
        context: where the answer stands.
        found: the best spans.
        joint: whether the joint head found them.
        null_threshold: the answer is empty above it; none: never, unless there is no span at all.
        most: length of `n_best`.
    """
    places = [(span.start, span.end) for span in found.spans]
    scores = np.array([span.score for span in found.spans])
    if null_threshold is not None or not places:
        places.append((0, 0))
        if joint and len(scores):
            scores -= np.logaddexp.reduce(scores) + np.logaddexp(0.0, found.no_answer)
            scores = np.append(scores, -np.logaddexp(0.0, -found.no_answer))
        else:
            scores = np.append(scores, found.no_answer)
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    n_best = [
        {"answer": context[start:end], "start": start, "end": end, "score": float(share)}
        for (start, end), share in zip(places, shares, strict=True)
    ]
    empty = null_threshold is not None and null_score(found, joint=joint) > null_threshold
    chosen = n_best[-1] if empty else n_best[0]
    order = np.argsort(-shares, kind="stable")[:most]
    return {**chosen, "n_best": [n_best[i] for i in order]}


def _spans(
    window: Window,
    context: str,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    scores: NDArray[np.float64],
) -> list[Span]:
    """Tokens as code points, without the white space that byte-level tokens have before a word."""
    spans = []
    for i, j, score in zip(starts.tolist(), ends.tolist(), scores.tolist(), strict=True):
        start, end = int(window.offsets[i, 0]), int(window.offsets[j, 1])
        text = context[start:end]
        start += len(text) - len(text.lstrip())
        end -= len(text) - len(text.rstrip())
        if start < end:
            spans.append(Span(score, start, end))
    return spans
