"""`samples.json` of a run: some rows of held-out text as the discriminator last saw them.

    {"step": 1000, "tokens_seen": 2048000, "rows": [[{"text": " a", "probability": 0.02}, ...]]}

`text` has the space before a word; `probability` is that of being replaced; a token that was in
truth replaced has its `original`. The rows are the same at every evaluation, and in all runs with
the same corpus and length.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from electra.training.run_folder import write_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from electra.objectives.objective import SeenText
    from electra.training.loop import Batch
    from electra.training.schedule import TrainState

SAMPLES = "samples.json"
ROWS, TOKENS = 6, 96
"""Rows that are kept, spread over the batch, and tokens of each."""


class SamplesFile:
    """Writes the file anew at each evaluation."""

    def __init__(self, run: Path, tokenizer: Tokenizer, state: TrainState) -> None:
        """Take the run's folder, the corpus's tokenizer, and the state that training moves on."""
        self._path, self._state = run / SAMPLES, state
        self._pieces = Pieces(tokenizer)

    def write(self, batch: Batch, seen: SeenText) -> None:
        """Keep some rows of a batch of held-out text, whole or not at all.

        Args:
            batch: `input_ids` (B, L), and `attention_mask` where there is padding.
            seen: the corrupted text and the logits.
        """
        samples = {
            "step": self._state.step,
            "tokens_seen": self._state.tokens_seen,
            "rows": sample_rows(self._pieces, batch, seen),
        }
        write_text(self._path, json.dumps(samples, ensure_ascii=False) + "\n")


def sample_rows(pieces: Pieces, batch: Batch, seen: SeenText) -> list[list[dict[str, Any]]]:
    """The rows of the file."""
    size = len(batch["input_ids"])
    count = min(ROWS, size)
    mask = batch.get("attention_mask")
    rows = []
    for row in (number * size // count for number in range(count)):
        real = slice(None) if mask is None else mask[row].bool()
        originals = batch["input_ids"][row][real][:TOKENS].tolist()
        read = seen.input_ids[row].cpu()[real][:TOKENS].tolist()
        said = seen.scores[row].float().sigmoid().cpu()[real][:TOKENS].tolist()
        tokens = []
        for original, token, probability in zip(originals, read, said, strict=True):
            entry: dict[str, Any] = {"text": pieces.text(token)}
            if token != original:
                entry["original"] = pieces.text(original)
            tokens.append({**entry, "probability": round(probability, 4)})
        rows.append(tokens)
    return rows


class Pieces:
    """Tokens as text to be read, one by one."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        from electra.corpus.words import word_starts  # numpy, which reading the file does without

        self._tokenizer = tokenizer
        self._starts = word_starts(tokenizer)
        model = json.loads(tokenizer.to_str())["model"]
        self._prefix = str(model.get("continuing_subword_prefix") or "")

    def text(self, token: int) -> str:
        """A token with the space before it, where it begins a word; `[7]` where it has no text."""
        decoded = self._tokenizer.decode([token], skip_special_tokens=False).strip()
        shown = decoded.removeprefix(self._prefix) or decoded
        if token >= len(self._starts):  # released weights may have rows beyond the vocabulary
            return f" [{token}]"
        return f" {shown}" if self._starts[token] else shown
