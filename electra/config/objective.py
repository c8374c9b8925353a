"""What is learned: one flat section, and which of its fields each objective takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from electra.config.option import option, positive, require
from electra.errors import ConfigError

_MASKS = ("mask_prob", "mask_prob_end", "mask_token_prob", "masking", "duplicate_positions")
_PROPOSALS = (*_MASKS, "generator", "generator_weight", "temperature", "disallow_correct")
OBJECTIVES: Mapping[str, tuple[str, ...]] = {
    "replaced_token_detection": (
        *_PROPOSALS,
        "discriminator_weight",
        "warm_start",
        "causal_start",
        "encoder_mlm_weight",
        "encoder_mlm_copy",
        "contrastive_weight",
        "repetition_weight",
    ),
    "masked_lm": (*_MASKS, "causal_start", "head_share", "repetition_weight"),
    "electra_15_percent": (*_PROPOSALS, "discriminator_weight"),
    "replace_mlm": _PROPOSALS,
    "all_tokens_mlm": (*_PROPOSALS, "copy_mechanism"),
    "two_stage": (
        *_MASKS,
        "generator_weight",
        "temperature",
        "disallow_correct",
        "discriminator_weight",
        "generator_share",
        "start_from_generator",
    ),
    "adversarial": (
        "mask_prob",
        "mask_prob_end",
        "mask_token_prob",
        "masking",
        "temperature",
        "discriminator_weight",
        "reinforce_weight",
    ),
    "electric": ("mask_prob", "generator_weight", "discriminator_weight"),
    "fast_electra": (
        *_MASKS,
        "generator_folder",
        "discriminator_weight",
        "temperature",
        "final_temperature",
        "replacements",
    ),
    "self_augmented": ("mask_prob", "masking", "temperature", "discriminator_weight"),
    "sentence_contrast": (
        *_MASKS,
        "encoder_mlm_weight",
        "views",
        "view_share",
        "contrastive_temperature",
    ),
}
"""Objective -> the fields that mean something to it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What is learned."""

    name: Literal[
        "replaced_token_detection",
        "masked_lm",
        "electra_15_percent",
        "replace_mlm",
        "all_tokens_mlm",
        "two_stage",
        "adversarial",
        "electric",
        "fast_electra",
        "self_augmented",
        "sentence_contrast",
    ] = option("replaced_token_detection", "the objective (docs/objectives.md)")
    mask_prob: float = option(0.15, "share of the tokens that is chosen (paper, section 3.1)")
    mask_prob_end: float | None = option(
        None,
        "that share at the end of the budget, where it goes in a straight line, such as from 0.3 "
        "to 0.15 (Ankner et al. 2024); none: it stays",
    )
    mask_token_prob: float = option(
        0.85, "share of the chosen tokens shown as [MASK]; the rest stays as it is"
    )
    masking: Literal["token", "whole_word", "span"] = option(
        "token", "what is chosen together: single tokens, the tokens of a word, runs of words"
    )
    duplicate_positions: bool = option(
        False, "true: draw positions with replacement and mix repeats, as the reference code does"
    )
    generator: Literal["masked_lm", "uniform", "unigram"] = option(
        "masked_lm",
        "where replacements come from: a trained network, any token alike, tokens as frequent as "
        "in the corpus",
    )
    generator_weight: float = option(1.0, "weight of the generator's loss")
    discriminator_weight: float = option(50.0, "weight of the discriminator's loss (lambda)")
    temperature: float = option(1.0, "of the generator's samples; fast_electra: at the start")
    disallow_correct: bool = option(False, "never sample the original token (reference code)")
    warm_start: float = option(
        0.0, "share of the budget in which the discriminator is trained as a masked LM first"
    )
    causal_start: float = option(
        0.0,
        "share of the budget, its first, in which the encoder is a causal LM; modern family",
    )
    encoder_mlm_weight: float = option(
        0.0,
        "after the warm start, weight of predicting the original tokens from the "
        "discriminator's reading of the corrupted text (corrective head)",
    )
    encoder_mlm_copy: bool = option(
        False, "corrective head: let it copy the input as far as the discriminator trusts it"
    )
    contrastive_weight: float = option(
        0.0, "weight of telling a text's cropped copy from other texts (COCO-LM's SCL)"
    )
    repetition_weight: float = option(
        0.0, "weight of telling, at every token, whether it stands elsewhere in the row, too"
    )
    head_share: float = option(
        0.0,
        "masked_lm: share of the budget, its first, in which the head alone learns: for a fresh "
        "head on a trained encoder",
    )
    copy_mechanism: bool = option(True, "all_tokens_mlm: mix the input token into the prediction")
    generator_share: float = option(0.5, "two_stage: share of the budget spent on the generator")
    start_from_generator: bool = option(
        True, "two_stage: the discriminator starts with the generator's weights"
    )
    reinforce_weight: float = option(
        1.0, "adversarial: weight of the generator's policy-gradient loss"
    )
    generator_folder: str | None = option(
        None, "fast_electra: folder or Hub id of the trained masked LM that proposes"
    )
    final_temperature: float = option(1.0, "fast_electra: temperature at the end")
    replacements: str | None = option(
        None, "fast_electra: folder that keeps the proposals for later runs with the same data"
    )
    views: Literal["auto", "dropout", "deletion", "masking", "crop"] = option(
        "auto",
        "sentence_contrast: how two views of a text differ; auto: by dropout where the encoder has "
        "any, else each is a crop",
    )
    view_share: float = option(
        0.7, "sentence_contrast: share of the tokens that a view lacks or shows as [MASK]"
    )
    contrastive_temperature: float = option(
        0.05, "sentence_contrast: what cosines are divided by (SimCSE's tau)"
    )

    def __post_init__(self) -> None:
        for name, top in (
            ("mask_prob", 0.9),
            ("mask_prob_end", 0.9),
            ("mask_token_prob", 1.0),
            ("warm_start", 1.0),
            ("generator_share", 1.0),
            ("view_share", 0.9),
            ("head_share", 0.9),
        ):
            value = getattr(self, name) or 0.0
            require(0 <= value <= top, "objective." + name.replace("_", "-"), value, f"[0, {top}]")
        for name in ("mask_prob", "mask_prob_end", "temperature", "final_temperature"):
            positive(self, "objective", name)
        for name in ("view_share", "contrastive_temperature"):
            positive(self, "objective", name)
        require(
            self.masking == "token" or not self.duplicate_positions,
            "objective.duplicate-positions",
            self.duplicate_positions,
            f"false with --objective.masking {self.masking}, which draws no position twice",
        )
        self._check_applies()
        for field in dataclasses.fields(self):
            if field.name.endswith("_weight"):
                value = getattr(self, field.name)
                flag = "objective." + field.name.replace("_", "-")
                require(value >= 0, flag, value, "0 or more")
        top, what = 1.0, "1"
        if self.name != "masked_lm":
            top = self.warm_start
            what = f"--objective.warm-start {top:g}, whose first part it is"
        given = self.causal_start
        require(0 <= given <= top, "objective.causal-start", given, f"0 to {what}")
        require(
            self.encoder_mlm_weight > 0 or not self.encoder_mlm_copy,
            "objective.encoder-mlm-copy",
            self.encoder_mlm_copy,
            "true only with --objective.encoder-mlm-weight above 0",
        )
        if self.generator != "masked_lm":
            for name in ("generator_weight", "temperature"):
                require(
                    getattr(self, name) == 1,
                    "objective." + name.replace("_", "-"),
                    getattr(self, name),
                    f"1 with --objective.generator {self.generator}, which is not a network",
                )

    def _check_applies(self) -> None:
        for field in dataclasses.fields(self):
            given = getattr(self, field.name)
            if given != field.default and field.name not in ("name", *OBJECTIVES[self.name]):
                takes = ", ".join(f.replace("_", "-") for f in OBJECTIVES[self.name])
                raise ConfigError(
                    f"--objective.{field.name.replace('_', '-')} {given} does not apply to "
                    f"{self.name}; it takes: {takes} (those that take it: "
                    + ", ".join(name for name, fields in OBJECTIVES.items() if field.name in fields)
                    + ")"
                )


def without_inapplicable(table: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The fields of an `[objective]` table that mean something to the objective `name`."""
    return {key: value for key, value in table.items() if key in OBJECTIVES.get(name, table)}
