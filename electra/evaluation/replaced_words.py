"""Words that do not belong, as a saved discriminator sees them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from electra.objectives.sampling import sample_tokens
from electra.training.noise import Noise


@dataclass(frozen=True)
class Word:
    """A piece of text between spaces."""

    text: str
    """With the space before it."""
    probability: float
    """Of being replaced: the highest of its tokens'."""
    replaced: bool
    """Whether it was in truth."""


class Discriminator:
    """A folder `discriminator/` of a pretraining run, either family."""

    def __init__(self, folder: Path) -> None:
        config = AutoConfig.from_pretrained(folder)
        self._classic = config.model_type == "electra"
        auto: Any = AutoModelForPreTraining if self._classic else AutoModelForTokenClassification
        self._model: Any = auto.from_pretrained(folder).eval()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)

    @torch.inference_mode()
    def words(self, text: str, replaced: frozenset[int] = frozenset()) -> list[Word]:
        """The words of a text; `replaced` holds the numbers of those known to be wrong."""
        encoded = self._tokenizer(
            text, return_tensors="pt", truncation=True, return_offsets_mapping=True
        )
        offsets = encoded.pop("offset_mapping")[0].tolist()
        logits = self._model(**encoded).logits[0]
        if self._classic:
            probabilities = logits.sigmoid().tolist()
        else:
            probabilities = logits.softmax(-1)[:, 1].tolist()
        words, start = [], 0
        for number, part in enumerate(text.split(" ")):
            end = start + len(part)
            inside = [
                p for p, (a, b) in zip(probabilities, offsets, strict=True) if a < end and b > start
            ]
            shown = part if number == 0 else " " + part
            words.append(Word(shown, max(inside, default=0.0), number in replaced))
            start = end + 1
        return words


@torch.inference_mode()
def replace_words(
    folder: Path, text: str, *, share: float, seed: int
) -> tuple[str, frozenset[int]]:
    """Let a saved generator replace a share of the words; the new text and their numbers.

    Only words that are one token of letters are chosen; a word the generator put back as it was is
    not counted.
    """
    model: Any = AutoModelForMaskedLM.from_pretrained(folder).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    words = text.split(" ")
    ids = [tokenizer.encode(word, add_special_tokens=False) for word in words]
    noise = Noise(seed)
    single = [i for i, pieces in enumerate(ids) if len(pieces) == 1 and words[i].isalpha()]
    count = min(len(single), max(1, round(share * len(words))))
    order = noise.uniform((1, len(single)))[0].argsort()[:count].tolist()
    chosen = sorted(single[i] for i in order)
    if not chosen:
        return text, frozenset()
    masked = list(words)
    for i in chosen:
        masked[i] = tokenizer.mask_token
    encoded = tokenizer(" ".join(masked), return_tensors="pt", truncation=True)
    logits = model(**encoded).logits[0]
    positions = (encoded["input_ids"][0] == tokenizer.mask_token_id).nonzero().flatten()
    samples = sample_tokens(logits[positions], temperature=1.0, noise=noise).tolist()
    replaced = set()
    for i, sample in zip(chosen, samples, strict=False):
        new = tokenizer.decode([sample]).strip()
        if [sample] != ids[i] and new.isalpha():
            words[i] = new
            replaced.add(i)
    return " ".join(words), frozenset(replaced)
