"""Entity F1 on CoNLL-2003 by the plain way of transformers: a token-classification head.

The label of a word is learned and read on its first piece. BIO tags as in the file (IOB2). Entity
F1 is seqeval's, which is conlleval's.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import torch
from seqeval.metrics import f1_score
from torch.nn import functional as F
from transformers import AutoModelForTokenClassification, AutoTokenizer

from electra.training.device import autocast, pick_dtype, training_attention

Sentence = tuple[list[str], list[str]]
IGNORED = -100
MAX_LENGTH = 96


def read_sentences(path: Path) -> list[Sentence]:
    """Words and BIO tags of a CoNLL-2003 file."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        blocks = file.read().split("\n\n")
    sentences = []
    for block in blocks:
        rows = [line.split() for line in block.splitlines() if line.strip()]
        if rows and rows[0][0] != "-DOCSTART-":
            sentences.append(([row[0] for row in rows], [row[-1] for row in rows]))
    return sentences


def conll_f1(
    encoder: str,
    *,
    train: Path,
    test: Path,
    sentences: int,
    epochs: int,
    learning_rate: float,
    seed: int,
    batch_size: int = 32,
) -> float:
    """Train a head and the encoder on the first sentences; entity F1 on the test file, 0 to 1."""
    torch.manual_seed(seed)
    device = torch.device("cpu")
    rows = read_sentences(train)[:sentences]
    labels = sorted({tag for _, tags in rows for tag in tags})
    tokenizer: Any = AutoTokenizer.from_pretrained(encoder)
    model: Any = AutoModelForTokenClassification.from_pretrained(encoder, num_labels=len(labels))
    model.set_attn_implementation(training_attention(device, MAX_LENGTH, dropout=0.0))
    steps = epochs * -(-len(rows) // batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    warmup = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))
    )
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(rows)).tolist()
        # batches of like length, in random order
        pools = [order[i : i + 16 * batch_size] for i in range(0, len(order), 16 * batch_size)]
        batches = []
        for pool in pools:
            pool.sort(key=lambda i: len(rows[i][0]))
            batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
        for number in torch.randperm(len(batches)).tolist():
            inputs, targets = _encode(tokenizer, [rows[i] for i in batches[number]], labels)
            with autocast(device, pick_dtype("auto", device)):
                logits = model(**inputs).logits
            loss = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    model.eval()
    truth, found = [], []
    held = read_sentences(test)
    with torch.no_grad():
        for start in range(0, len(held), 64):
            part = held[start : start + 64]
            inputs, targets = _encode(tokenizer, part, labels)
            best = model(**inputs).logits.argmax(-1)
            for row, (words, tags) in enumerate(part):
                said = [labels[i] for i in best[row][targets[row] != IGNORED].tolist()]
                # words beyond the longest input are said to be outside
                found.append(said + ["O"] * (len(words) - len(said)))
                truth.append(tags)
    return float(f1_score(truth, found))


def _encode(
    tokenizer: Any, rows: list[Sentence], labels: list[str]
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Inputs, and (B, L) labels at first pieces, `IGNORED` elsewhere."""
    inputs = tokenizer(
        [words for words, _ in rows],
        is_split_into_words=True,
        truncation=True,
        max_length=MAX_LENGTH,
        padding=True,
        return_tensors="pt",
    )
    targets = torch.full_like(inputs["input_ids"], IGNORED)
    for row, (_, tags) in enumerate(rows):
        before = None
        for place, word in enumerate(inputs.word_ids(row)):
            if word is not None and word != before:
                targets[row, place] = labels.index(tags[word]) if tags[word] in labels else 0
            before = word
    return dict(inputs), targets
