"""Tokenizers: opened, saved, compared; special tokens (`tokenizer_training.py` trains)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from electra.errors import DataError

LONGEST_WORD = 100
"""Characters; a longer word is [UNK], as in BERT."""
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ROLES = {
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
}


def with_template(tokenizer: Tokenizer) -> Tokenizer:
    """`[CLS] A [SEP]` and `[CLS] A [SEP] B [SEP]`."""
    special = special_tokens(tokenizer)
    cls, sep = special["cls_token"], special["sep_token"]
    tokenizer.post_processor = TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(cls, tokenizer.token_to_id(cls)), (sep, tokenizer.token_to_id(sep))],
    )
    return tokenizer


def load_tokenizer(source: str | Path) -> Tokenizer:
    """A fast tokenizer from a folder, a tokenizer.json, or a Hub id.

    Raises:
        DataError: there is none, or it lacks one of the five special tokens.
    """
    path = Path(source)
    file = path / "tokenizer.json" if path.is_dir() else path
    if file.is_file():
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # tokenizers raises bare Exception for a malformed file
            raise DataError(f"{file} is not a tokenizer: {error}") from None
    elif path.exists():
        raise DataError(f"{path} holds no tokenizer.json (a fast tokenizer is wanted)")
    else:
        try:
            tokenizer = Tokenizer.from_pretrained(str(source))
        except Exception as error:  # likewise, for whatever the Hub answered
            raise DataError(
                f"--tokenizer {source} is neither a folder nor a tokenizer of the Hub: {error}"
            ) from None
    special_tokens(tokenizer)
    # some are saved with the last call's, which would cut documents and pad them
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def num_ids(tokenizer: Tokenizer) -> int:
    """Rows an embedding table needs: the largest id and one; vocabularies may have holes."""
    return int(max(tokenizer.get_vocab(with_added_tokens=True).values())) + 1


def special_tokens(tokenizer: Tokenizer) -> dict[str, str]:
    """`pad_token`, `unk_token`, `cls_token`, `sep_token`, `mask_token` -> the token.

    Raises:
        DataError: a role has no token; pretraining needs all five.
    """
    found = {}
    for role, names in _ROLES.items():
        token = next((n for n in names if tokenizer.token_to_id(n) is not None), None)
        if token is None:
            raise DataError(f"the tokenizer has no {role}; one of {', '.join(names)} is wanted")
        found[role] = token
    return found


@dataclass(frozen=True)
class SpecialIds:
    """Ids of the special tokens."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> SpecialIds:
        """Look them up in a tokenizer."""
        ids = {
            role.removesuffix("_token"): int(tokenizer.token_to_id(token) or 0)
            for role, token in special_tokens(tokenizer).items()
        }
        return cls(**ids)

    @property
    def never_masked(self) -> tuple[int, ...]:
        """[PAD], [CLS], [SEP] and [MASK]; [UNK] may be chosen, as in the reference."""
        return (self.pad, self.cls, self.sep, self.mask)


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """SHA-256 of the tokenizer's JSON."""
    return hashlib.sha256(tokenizer.to_str().encode("utf-8")).hexdigest()


def vocabulary_hash(tokenizer: Tokenizer) -> str:
    """SHA-256 of what decides the ids that a text becomes: two tokenizers that agree are equal.

    Left out is what a file may say otherwise: padding, truncation, decoder, the template of special
    tokens (examples are built without it), and how an accent rule that is understood is written.
    """
    table = json.loads(tokenizer.to_str())
    normalizer = table["normalizer"]
    if normalizer and normalizer.get("type") == "BertNormalizer":
        # null: as lowercase
        if normalizer["strip_accents"] is None:
            normalizer["strip_accents"] = normalizer["lowercase"]
    apart = sorted(t["content"] for t in table["added_tokens"] if not t["special"])
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    model = {name: value for name, value in table["model"].items() if name != "vocab"}
    if not isinstance(table["model"]["vocab"], dict):  # unigram: pieces have scores
        model["vocab"] = table["model"]["vocab"]
    meaning = [normalizer, table["pre_tokenizer"], model, apart, vocabulary]
    text = json.dumps(meaning, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def save_tokenizer(
    tokenizer: Tokenizer, folder: Path, *, max_length: int, token_types: bool
) -> None:
    """Write what `AutoTokenizer` opens, and `vocab.txt` for older tools.

    Args:
        tokenizer: the trained one.
        folder: where the model lies.
        max_length: becomes `model_max_length`.
        token_types: whether the model reads `token_type_ids`.
    """
    from transformers import PreTrainedTokenizerFast

    names = ["input_ids", *(["token_type_ids"] if token_types else []), "attention_mask"]
    fast_class: Any = PreTrainedTokenizerFast
    fast = fast_class(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        model_input_names=names,
        **special_tokens(tokenizer),
    )
    fast.save_pretrained(folder)
    save_vocabulary(tokenizer, folder)


def save_vocabulary(tokenizer: Tokenizer, folder: Path) -> None:
    """Write `vocab.txt`, which transformers 5 leaves out, if the tokenizer is WordPiece."""
    if json.loads(tokenizer.to_str())["model"].get("type") != "WordPiece":
        return
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    (folder / "vocab.txt").write_text("".join(f"{t}\n" for t in tokens), encoding="utf-8")
