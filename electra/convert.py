"""A checkpoint of the reference (TensorFlow 1) to folders that the Auto classes open.

electra convert electra_small/ --output models/electra-small
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from rich.console import Console
from tokenizers import Tokenizer
from transformers.utils import logging as transformers_logging

from electra.corpus.tokenizer import SpecialIds, num_ids, save_tokenizer
from electra.corpus.tokenizer_training import read_vocabulary
from electra.errors import ConfigError, DataError, OutputExistsError
from electra.model.pretraining_model import UNTRAINED
from electra.model.reference_networks import (
    RTD_HEAD,
    Stated,
    build,
    check_places,
    has_rtd_head,
    parts_in,
)
from electra.model.tf_checkpoint import TFCheckpoint, find_checkpoint
from electra.training.run_folder import move_aside

_WORDS = "electra/embeddings/word_embeddings"


def convert(
    checkpoint: str | Path,
    *,
    output: Path,
    vocab: Path | None = None,
    config: Path | None = None,
    generator_config: Path | None = None,
    num_attention_heads: int | None = None,
    generator_attention_heads: int | None = None,
    lowercase: bool | None = None,
    strip_accents: bool | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> dict[str, Path]:
    """Write `encoder/`, `discriminator/` and, where the checkpoint has one, `generator/`.

    All shapes are read from the tensors. A checkpoint whose masked-LM head stands on the
    discriminator's body (weights shared fully, or the reference's BERT baseline) gives `masked_lm/`
    in place of `generator/`. Weights are stored in float32. `conversion.json` keeps what was said.

    Args:
        checkpoint: the prefix of its files, one of them, or their folder.
        output: the folder to make; nothing is left there unless the whole of it is done.
        vocab: vocab.txt; none: the one beside the checkpoint, and without it no tokenizer is
            written.
        config: of the discriminator, a JSON file as published beside checkpoints or written by
            transformers: heads, dropout and activation are taken from it, the rest is compared.
        generator_config: likewise of the generator.
        num_attention_heads: of the discriminator; none: as its configuration says, or one for each
            64 of its width, as in the reference.
        generator_attention_heads: likewise of the generator.
        lowercase: whether the vocabulary is of lowercased text; none: where no piece but the
            special tokens has an uppercase letter.
        strip_accents: none: where it is lowercased, as in the reference.
        overwrite: move an old folder to NAME.old-1, and put the new one in its place.
        console: where is said what was found, assumed and left out; none: nowhere.

    Returns:
        The folder of each part.

    Raises:
        DataError: no checkpoint, a damaged one, another architecture, variables that are missing
            or have no place, a vocabulary of another size.
        ConfigError: a configuration or a number of heads that does not fit the tensors.
        OutputExistsError: `output` exists and `overwrite` is false.
    """
    console = console or Console(quiet=True)
    if output.exists() and not overwrite:
        raise OutputExistsError(
            f"{output} exists; choose another --output, or move it aside with --overwrite"
        )
    if output.exists() and not output.is_dir():
        raise OutputExistsError(f"{output} is a file; --output wants a folder")
    source = TFCheckpoint(find_checkpoint(Path(checkpoint)))
    names = parts_in(source)
    stated = {
        "discriminator": Stated(config, "--config", num_attention_heads, "--num-attention-heads"),
        "generator": Stated(
            generator_config,
            "--generator-config",
            generator_attention_heads,
            "--generator-attention-heads",
        ),
    }
    if "generator" not in names and stated["generator"].anything:
        raise ConfigError(
            f"{source.prefix} has no generator (no variables generator/...): leave out "
            "--generator-config and --generator-attention-heads"
        )
    vocab = vocab or _beside(source)
    tokenizer = None
    parts: dict[str, Any] = {}
    notes: list[str] = []
    if vocab is not None:
        if lowercase is None:
            lowercase, note = _judge_case(vocab)
            notes.append(note)
        strip_accents = lowercase if strip_accents is None else strip_accents
        tokenizer = _tokenizer(vocab, source, lowercase=lowercase, strip_accents=strip_accents)
    special = SpecialIds.of(tokenizer) if tokenizer is not None else None
    for name in names:
        own = stated["generator" if name == "generator" else "discriminator"]
        parts[name], line = build(source, name, own, special)
        notes.append(line)
    notes += _notes(source, names, check_places(source, parts), vocab)
    home = output.resolve()  # "." has no name to extend
    partial = home.with_name(f"{home.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        _write(parts, partial, tokenizer, vocab, untrained=not has_rtd_head(source))
        record = {"checkpoint": source.prefix.name, "notes": notes}
        text = json.dumps(record, indent=1, ensure_ascii=False)
        (partial / "conversion.json").write_text(text + "\n", encoding="utf-8")
        if output.exists():
            notes.append(f"the old {output} is now {move_aside(output)}")
        partial.rename(home)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    written = {name: output / name for name in ("encoder", *parts)}
    console.print(f"wrote {', '.join(map(str, written.values()))}", markup=False, highlight=False)
    return written


def _beside(source: TFCheckpoint) -> Path | None:
    vocab = source.prefix.with_name("vocab.txt")
    return vocab if vocab.is_file() else None


def _judge_case(vocab: Path) -> tuple[bool, str]:
    """Whether text is to be lowercased, and a line that says why."""
    pieces = read_vocabulary(vocab, lowercase=False, strip_accents=False).get_vocab()
    special = re.compile(r"\[.*\]|<.*>")  # [unusedA] and the like, beside the five
    cased = [p for p in pieces if p != p.lower() and not special.fullmatch(p)]
    told = f'it has "{min(cased, key=pieces.__getitem__)}"' if cased else "no piece is uppercase"
    meaning = "text is not lowercased" if cased else "text is lowercased"
    note = f"lowercase: {meaning}, as {told}: assumed from the vocabulary; "
    return not cased, note + "--lowercase or --no-lowercase says it"


def _tokenizer(
    vocab: Path, source: TFCheckpoint, *, lowercase: bool, strip_accents: bool
) -> Tokenizer:
    tokenizer = read_vocabulary(vocab, lowercase=lowercase, strip_accents=strip_accents)
    rows = source.shapes.get(_WORDS, (0,))[0]
    if num_ids(tokenizer) != rows:
        raise DataError(
            f"{vocab} has {num_ids(tokenizer):,} word pieces, the embedding table {_WORDS} has "
            f"{rows:,} rows; --vocab takes the vocab.txt that belongs to the checkpoint"
        )
    return tokenizer


def _notes(
    source: TFCheckpoint, names: list[str], left_out: list[str], vocab: Path | None
) -> list[str]:
    """What is missing and what was left out."""
    notes = []
    if not has_rtd_head(source):
        notes.append(
            f"the checkpoint has no {RTD_HEAD}...: the head of discriminator/ is freshly "
            "initialised, so what AutoModelForPreTraining answers is untrained; encoder/ is whole"
        )
    if names == ["discriminator"]:
        notes.append("the checkpoint has no generator (generator/...): no generator/ is written")
    if "masked_lm" in names:
        notes.append(
            "the checkpoint has no generator of its own (generator/...), but a masked-LM head on "
            "the encoder: it is in masked_lm/"
        )
    if vocab is None:
        notes.append(
            "no vocab.txt beside the checkpoint: the folders have weights and config.json, but no "
            "tokenizer; --vocab FILE adds it"
        )
    slots = [name for name in left_out if name.endswith(("/adam_m", "/adam_v"))]
    others = [name for name in left_out if name not in slots]
    if "global_step" in others:
        others[others.index("global_step")] = f"global_step ({int(source.tensor('global_step')):,})"
    if left_out:
        counted = [f"{len(slots)} slots of the optimizer"] if slots else []
        notes.append(f"left out: {', '.join(counted + others)}")
    return notes


def _write(
    parts: dict[str, Any],
    folder: Path,
    tokenizer: Tokenizer | None,
    vocab: Path | None,
    *,
    untrained: bool,
) -> None:
    """Each part in its folder, the discriminator's body as `encoder/`; `untrained`: its head is."""
    logging: Any = transformers_logging
    logging.disable_progress_bar()
    encoder = parts["discriminator"].base_model
    for name, network in {"encoder": encoder, **parts}.items():
        if untrained and name == "discriminator":
            network.config.update(UNTRAINED)  # it is the encoder's, too, which is written by now
        network.save_pretrained(folder / name)
        if tokenizer is not None and vocab is not None:
            length = network.config.max_position_embeddings
            save_tokenizer(tokenizer, folder / name, max_length=length, token_types=True)
            shutil.copyfile(vocab, folder / name / "vocab.txt")  # its rows, repeated ones too
