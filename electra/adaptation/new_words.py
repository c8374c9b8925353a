"""Words of a domain that its tokenizer cuts into pieces, as tokens of their own.

A word is worth how often it occurs times the pieces it saves. Its embedding begins as the mean of
those of its pieces, in the input table and, where there are such, in the output table and its bias
(as in Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models", and FVT, Gee
et al. 2022).

V vocabulary, E embedding size.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from electra.corpus.folder import Corpus
from electra.corpus.tokenizer import SpecialIds, num_ids
from electra.corpus.words import parts_of, word_starts
from electra.errors import ConfigError

LEAST_COUNT = 5
"""Occurrences; the embedding of a rarer word would learn nothing."""
MOST_PIECES = 12
"""Of a word; what has more is no word."""
_BLOCK = 2**22
"""Tokens read at once."""


@dataclass(frozen=True)
class NewWord:
    """A word, and what it was."""

    token: str
    """As it stands in the vocabulary: byte-level, with the mark of a space before it."""
    text: str
    """As it is read."""
    pieces: tuple[int, ...]
    """Ids of the tokens it was cut into."""
    count: int
    """How often it is in the training split."""

    @property
    def saved(self) -> int:
        """Tokens that the training split has less with it."""
        return self.count * (len(self.pieces) - 1)


def check_growable(tokenizer: Tokenizer, said: str) -> None:
    """Refuse tokenizers that no word can be added to.

    Args:
        tokenizer: the model's own.
        said: how the model is named in messages, such as `--model DIR`.

    Raises:
        ConfigError: it is neither WordPiece nor byte-level BPE.
    """
    kind, byte_level = _kind(tokenizer)
    if kind != "WordPiece" and not byte_level:
        raise ConfigError(
            f"--new-words is for WordPiece and byte-level BPE tokenizers; {said} has a {kind} one, "
            "whose pieces have scores or marks of their own: leave --new-words out"
        )


def choose_words(corpus: Corpus, tokenizer: Tokenizer, number: int) -> list[NewWord]:
    """The words worth most, at most `number`, the best first; ties by the alphabet.

    Words are of letters alone, occur `LEAST_COUNT` times in the training split, and have two pieces
    or more. A word that would make another one unknown (WordPiece takes the longest beginning it
    knows, and may know nothing for the rest) is left out.
    """
    found = [w for w in _cut_words(corpus, tokenizer) if w.count >= LEAST_COUNT]
    found.sort(key=lambda word: (-word.saved, word.token))
    chosen = found[:number]
    if _kind(tokenizer)[0] == "WordPiece":
        grown, unknown = grow_tokenizer(tokenizer, chosen), SpecialIds.of(tokenizer).unk
        lost = [w.token for w in found if unknown in _ids(grown, w.token)]
        guilty = {w.token for w in chosen for other in lost if other.startswith(w.token)}
        chosen = [word for word in chosen if word.token not in guilty]
    return chosen


def grow_tokenizer(tokenizer: Tokenizer, words: Sequence[NewWord]) -> Tokenizer:
    """The tokenizer with the words behind all ids there are, each read as one token.

    Byte-level BPE is told to take a word that it knows whole before it looks at merges.
    """
    table = json.loads(tokenizer.to_str())
    vocabulary: dict[str, int] = table["model"]["vocab"]
    for token in table["added_tokens"]:  # or the new ids would leave holes
        vocabulary.setdefault(token["content"], token["id"])
    first = num_ids(tokenizer)
    vocabulary |= {word.token: first + number for number, word in enumerate(words)}
    if table["model"]["type"] == "BPE":
        table["model"]["ignore_merges"] = True
    grown: Tokenizer = Tokenizer.from_str(json.dumps(table, ensure_ascii=False))
    return grown


@torch.no_grad()
def grow_network(network: Any, pieces: Mapping[int, Sequence[int]]) -> Any:
    """A network with rows for new ids, each the mean of the rows of its pieces.

    Args:
        network: of transformers, with or without a head.
        pieces: new id -> the ids whose rows it begins with.

    Returns:
        a network of the same class; V grows where the ids do not fit into the rows there are.
    """
    config = copy.deepcopy(network.config)
    config.vocab_size = max(config.vocab_size, *(number + 1 for number in pieces))
    grown = type(network)(config).to(next(network.parameters()).dtype).eval()
    own = grown.state_dict()
    vocabulary = _vocabulary_tensors(network)
    for name, old in network.state_dict().items():
        own[name][tuple(slice(size) for size in old.shape)] = old
        if name in vocabulary:  # (V, E) or (V,)
            for number, ids in pieces.items():
                own[name][number] = old[list(ids)].mean(0)
    return grown


def _vocabulary_tensors(network: Any) -> set[str]:
    """Names of the tensors with a row for each token: those that another V makes longer."""
    config = copy.deepcopy(network.config)
    config.vocab_size += 1
    with torch.device("meta"):
        longer = type(network)(config).state_dict()
    return {n for n, tensor in network.state_dict().items() if tensor.shape != longer[n].shape}


def _cut_words(corpus: Corpus, tokenizer: Tokenizer) -> list[NewWord]:
    """All words of letters that have several pieces, with their counts in the training split."""
    byte_level, table = _kind(tokenizer)[1], json.loads(tokenizer.to_str())
    prefix = table["model"].get("continuing_subword_prefix") or ""
    special = {token["id"] for token in table["added_tokens"]}
    counts: Counter[tuple[int, ...]] = Counter()
    for run, count in _runs(corpus, word_starts(tokenizer)).items():
        plain = tuple(number for number in run if number not in special)
        for pieces in _words_of(plain, tokenizer) if byte_level else [plain]:
            counts[pieces] += count
    found = []
    for pieces, count in counts.items():
        first, *rest = (str(tokenizer.id_to_token(number)) for number in pieces)
        token = first + "".join(piece.removeprefix(prefix) for piece in rest)
        text = str(tokenizer.decode(list(pieces))).strip() if byte_level else token
        if len(pieces) > 1 and text.isalpha():
            found.append(NewWord(token, text, pieces, count))
    return found


def _runs(corpus: Corpus, starts: NDArray[np.bool_]) -> Counter[tuple[int, ...]]:
    """Tokens that begin a word with those that go on with it, two or more, and how often."""
    split = corpus.split("train")
    counts: Counter[tuple[int, ...]] = Counter()
    for shard, info in enumerate(split.shards):
        for ids in _blocks(split, shard, info.tokens, starts):
            firsts = np.flatnonzero(starts[ids])
            lengths = np.diff(firsts, append=len(ids))
            for length in range(2, MOST_PIECES + 1):
                at = firsts[lengths == length]
                if len(at):
                    rows = ids[at[:, None] + np.arange(length)]
                    unique, often = np.unique(rows, axis=0, return_counts=True)
                    for row, count in zip(unique.tolist(), often.tolist(), strict=True):
                        counts[tuple(row)] += count
    return counts


def _blocks(
    split: Any, shard: int, tokens: int, starts: NDArray[np.bool_]
) -> Iterator[NDArray[np.int64]]:
    """The tokens of a shard in blocks that end where a word does."""
    begin = 0
    while begin < tokens:
        ids = split.tokens(shard, begin, min(_BLOCK, tokens - begin)).astype(np.int64)
        if begin + len(ids) < tokens and (last := int(np.flatnonzero(starts[ids])[-1])):
            ids = ids[:last]
        yield ids
        begin += len(ids)


def _words_of(run: tuple[int, ...], tokenizer: Tokenizer) -> Iterator[tuple[int, ...]]:
    """Pieces of each word of byte-level tokens up to a space: punctuation is parted from words."""
    words = [w for w, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.decode(list(run)))]
    waiting = list(run)
    for word in words:
        pieces: list[int] = []
        joined = ""
        while len(joined) < len(word) and waiting:
            pieces.append(waiting.pop(0))
            joined += str(tokenizer.id_to_token(pieces[-1]))
        if joined == word:
            yield tuple(pieces)


def _ids(tokenizer: Tokenizer, word: str) -> list[int]:
    return list(tokenizer.encode(word, add_special_tokens=False).ids)


def _kind(tokenizer: Tokenizer) -> tuple[str, bool]:
    """Its model, and whether it is BPE of bytes."""
    table = json.loads(tokenizer.to_str())
    kind = str(table["model"].get("type"))
    types = {step["type"] for step in parts_of(table["pre_tokenizer"])}
    return kind, kind == "BPE" and "ByteLevel" in types
