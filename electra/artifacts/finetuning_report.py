"""What a fine-tuned model gets right and wrong: one page of HTML after a run or an evaluation."""

from __future__ import annotations

import html as escaping
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from electra.artifacts import report as html
from electra.evaluation.calibration import BINS, Bin, expected_calibration_error, reliability
from electra.tasks.cases import BORDERS, MISSED, SPURIOUS, Case
from electra.tasks.labels import MULTI_LABEL
from electra.tasks.task import Task
from electra.training.run_folder import write_text

MAX_TEXT, MAX_LABEL = 300, 60
"""Characters that are shown."""
MAX_WRONG, MAX_RIGHT, MAX_CONFUSED = 20, 10, 15
MAX_CLASSES = 30
"""Of a heat map; above it the most confused pairs must do."""
MAX_DOTS = 3000
"""Of a scatter plot."""
_ODD = {MISSED, SPURIOUS, BORDERS}

Sections = list[tuple[str, str]]


def write_finetuning_report(
    path: Path,
    *,
    task: Task[Any],
    examples: Sequence[Any],
    predictions: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, float],
    curves_rows: html.Rows = (),
    facts: Mapping[str, Any] | None = None,
    title: str = "Fine-tuning",
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: the .html file.
        task: the task as it is saved with the model.
        examples: labelled, of `task.read`.
        predictions: one for each example, in their order.
        metrics: of these predictions.
        curves_rows: of the run's metrics.jsonl; none: no curves.
        facts: what to say of the run; tables in it are flattened, nothing (None) is left out.
        title: the page's heading; the task's name follows it.
    """
    answers = [dict(prediction) for prediction in predictions]
    cases = task.cases(examples, answers)
    sections: Sections = [
        ("Run", html.table(("", ""), [*_facts(facts or {}), ("rows", f"{len(cases):,}")])),
        ("Metrics", _metrics(metrics, task.metric)),
    ]
    curves = finetuning_curves(curves_rows, metrics, task.metric)
    if curves:
        sections.append(("Training", curves))
    classes = task.per_class(examples, answers) if cases else []
    if classes:
        header = list(classes[0])
        rows = [[_label(row.get(name, "")) for name in header] for row in classes]
        sections.append(("Classes", html.table(header, rows)))
    if any(case.numbers for case in cases):
        sections += _of_numbers(cases)
    else:
        several = task.settings().get("problem_type") == MULTI_LABEL
        sections += _of_answers(cases, over_labels=several)
    write_text(path, html.page(f"{title}: {task.name}", sections))


def finetuning_curves(rows: html.Rows, metrics: Iterable[str], metric: str) -> str:
    """Loss, learning rate and the metrics on validation data over steps; empty without rows."""
    found = {k for row in rows for k in row if k.endswith("loss") and not k.startswith("eval_")}
    # the task's loss is the whole one
    losses = sorted(found - {"task_loss"} if "loss" in found else found)
    others = [name for name in metrics if name != metric]
    return (
        html.curves(rows, losses, x="step", title="Training loss", y_label="loss")
        + html.curves(
            rows,
            [f"eval_{name}" for name in (metric, *others)],
            x="step",
            title="Validation data",
            y_label="metric",
        )
        + html.curves(rows, ["lr"], x="step", title="Learning rate", y_label="learning rate")
    )


def _facts(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in facts.items():
        if name == "metrics" or value is None:
            continue
        said = prefix + name.replace("_", " ")
        if isinstance(value, Mapping):
            rows += _facts(value, f"{said} ")
        else:
            rows.append((said.removesuffix(" name"), _fact(name, value)))
    return rows


def _fact(name: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)[:16] + "…" if name == "sha256" else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _metrics(metrics: Mapping[str, float], chosen: str) -> str:
    rows = [(f"{k} (models are chosen by it)" if k == chosen else k, v) for k, v in metrics.items()]
    return html.table(("metric", "value"), rows)


def _of_answers(cases: Sequence[Case], *, over_labels: bool) -> Sections:
    """Of several labels calibration is over all labels (`over_labels`), not over answers."""
    outcomes = Counter(case.outcome for case in cases)
    rows = [(kind, count, f"{count / len(cases):.1%}") for kind, count in outcomes.most_common()]
    sections: Sections = [("Answers", html.table(("", "rows", "share"), rows))]
    confusions = _confusions(cases)
    if confusions:
        sections.append(("Confusions", confusions))
    calibration = _calibration(cases, over_labels=over_labels)
    if calibration:
        sections.append(("Calibration", calibration))
    wrong = sorted((c for c in cases if c.credit != 1), key=lambda c: -_sure(c, 0.0))
    right = sorted((c for c in cases if c.credit == 1), key=lambda c: _sure(c, 1.0))
    return [
        *sections,
        ("Wrong answers the model was surest of", _examples(wrong[:MAX_WRONG])),
        ("Right answers the model was least sure of", _examples(right[:MAX_RIGHT])),
    ]


def _of_numbers(cases: Sequence[Case]) -> Sections:
    pairs = [(case, case.numbers) for case in cases if case.numbers is not None]
    pairs = [(case, numbers) for case, numbers in pairs if all(map(math.isfinite, numbers))]
    if not pairs:
        return [("Truth and prediction", _note("No row has a number on both sides."))]
    errors = [answer - truth for _, (truth, answer) in pairs]
    rows = [
        ("mean absolute error", sum(map(abs, errors)) / len(errors)),
        ("root of the mean squared error", math.sqrt(sum(e * e for e in errors) / len(errors))),
        ("mean error (prediction - truth)", sum(errors) / len(errors)),
        ("largest error", max(map(abs, errors))),
    ]
    dots = [numbers for _, numbers in pairs[:: math.ceil(len(pairs) / MAX_DOTS)]]

    def draw(axes: Any) -> None:
        axes.scatter(*zip(*dots, strict=True), s=9, alpha=0.4)
        ends = min(map(min, dots)), max(map(max, dots))
        axes.plot(ends, ends, color="#888", lw=1, ls="--")
        axes.set_xlabel("truth")
        axes.set_ylabel("prediction")

    worst = sorted(pairs, key=lambda pair: -abs(pair[1][1] - pair[1][0]))[:MAX_WRONG]
    return [
        ("Truth and prediction", html.table(("", ""), rows) + html.drawing(draw, (4.5, 4.2))),
        ("Largest errors", _examples([case for case, _ in worst])),
    ]


def _confusions(cases: Sequence[Case]) -> str:
    counts = Counter(pair for case in cases for pair in case.confusions)
    if not counts:
        return ""
    of_truth: Counter[str] = Counter()
    for (truth, _), count in counts.items():
        of_truth[truth] += count
    classes = _ordered({name for pair in counts for name in pair})
    rows = [name for name in classes if name in of_truth or name not in _ODD]
    answers = {answer for _, answer in counts}
    columns = [name for name in classes if name in answers or name not in _ODD]
    wrong = sorted(
        ((pair, n) for pair, n in counts.items() if pair[0] != pair[1]),
        key=lambda item: (-item[1], item[0]),
    )
    parts = []
    if len(classes) <= MAX_CLASSES:
        parts.append(_note("Rows: truth. Columns: answer. Shaded by the share of the row."))
        parts.append(html.heat_map(rows, columns, counts))
    if wrong:
        table = [
            (_label(truth), _label(answer), count, f"{count / of_truth[truth]:.1%}")
            for (truth, answer), count in wrong[:MAX_CONFUSED]
        ]
        more = len(wrong) - len(table)
        parts.append(_note(f"The most frequent of {len(wrong)} kinds.") if more else "")
        parts.append(html.table(("truth", "answer", "times", "share of the truth"), table))
    else:
        parts.append(_note("Nothing was confused."))
    return "".join(parts)


def _ordered(names: Iterable[str]) -> list[str]:
    """By number where all classes are whole numbers; what is no class last."""
    found = sorted(set(names) - _ODD)
    if all(name.removeprefix("-").isdecimal() for name in found):
        found.sort(key=int)
    return found + sorted(_ODD & set(names))


def _calibration(cases: Sequence[Case], *, over_labels: bool) -> str:
    judged = [
        (min(p, 1.0), right)  # a mean of float32 ones may lie a last bit above
        for case in cases
        for p, right in case.judged
        if math.isfinite(p)
    ]
    if not judged:
        return ""
    bins = reliability([p for p, _ in judged], [right for _, right in judged])
    error = expected_calibration_error(bins)
    squares = [c.squared_error for c in cases if c.squared_error is not None]
    squares = [square for square in squares if math.isfinite(square)]
    if not squares:
        squares = [(p - right) ** 2 for p, right in judged]
    names = ("mean probability of the answers", "share of them that is right")
    if over_labels:
        names = ("over all labels: mean probability", "over all labels: share that is true")
    rows = [
        (f"expected calibration error ({BINS} bins)", error),
        ("Brier score", sum(squares) / len(squares)),
        (names[0], sum(p for p, _ in judged) / len(judged)),
        (names[1], sum(right for _, right in judged) / len(judged)),
    ]
    said = _note(
        "Below the line the model is surer than it is right. The larger a dot, the more "
        + ("labels of rows." if over_labels else "answers.")
    )
    true = "share that is true" if over_labels else "share that is right"
    return html.table(("", ""), rows) + html.drawing(_diagram(bins, true), (4.5, 4.2)) + said


def _diagram(bins: Sequence[Bin], y_label: str) -> Any:
    most = max(b.count for b in bins)

    def draw(axes: Any) -> None:
        axes.plot((0, 1), (0, 1), color="#888", lw=1, ls="--")
        sure, right = [b.confidence for b in bins], [b.accuracy for b in bins]
        axes.plot(sure, right, lw=1)
        axes.scatter(sure, right, s=[12 + 90 * b.count / most for b in bins], alpha=0.8)
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("probability given by the model")
        axes.set_ylabel(y_label)

    return draw


def _examples(cases: Sequence[Case]) -> str:
    if not cases:
        return _note("None.")
    scored = any(case.score is not None for case in cases)
    kinds = len({case.outcome for case in cases}) > 1
    header = ["text", "truth", "answer", *["probability"] * scored, *["kind"] * kinds]
    rows = [
        [
            html.shortened(case.text, MAX_TEXT),
            html.shortened(case.truth, MAX_TEXT),
            html.shortened(case.answer, MAX_TEXT),
            *(["" if case.score is None else round(case.score, 4)] if scored else []),
            *([case.outcome] if kinds else []),
        ]
        for case in cases
    ]
    return f'<div class="wide">{html.table(header, rows)}</div>'


def _sure(case: Case, unknown: float) -> float:
    return unknown if case.score is None or math.isnan(case.score) else case.score


def _label(value: object) -> object:
    return html.shortened(value, MAX_LABEL) if isinstance(value, str) else value


def _note(text: str) -> str:
    return f'<p class="note">{escaping.escape(text)}</p>'
