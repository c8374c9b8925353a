"""Encoders of a few thousand weights and toy data sets, made in milliseconds."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GOOD = ["fine", "good", "great", "warm"]
BAD = ["bad", "dull", "cold", "poor"]
PLAIN = ["a", "the", "film", "play", "book", "was", "is", "and", "then", "here", "there", "one"]
PLAIN += ["two", "very", "not", "##s", "##ly"]
VOCABULARY = [*SPECIAL, *GOOD, *BAD, *PLAIN]  # 30 words


def make_tokenizer(folder: Path) -> None:
    """A WordPiece tokenizer of the 30 words."""
    from transformers import BertTokenizer

    vocabulary = {word: i for i, word in enumerate(VOCABULARY)}
    tokenizer = BertTokenizer(vocab=vocabulary, do_lower_case=True)
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(folder)


def make_encoder(folder: Path, family: str = "modernbert", *, layers: int = 2) -> Path:
    """`modernbert`, `electra`, `bert` or `roberta`: 16 wide, random weights, with a tokenizer."""
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    torch.manual_seed(7)
    shape = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    }
    if family == "modernbert":
        shape |= {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
        config = AutoConfig.for_model(family, layer_types=["full_attention"] * layers, **shape)
    else:
        if family == "electra":
            shape["embedding_size"] = 16
        config = AutoConfig.for_model(family, **shape)
    logging.disable_progress_bar()
    AutoModel.from_config(config).save_pretrained(folder)
    make_tokenizer(folder)
    return folder


def sentences(count: int, seed: int) -> list[tuple[str, str]]:
    """(text, label), the label told by one word; lengths differ, labels take turns."""
    generator = random.Random(seed)
    rows = []
    for i in range(count):
        label, told = ("good", GOOD) if i % 2 else ("bad", BAD)
        words = generator.choices(PLAIN[:15], k=generator.randint(1, 12))
        words.insert(generator.randrange(len(words) + 1), generator.choice(told))
        rows.append((" ".join(words), label))
    return rows


def pairs(count: int, seed: int) -> list[tuple[str, str, str]]:
    """(text, text, label): whether the second sentence holds a good word."""
    first = random.Random(seed).sample(sentences(count, seed + 1_000), count)
    return [
        (a, b, "yes" if label == "good" else "no")
        for (a, _), (b, label) in zip(first, sentences(count, seed), strict=True)
    ]


def write_tsv(path: Path, header: list[str], rows: Sequence[tuple[str, ...]]) -> Path:
    """A TSV file."""
    lines = ["\t".join(header), *("\t".join(row) for row in rows)]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path
