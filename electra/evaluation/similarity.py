"""Similarity of sentences without training: an encoder's cosines against what people said.

A sentence is the mean of its tokens' last states (`model.pooling`); two are as similar as the
cosine of their vectors. Nothing is learned and nothing has a head, so it shows what the vectors
are worth as they are. Spearman's correlation is the measure of the literature (Reimers and Gurevych
2019; Gao et al. 2021), over all pairs at once.

N texts or pairs, B texts of a pass, L tokens, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel

from electra.config import LabelledDataConfig
from electra.errors import CheckpointError, ConfigError, DataError
from electra.evaluation.metrics import pearson, spearman
from electra.model.pooling import mean_pooled
from electra.tasks.batches import Feature, pad
from electra.tasks.labelled_data import read_examples
from electra.tasks.labels import number
from electra.tasks.model_folder import (
    find_encoder,
    load_config,
    load_tokenizer,
    load_with_head,
    longest_input,
    pad_token_id,
    quiet_transformers,
)
from electra.training.device import pick_device

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SIMILARITY = "similarity"
Progress = Callable[[int, int], None]
"""Called with the number of texts done and of all."""
_DECIMALS = 9
"""Of a cosine: rounding of float32 alone tells equal texts apart, and would be ranked."""


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """Two sentences, and how similar people found them."""

    first: str
    second: str
    score: float


def read_scored_pairs(source: str, columns: LabelledDataConfig) -> list[ScoredPair]:
    """The pairs of a labelled file: two texts and a number a row.

    Args:
        source: whatever `labelled_data.read_examples` takes.
        columns: where texts and score stand; none: judged by the names that are there.

    Raises:
        DataError: a text or a score is missing or is no number, by file and row; there is one pair
            alone, or one score alone.
    """
    found, examples = read_examples(source, columns)
    if found.text_pair is None:
        raise DataError(
            f'{source}: column "{found.text}" was taken for the text and "{found.label}" for the '
            "score, none for the second text; name them with --data.text-column, "
            "--data.text-pair-column and --data.label-column"
        )
    pairs = []
    for example in examples:
        score = number(example.label)
        if score is None or example.text_pair is None:
            given = "a list" if example.label is None else f'"{example.label}"'
            raise DataError(
                f'{example.place} has {given} in column "{found.label}", a finite number is '
                "wanted; name the column of the scores with --data.label-column"
            )
        pairs.append(ScoredPair(example.text, example.text_pair, score))
    if len(pairs) < 2:
        raise DataError(f"{source} holds one pair alone; a correlation wants two or more")
    if len({pair.score for pair in pairs}) < 2:
        raise DataError(
            f"{source} has the score {pairs[0].score:g} in all {len(pairs)} rows; a correlation "
            "wants scores that differ"
        )
    return pairs


class SentenceEncoder:
    """An encoder without a head, and its tokenizer; `open` makes one."""

    def __init__(
        self,
        folder: str,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        *,
        device: torch.device,
        batch_size: int = 32,
    ) -> None:
        """The model must be on `device`, and without dropout."""
        self.folder = folder
        self.num_cut = 0
        """Texts so far that were longer than the network reads, and cut."""
        self.longest = longest_input(model.config)
        """Tokens the network can read; None: any number."""
        self._model = model
        self._tokenizer: Any = tokenizer
        self._device = device
        self._batch_size = batch_size

    @classmethod
    def open(
        cls, model: str | Path, *, device: str = "auto", batch_size: int = 32
    ) -> SentenceEncoder:
        """From a folder, a run folder (its `encoder/`) or a Hub id; a head is left out.

        Raises:
            ConfigError: there is no such folder or device, or the folder holds no encoder.
        """
        on = pick_device(device)
        folder = find_encoder(str(model))
        config = load_config(folder)
        if config.is_encoder_decoder:
            raise ConfigError(
                f"--model {folder} is a {config.model_type}, which has a decoder, too; an encoder "
                "is wanted"
            )
        tokenizer = load_tokenizer(folder)
        network: Any = load_with_head(AutoModel, folder, config)
        return cls(folder, network.to(on).eval(), tokenizer, device=on, batch_size=batch_size)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """A vector for each text, (N, H), in their order: the mean of its tokens' last states.

        Equal texts are read once. What is longer than the network reads is cut.

        Raises:
            CheckpointError: a state is not a number.
        """
        distinct = list(dict.fromkeys(texts))
        features = self._features(distinct)
        features.sort(key=lambda feature: -len(feature.input_ids))
        place = {text: i for i, text in enumerate(distinct)}
        vectors = np.empty((len(distinct), self._model.config.hidden_size), dtype=np.float32)
        for start in range(0, len(features), self._batch_size):
            chunk = features[start : start + self._batch_size]
            batch = {
                name: tensor.to(self._device)
                for name, tensor in pad(chunk, pad_token_id(self._tokenizer)).items()
            }
            hidden = self._model(**batch).last_hidden_state  # (B, L, H)
            pooled = mean_pooled(hidden, batch["attention_mask"])
            vectors[[feature.example for feature in chunk]] = pooled.float().cpu().numpy()
            if progress is not None:
                progress(start + len(chunk), len(features))
        if not np.isfinite(vectors).all():
            raise CheckpointError(
                f"{self.folder} gives states that are no numbers: its weights are damaged"
            )
        return vectors[[place[text] for text in texts]]

    def _features(self, texts: Sequence[str]) -> list[Feature]:
        with quiet_transformers():
            whole = self._tokenizer(list(texts), truncation=False, padding=False)["input_ids"]
            long = [i for i, ids in enumerate(whole) if self.longest and len(ids) > self.longest]
            if long:
                cut = self._tokenizer(
                    [texts[i] for i in long], truncation=True, max_length=self.longest
                )["input_ids"]
                for i, ids in zip(long, cut, strict=True):
                    whole[i] = ids
        self.num_cut += len(long)
        return [Feature(i, ids) for i, ids in enumerate(whole)]


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each row of one with that of the other, both (N, H) -> (N,)."""
    products = np.einsum("nh,nh->n", _directions(one), _directions(other))
    rounded: NDArray[np.float64] = products.round(_DECIMALS)
    return rounded


