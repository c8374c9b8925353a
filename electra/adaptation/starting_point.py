"""What an adaptation begins with: a released encoder, one of ours, or a generator with its
discriminator.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from electra.errors import ConfigError, no_network
from electra.model.released import Part, open_part
from electra.tasks.model_folder import find_encoder
from electra.tasks.task import TASK_FILE

MASKED_LM, REPLACED_TOKENS = "masked_lm", "replaced_token_detection"
"""The objectives by which an encoder alone, and a pair, go on."""


@dataclass(frozen=True)
class StartingPoint:
    """The networks, and where the encoder's own folder is."""

    encoder: str
    """A folder or a Hub id for `electra finetune`: the encoder as it is."""
    encoder_folder: Path
    """Where it lies, with whatever `AutoModel` has beside what is trained, such as a pooler."""
    network: Part
    """What pretraining goes on with: an encoder, or the discriminator of a pair."""
    generator: Part | None
    """Of a pair."""

    @property
    def objective(self) -> str:
        """The objective that it goes on by."""
        return REPLACED_TOKENS if self.generator else MASKED_LM

    @property
    def parts(self) -> list[Part]:
        """The networks there are."""
        return [self.network, *([self.generator] if self.generator else [])]

    @property
    def tokenizer(self) -> str:
        """Folder or Hub id for `electra prepare --tokenizer`."""
        folder = self.network.folder
        assert folder is not None, "parts are opened, not from a record"
        return str(folder) if (folder / "tokenizer.json").is_file() else self.network.name


def open_starting_point(
    given: str, generator: str | None = None, *, objective: str | None = None
) -> StartingPoint:
    """Find the networks.

    Args:
        given: a folder, a run folder or a Hub id. Of a run folder discriminator/ and generator/
            are taken where both are there, else masked_lm/, else encoder/.
        generator: to a discriminator that is given apart.
        objective: the one asked for; `masked_lm` leaves generators out.

    Raises:
        ConfigError: there is no such model, it is a model of a task, or of a family that is not
            known.
    """
    if generator is not None and objective == MASKED_LM:
        raise ConfigError(
            f"--generator {generator} is for replaced token detection, and --objective.name is "
            "masked_lm: leave one of the two out"
        )
    folder = Path(given).expanduser()
    if (folder / TASK_FILE).is_file():
        raise ConfigError(
            f"--model {given} is a model of a task ({TASK_FILE} is in it); adapt wants an encoder: "
            "give the one it was fine-tuned from, and fine-tune again"
        )
    place = encoder = given
    if folder.is_dir() and not (folder / "config.json").is_file():
        there = {n for n in _PARTS if (folder / n / "config.json").is_file()}
        if {"discriminator", "generator"} <= there and objective != MASKED_LM and not generator:
            place, generator = str(folder / "discriminator"), str(folder / "generator")
        elif found := [name for name in ("masked_lm", "encoder") if name in there]:
            place = str(folder / found[0])
        else:
            raise ConfigError(no_network(f"--model {given}", folder, _PARTS))
        encoder = str(folder / "encoder") if "encoder" in there else place
    else:
        place = encoder = find_encoder(given)
    network = _open("discriminator", place, "--model")
    family = network.config.model_type
    if network.kind.family == "other" and objective not in (None, MASKED_LM):
        raise ConfigError(
            f"--model {given} is a {family}, which goes on by masked LM alone, not by {objective}: "
            "leave --objective.name out"
        )
    assert network.folder is not None, "only parts from a record have none"
    return StartingPoint(
        encoder=encoder,
        encoder_folder=network.folder if encoder == place else Path(encoder),
        network=network,
        generator=None if generator is None else _open("generator", generator, "--generator"),
    )


_PARTS = ("encoder", "masked_lm", "discriminator", "generator")


def _open(role: str, place: str, flag: str) -> Part:
    """The part, with the flag of this verb in what is said."""
    try:
        return open_part(role, place)
    except ConfigError as error:
        raise ConfigError(str(error).replace(f"--model.{role}", flag)) from None
