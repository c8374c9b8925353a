"""What defines an adaptation, apart from the networks, the text and the recipe of its training."""

from __future__ import annotations

import dataclasses

from electra.config.option import option, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptSettings:
    """New words, and how the text becomes a corpus."""

    new_words: int = option(0, "words of the domain that become tokens, at most")
    text_column: str | None = option(None, "where the text stands in tables")
    validation_share: float = option(0.05, "share of the documents held out")
    licence: str | None = option(None, "terms of the text")

    def __post_init__(self) -> None:
        require(self.new_words >= 0, "new-words", self.new_words, "0 or more")
        share = self.validation_share
        require(0 < share <= 0.5, "validation-share", share, "above 0, at most 0.5")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptConfig:
    """`config.toml` of an adaptation."""

    adapt: AdaptSettings = dataclasses.field(default_factory=AdaptSettings)
