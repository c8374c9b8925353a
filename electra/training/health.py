"""Whether training goes well: steps that cannot be applied, and what curves say of a run.

`Watch` reads the rows of metrics.jsonl as they are written and says each of three things once: a
loss that jumps, a discriminator that calls everything original, a generator that leaves it little
to find. It is a function of the rows, so a run that goes on is given those it has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from statistics import median
from typing import Any

from torch import Tensor

from electra.errors import DivergedError
from electra.training.schedule import TrainState

Row = Mapping[str, Any]
WINDOW = 20
"""Rows that a loss is compared with."""
ENOUGH = 10
"""Rows that are compared with, at least."""
SPIKE_SHARE, SPIKE_DEVIATIONS, SPIKE_NATS = 0.5, 8.0, 0.05
"""A spike is above the median by all three: a share of it, deviations, nats."""
CHANCE = 0.55
"""AUC below which a discriminator, whose like is .5, cannot tell replaced tokens."""
HAS_LEARNED = 0.6
"""AUC from which one has learned to."""
SILENT = 0.01
"""Recall below which it calls everything original."""
STUCK_EVALUATIONS, STUCK_STEPS = 3, 1000
"""In a row, and after so many steps of its own, before one that never learned is spoken of."""
STRONG = 0.85
"""Accuracy of a generator whose samples are nearly all original: published ones reach .4 to .65."""


class Watch:
    """Says what is wrong with a run, each thing once."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        """`rows` are those the run has had; what they gave cause to say has been said."""
        self._rows: list[Row] = []
        self._waiting: list[Callable[[Sequence[Row]], str | None]] = [
            loss_spike,
            collapsed_discriminator,
            too_strong_generator,
        ]
        for row in rows:
            self.see(row)

    def see(self, row: Row) -> list[str]:
        """What the newest row gives cause to say, a line each."""
        if "warning" in row:
            return []
        self._rows.append(row)
        said = []
        for sign in list(self._waiting):
            line = sign(self._rows)
            if line is not None:
                self._waiting.remove(sign)
                said.append(line)
        return said


def loss_spike(rows: Sequence[Row]) -> str | None:
    """A line where a training loss of the last row is far above the median of those before it.

    Compared are the last rows of the same stage of training, which is told by the losses there are.
    Losses that are not above 0 (those of rewards) have no scale and are left out.
    """
    names = _losses(rows[-1])
    before: list[Row] = []
    for row in islice(reversed(rows), 1, None):
        found = _losses(row)
        if found and found != names:
            break
        before += [row] if found else []
        if len(before) == WINDOW:
            break
    if not names or len(before) < ENOUGH:
        return None
    for name in names:
        usual = median(row[name] for row in before)
        deviation = 1.4826 * median(abs(row[name] - usual) for row in before)
        above = rows[-1][name] - usual
        least = max(SPIKE_SHARE * usual, SPIKE_DEVIATIONS * deviation, SPIKE_NATS)
        if above > least and min(row[name] for row in before) > 0:
            return (
                f"step {rows[-1]['step']:,}: the {name.replace('_', ' ')} jumped to "
                f"{rows[-1][name]:.3f}, the median of the {len(before)} rows before is "
                f"{usual:.3f}: if it stays there, the learning rate is too high or the text odd; "
                "usual mends: a lower --optimizer.learning-rate, more --schedule.warmup-steps, "
                "--optimizer.adam-beta2 0.98"
            )
    return None


def collapsed_discriminator(rows: Sequence[Row]) -> str | None:
    """A line where the discriminator calls everything original at the last evaluation.

    Said of one that has fallen there, and of one that never left it for a thousand steps and three
    evaluations: at the beginning of a run all of them are there.
    """
    if not _knows_nothing(rows[-1]):
        return None
    evaluations = [row for row in rows if "eval_discriminator_auc" in row]
    steps = [row["step"] for row in rows if "discriminator_loss" in row]  # of its own stage
    best = max(evaluations, key=lambda row: float(row["eval_discriminator_auc"]))
    last = evaluations[-STUCK_EVALUATIONS:]
    stuck = (
        len(last) == STUCK_EVALUATIONS
        and all(_knows_nothing(row) for row in last)
        and bool(steps)
        and rows[-1]["step"] - steps[0] >= STUCK_STEPS
    )
    if best["eval_discriminator_auc"] >= HAS_LEARNED:
        past = f"it was {best['eval_discriminator_auc']:.3f} at step {best['step']:,}"
    elif stuck:
        past = f"it has not been above {best['eval_discriminator_auc']:.3f}"
    else:
        return None
    row = rows[-1]
    return (
        f"step {row['step']:,}: the discriminator calls every token original (recall "
        f"{row['eval_discriminator_recall']:.3f}, AUC {row['eval_discriminator_auc']:.3f}, {past})"
        ": it has collapsed and the encoder learns nothing from it; usual mends: a smaller "
        "generator (--model.generator-layers, --model.generator-size), a lower "
        "--optimizer.learning-rate, more warmup (--schedule.warmup-steps)"
    )


def too_strong_generator(rows: Sequence[Row]) -> str | None:
    """A line where the generator of the last evaluation hits so often that little is replaced."""
    accuracy = rows[-1].get("eval_generator_accuracy")
    if accuracy is None or not accuracy > STRONG:
        return None
    majority = rows[-1].get("eval_majority")
    left = "" if majority is None else f", {1 - majority:.1%} of the tokens are replaced"
    return (
        f"step {rows[-1]['step']:,}: the generator finds {accuracy:.0%} of the masked tokens{left}"
        ": it is too strong and leaves the discriminator little to learn; usual mends: a smaller "
        "generator (--model.generator-layers, --model.generator-size; published: 1/4 to 1/2 of the "
        "discriminator), a higher --objective.mask-prob or --objective.temperature"
    )


def _losses(row: Row) -> list[str]:
    """Its training losses by name; not their sum, whose parts change from stage to stage."""
    return sorted(name for name in row if name.endswith("_loss") and not name.startswith("eval_"))


def _knows_nothing(row: Row) -> bool:
    """Whether its discriminator calls all original; not said of energies, which this has.

    The noise of Electric is as likely as text, the better the cloze model the less can be told.
    """
    if "eval_pseudo_log_likelihood" in row:
        return False
    auc, recall = row.get("eval_discriminator_auc"), row.get("eval_discriminator_recall")
    return auc is not None and recall is not None and auc < CHANCE and recall < SILENT


# ---- steps that cannot be applied ----------------------------------------------------------------

_ADVICE = "begin again, in another --output, with a lower --optimizer.learning-rate or more warmup"


def skipped_row(state: TrainState, first: int, norm: Tensor, loss: Tensor) -> dict[str, Any]:
    """A row of metrics.jsonl on the step just done, which was not applied.

    Args:
        state: after the step; its examples are `first` to `state.examples_seen`, which is not one.
        first: position in the stream.
        norm: of the gradient, a scalar.
        loss: of this process's share, a scalar.
    """
    return {
        "step": state.step,
        "tokens_seen": state.tokens_seen,
        "skipped_steps": state.skipped_steps,
        "skipped_examples": [first, state.examples_seen - 1],
        "warning": f"{_not_finite(state, first, norm, loss)}: the step is not applied "
        f"({_counted(state)})",
    }


def too_many_skipped(
    state: TrainState, first: int, norm: Tensor, loss: Tensor, limit: int
) -> DivergedError:
    """What ends a run after more than `limit` such steps in a row; arguments as `skipped_row`."""
    return DivergedError(
        f"{_not_finite(state, first, norm, loss)}, {_counted(state)}: {_ADVICE}; look at these "
        f"examples; or let more pass: --resume auto --training.max-skipped-steps {4 * limit + 4}"
    )


def none_applied(state: TrainState) -> DivergedError:
    """What ends a run that has learned nothing."""
    return DivergedError(
        f"none of the {state.step} steps could be applied, the loss or the gradient of each is not "
        f"finite: {_ADVICE}"
    )


def _not_finite(state: TrainState, first: int, norm: Tensor, loss: Tensor) -> str:
    what = "loss" if math.isfinite(norm.item()) else "gradient"
    return (
        f"the {what} of step {state.step} is not finite (norm {norm.item():.4g}, loss "
        f"{loss.item():.4g}; examples {first} to {state.examples_seen - 1} of the stream)"
    )


def _counted(state: TrainState) -> str:
    return (
        f"{state.skipped_in_a_row} in a row, {state.skipped_steps} of {state.step} steps of the run"
    )


def offer_best(
    state: TrainState, weights: Mapping[str, float], evaluation: Mapping[str, float]
) -> None:
    """Note the step that is about to be saved where its held-out loss is the lowest so far.

    Args:
        state: where training stands.
        weights: of the losses now.
        evaluation: of this very step; the loss is the weighted sum of the losses in it.
    """
    names = sorted(name for name in weights if weights[name] and name in evaluation)
    loss = sum(weights[name] * evaluation[name] for name in names)
    known = state.best_loss if state.best_of == " ".join(names) else None
    if names and math.isfinite(loss) and (known is None or loss < known):
        state.best_step, state.best_loss, state.best_of = state.step, loss, " ".join(names)