def anisotropy(vectors: NDArray[np.float32]) -> float:
    """Mean cosine of two of the vectors (N, H) drawn at random, in closed form over all pairs.

    0 where directions are spread evenly, 1 where there is one (Ethayarajh 2019, of token states);
    of one vector alone 1.
    """
    count = len(vectors)
    if count < 2:
        return 1.0
    directions = _directions(vectors)
    whole = float(np.sum(directions.sum(0) ** 2))
    return (whole - float(np.sum(directions**2))) / (count * (count - 1))


def similarity_result(
    encoder: SentenceEncoder,
    pairs: Sequence[ScoredPair],
    data: str,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Encode, compare, and sum up as `evaluate --json` has it.

    Args:
        encoder: a network.
        pairs: from `read_scored_pairs`.
        data: where they are from.
        progress: told how far it is.

    Returns:
        {"task", "data", "n": pairs, "metric": "spearman", "metrics": {"spearman", "pearson",
        "anisotropy"}}; the correlations of an encoder that finds all pairs alike are 0, the
        anisotropy is over the distinct texts of all pairs.
    """
    texts = [text for pair in pairs for text in (pair.first, pair.second)]
    vectors = encoder.encode(texts, progress)  # (2 N, H)
    found = cosines(vectors[::2], vectors[1::2])
    scores = [pair.score for pair in pairs]
    places = {text: i for i, text in enumerate(texts)}  # equal texts have equal vectors
    return {
        "task": SIMILARITY,
        "data": str(data),
        "n": len(pairs),
        "metric": "spearman",
        "metrics": {
            "spearman": spearman(scores, found),
            "pearson": pearson(scores, found),
            "anisotropy": anisotropy(vectors[list(places.values())]),
        },
    }


def _directions(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """The same of length 1; a vector of zeros stays one."""
    wide = vectors.astype(np.float64)
    lengths: NDArray[np.float64] = np.linalg.norm(wide, axis=1, keepdims=True)
    scaled: NDArray[np.float64] = wide / np.maximum(lengths, 1e-12)
    return scaled
