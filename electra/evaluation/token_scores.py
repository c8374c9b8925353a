"""How well each token of a text fits the others, as a pretrained network sees it.

A method is a row of `scoring_methods.METHODS`: which folders it reads, how it opens one, and
whether a pass shows it the token that it scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from electra.errors import CheckpointError, ConfigError, DataError, did_you_mean, no_network
from electra.evaluation.scoring_methods import METHODS, TokenScores, method_of
from electra.tasks.batches import Feature, pad
from electra.tasks.model_folder import (
    find_encoder,
    load_config,
    load_tokenizer,
    longest_input,
    quiet_transformers,
)
from electra.training.device import pick_device

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AUTO = "auto"
Progress = Callable[[int, int], None]
"""Called with the number of passes done and of all."""


class TooLongError(DataError):
    """A text is longer than the network can read."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number
        """Which of the texts that were given, from 0."""


@dataclass(frozen=True)
class TextScore:
    """The score of a text."""

    total: float
    """Sum of the tokens' scores, in nats."""
    tokens: list[str]
    """Word pieces as the tokenizer writes them, without those it puts around a sentence."""
    token_scores: list[float]
    offsets: list[tuple[int, int]]
    """Start and end of each token in the text, in code points."""


class TextScorer:
    """A network with a head that scores tokens, and its tokenizer; `open` makes one.

    Scores are float32, without dropout. Texts of the same tokens get the same score to the bit
    within a call; otherwise a text's neighbours change rounding alone.
    """

    def __init__(
        self,
        folder: str,
        method: str,
        token_scores: TokenScores,
        tokenizer: PreTrainedTokenizerBase,
        *,
        longest: int | None,
        device: torch.device,
        batch_size: int,
    ) -> None:
        """`longest` is the number of tokens the network can read; None: any."""
        self.folder = folder
        self.method = method
        self._token_scores = token_scores
        self._tokenizer: Any = tokenizer
        self._longest = longest
        self._device = device
        self._batch_size = batch_size

    @classmethod
    def open(
        cls, model: str | Path, *, method: str = AUTO, device: str = "auto", batch_size: int = 32
    ) -> TextScorer:
        """From a folder or a Hub id.

        Args:
            model: a part of a run, a run folder (its first part that a method reads, in the order
                of `METHODS`), any masked LM of the Hub's kind.
            method: a name of `METHODS`; auto: the first that fits what the folder holds.
            device: auto, cpu, cuda or mps.
            batch_size: rows of a pass; a text with one token masked is a row.

        Raises:
            ConfigError: there is no such folder, method or device, or they do not fit.
        """
        if method not in (AUTO, *METHODS):
            names = (AUTO, *METHODS)
            raise ConfigError(f"--method is {method}; {did_you_mean(method, names)}")
        if batch_size < 1:
            raise ConfigError(f"--batch-size is {batch_size}; allowed: above 0")
        on = pick_device(device)
        folder = find_part(str(model), method)
        config = load_config(folder)
        name = method_of(folder, config) if method == AUTO else method
        tokenizer = load_tokenizer(folder)
        if METHODS[name].hides and tokenizer.mask_token_id is None:
            raise ConfigError(f"--model {folder}: its tokenizer has no mask token")
        return cls(
            folder,
            name,
            METHODS[name].load(folder, config, on),
            tokenizer,
            longest=longest_input(config),
            device=on,
            batch_size=batch_size,
        )

    def score(self, texts: Sequence[str], progress: Progress | None = None) -> list[TextScore]:
        """A score for each text, in their order; 0 for a text without tokens.

        Raises:
            TooLongError: a text is longer than the network can read; nothing is scored.
            CheckpointError: a score is not a number.
        """
        encoded = self._encode(texts)
        # texts of the same tokens are scored once: equal sentences must tie exactly
        distinct = {text.input_ids: text for text in encoded}
        scored = self._score_encoded(list(distinct.values()), progress)
        found = dict(zip(distinct, scored, strict=True))
        return [
            TextScore(math.fsum(found[t.input_ids]), t.tokens, list(found[t.input_ids]), t.offsets)
            for t in encoded
        ]

    def _encode(self, texts: Sequence[str]) -> list[_Encoded]:
        if not texts:
            return []
        with quiet_transformers():
            batch = self._tokenizer(list(texts), truncation=False, padding=False)
        encoded = []
        for number, text in enumerate(texts):
            row = batch.encodings[number]
            if self._longest is not None and len(row.ids) > self._longest:
                start = " ".join(text[:40].split())
                raise TooLongError(
                    number,
                    f"a text has {len(row.ids)} tokens, {self.folder} reads at most "
                    f'{self._longest}: split it ("{start}...")',
                )
            places = [i for i, special in enumerate(row.special_tokens_mask) if not special]
            encoded.append(
                _Encoded(
                    tuple(row.ids),
                    places,
                    [row.tokens[i] for i in places],
                    [row.offsets[i] for i in places],
                )
            )
        return encoded

    @torch.inference_mode()
    def _score_encoded(
        self, texts: Sequence[_Encoded], progress: Progress | None
    ) -> list[list[float]]:
        """Scores of each text's places: batches of like length, the order kept."""
        hides = METHODS[self.method].hides
        passes = [
            (number, hidden)
            for number, text in enumerate(texts)
            for hidden in ([[i] for i in text.places] if hides else [text.places])
        ]
        passes.sort(key=lambda p: -len(texts[p[0]].input_ids))
        answers: list[list[float]] = [[] for _ in texts]
        for start in range(0, len(passes), self._batch_size):
            chunk = passes[start : start + self._batch_size]
            rows, columns, ids = [], [], []
            features = []
            for row, (number, places) in enumerate(chunk):
                shown = list(texts[number].input_ids)
                rows += [row] * len(places)
                columns += places
                ids += [shown[i] for i in places]
                if hides:
                    shown[places[0]] = self._tokenizer.mask_token_id
                features.append(Feature(number, shown))
            batch = {
                name: tensor.to(self._device)
                for name, tensor in pad(features, self._tokenizer.pad_token_id).items()
            }
            scored = torch.tensor([rows, columns, ids], dtype=torch.long, device=self._device)
            scores = self._token_scores(batch, scored[0], scored[1], scored[2]).tolist()  # (N,)
            if not all(map(math.isfinite, scores)):
                raise CheckpointError(
                    f"{self.folder} gives scores that are no numbers: its weights are damaged"
                )
            for row, score in zip(rows, scores, strict=True):
                answers[chunk[row][0]].append(score)
            if progress is not None:
                progress(start + len(chunk), len(passes))
        return answers


@dataclass(frozen=True)
class _Encoded:
    input_ids: tuple[int, ...]
    places: list[int]
    """Where the tokens of the text stand, special ones left out."""
    tokens: list[str]
    offsets: list[tuple[int, int]]


def find_part(given: str, method: str = AUTO) -> str:
    """A folder with a `config.json` or a Hub id; for a run folder the part that a method reads.

    Raises:
        ConfigError: there is none.
    """
    folder = Path(given).expanduser()
    if not folder.is_dir() or (folder / "config.json").is_file():
        return find_encoder(given)
    methods = METHODS.values() if method == AUTO else [METHODS[method]]
    parts = list(dict.fromkeys(part for m in methods for part in m.parts))
    for part in parts:
        if (folder / part / "config.json").is_file():
            return str(folder / part)
    raise ConfigError(no_network(f"--model {given}", folder, (f"{part}/" for part in parts)))
