"""What networks make of held-out text as they are: fixed rows, fixed masks, whoever is asked."""

from __future__ import annotations

from electra.config import PretrainConfig
from electra.corpus.folder import Corpus
from electra.corpus.streams import token_counts, validation_batches
from electra.corpus.tokenizer import SpecialIds
from electra.evaluation.probes import probe
from electra.model.pretrained_parts import open_inputs
from electra.objectives.objective import build_objective
from electra.training.device import pick_device, seed_everything

_MASKED_LM = {
    "masked_lm_loss": ("encoder_mlm_loss", "generator_loss"),
    "masked_lm_accuracy": ("encoder_mlm_accuracy", "generator_accuracy"),
}
"""Names of the report, and the objective's own: of a pair the generator is the masked LM."""


def held_out_metrics(corpus: Corpus, config: PretrainConfig) -> dict[str, float]:
    """Loss and accuracy of the masked LM, and whatever else the objective is probed for.

    A head that is fresh is drawn by `training.seed`, as in the run.

    Args:
        corpus: its validation split is read.
        config: names the networks in `model.discriminator` and `model.generator`.

    Raises:
        UserError: networks and corpus do not fit each other.
    """
    tokenizer, parts, config = open_inputs(corpus, config)
    assert parts is not None, "the recipe names a network"
    special, rows = SpecialIds.of(tokenizer), parts.discriminator.config.vocab_size
    device = pick_device(config.training.device)
    seed_everything(config.training.seed)
    counts = token_counts(corpus, rows, config)
    objective = build_objective(config, rows, special, token_counts=counts, parts=parts)
    objective.to(device).eval()
    batches = validation_batches(corpus, config, special, with_ids=objective.wants_ids)
    found = probe(objective, batches, device)
    named = {name: found[own] for name, owns in _MASKED_LM.items() for own in owns if own in found}
    taken = {own for owns in _MASKED_LM.values() for own in owns}
    return named | {name: value for name, value in found.items() if name not in taken}
