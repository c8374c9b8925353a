"""FLOPs of training and inference, counted from the configuration alone.

The rules are those of the ELECTRA authors' script (google-research/electra,
flops_computation.py), from which the paper's "Train FLOPs" come. An operation is a mathematical
one: a multiplication with an addition is two. The backward pass costs what the forward pass costs,
so a trained pass counts double. Embeddings are looked up by a product with one-hot vectors, 2 E V a
token: at small sizes that is much of the count. Dropout is charged whatever its rate, and in
inference too. The optimizer, the sampling and the losses other than the softmax over the vocabulary
are left out.

The classic family is counted as there, with its slip: the norm after attention costs 5, not 5 H.
The modern family is counted by the same costs on its own network: no biases; no position and type
tables, but 6 H a layer for turning queries and keys; an up-projection of twice the width and a
gated activation; dropout inside the feed-forward layer instead of behind it; 5 H for each of two
norms a layer (the first layer lacks one, and one more ends the network). Layers with a sliding
window are charged for the keys within the window, not for the hidden ones a kernel may touch.

H hidden size, I intermediate size, E embedding size, V vocabulary, L tokens in a sequence, P masked
positions in a sequence.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, assert_never

from electra.config import ModelConfig, ObjectiveConfig, PretrainConfig
from electra.config.model import generator_width
from electra.config.ramps import value_at
from electra.config.stages import stages
from electra.recipe import read_recipe, resolve

DROPOUT, NORM, ACTIVATION, SOFTMAX = 4, 5, 8, 5
"""Operations an element (flops_computation.py)."""
ROTARY = 3
"""Operations an element of a query or a key: two products and a sum."""
FULL_ATTENTION_UP_TO, FULL_EVERY, WINDOW = 512, 3, 129
"""Modern: longer networks see all tokens in every third layer, 64 either side in the others."""
CROPPED_SHARE = 0.9
"""What the contrastive pass keeps of a sequence (COCO-LM, section 4.1)."""
PUBLISHED_OUTPUT_SHARE = 0.15625
"""Positions that meet the vocabulary in the published counts: 20 of 128, whatever was masked."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """The shape of one network."""

    family: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    embedding_size: int
    sliding: bool


def encoder_network(model: ModelConfig) -> Network:
    """The shape of the encoder."""
    return Network(
        family="modern" if model.family == "modern" else "classic",  # BERT's network is that, too
        hidden_size=model.hidden_size,
        num_hidden_layers=model.num_hidden_layers,
        num_attention_heads=model.num_attention_heads,
        intermediate_size=model.intermediate_size,
        embedding_size=model.embedding_size or model.hidden_size,
        sliding=model.family == "modern" and model.max_position_embeddings > FULL_ATTENTION_UP_TO,
    )


def generator_network(model: ModelConfig) -> Network:
    """The shape of the generator; its embeddings are as wide as the encoder's.

    Raises:
        ConfigError: there is no generator of that size.
    """
    encoder = encoder_network(model)
    layers = model.generator_layers or encoder.num_hidden_layers
    hidden, heads = generator_width(encoder.hidden_size, model.generator_size)
    if heads is None:
        return dataclasses.replace(encoder, num_hidden_layers=layers)
    return dataclasses.replace(
        encoder,
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
    )


def layer_flops(network: Network, keys: int) -> float:
    """One layer, forward, for a token that attends to `keys` tokens."""
    h, i = network.hidden_size, network.intermediate_size
    scores = (SOFTMAX + DROPOUT + 1) * keys * network.num_attention_heads
    attention = 2 * 3 * h * h + 2 * h * keys + scores + 2 * h * keys + 2 * h * h
    if network.family == "classic":
        attention += 3 * h + h + DROPOUT * h + h + NORM  # biases, dropout, residual, norm
        feed_forward = 2 * h * i + ACTIVATION * i + i + 2 * i * h
        feed_forward += h + DROPOUT * h + h + NORM * h
    else:
        attention += ROTARY * 2 * h + DROPOUT * h + h + NORM * h
        feed_forward = 2 * h * 2 * i + ACTIVATION * i + i + DROPOUT * i + 2 * i * h
        feed_forward += h + NORM * h
    return attention + feed_forward


def layers_flops(network: Network, length: int) -> float:
    """All layers, forward, for a sequence of `length` tokens."""
    layers = range(network.num_hidden_layers)
    full = sum(1 for layer in layers if not network.sliding or layer % FULL_EVERY == 0)
    within = layer_flops(network, min(length, WINDOW)) * (network.num_hidden_layers - full)
    return length * (layer_flops(network, length) * full + within)


def embedding_flops(network: Network, length: int, vocab_size: int) -> float:
    """The input embeddings, forward, for a sequence of `length` tokens."""
    e, h = network.embedding_size, network.hidden_size
    token = 2 * e * vocab_size + NORM * e + DROPOUT * e
    if network.family == "classic":
        token += 2 * e * (length + 2) + 2 * e  # tables of positions and of two types, and sums
    if e != h:
        token += 2 * h * e + h
    return float(length * token)


def masked_lm_head_flops(network: Network, vocab_size: int, towers: int = 1) -> float:
    """The masked-LM head and its softmax, forward, at one position (output bias not counted)."""
    e, h = network.embedding_size, network.hidden_size * towers
    bias = e if network.family == "classic" else 0
    transform = 2 * h * e + bias + ACTIVATION * e + NORM * e
    return transform + 2 * e * vocab_size + SOFTMAX * vocab_size + 2 * vocab_size


def replaced_head_flops(network: Network) -> float:
    """The head that tells replaced tokens, forward, at one position."""
    h = network.hidden_size
    extra = h if network.family == "classic" else NORM * h  # a bias, or a norm
    return 2 * h * h + extra + ACTIVATION * h + 2 * h


def inference_flops(model: ModelConfig, vocab_size: int, length: int) -> float:
    """One input of `length` tokens through the encoder and a head like the discriminator's."""
    network = encoder_network(model)
    return (
        layers_flops(network, length)
        + embedding_flops(network, length, vocab_size)
        + length * replaced_head_flops(network)
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Passes:
    """Forward passes of an average step over a sequence; a trained pass counts as two.

    Of a head: passes times the share of the positions it reads.
    """

    encoder: float = 0.0
    cropped_encoder: float = 0.0
    """Over a copy cropped to 90 %."""
    discriminator_head: float = 0.0
    encoder_output: float = 0.0
    """Masked-LM head on the encoder."""
    generator: float = 0.0
    generator_output: float = 0.0


def masked_share(config: PretrainConfig, length: int = 0, at: float | None = None) -> float:
    """P / L of P = int((p + 0.005) L) slots (`objectives/masking.py`); `at`: no idle ones then."""
    length, objective = length or config.data.max_length, config.objective
    first, last = objective.mask_prob, objective.mask_prob_end or objective.mask_prob
    share = max(first, last) if at is None else first + (last - first) * at
    return max(1, int((share + 0.005) * length)) / length


def passes_of(
    objective: ObjectiveConfig, share: float, *, trained: float = 2.0, progress: float | None = None
) -> Passes:
    """What an objective runs, averaged over the budget.

    Args:
        objective: the recipe's section.
        share: of the positions that are masked.
        trained: forward passes that a pass with its backward pass counts as.
        progress: at that share of the budget, instead of the average.
    """
    o, forward_only = objective, 1.0
    causal_share, warm_share, generator_share = o.causal_start, o.warm_start, o.generator_share
    if progress is not None:  # in a stage, or not
        causal_share = float(progress < causal_share)
        warm_share = float(progress < warm_share)
        generator_share = float(progress < generator_share)
    causal = trained * causal_share * (1 - share)  # the vocabulary where nothing is masked, too
    generated = trained if o.generator == "masked_lm" else 0.0  # other proposals cost nothing
    match o.name:
        case "masked_lm":
            return Passes(encoder=trained, encoder_output=trained * share + causal)
        case "replaced_token_detection" | "electra_15_percent" | "adversarial":
            after = 1 - warm_share
            corrected = warm_share + (after if o.encoder_mlm_weight > 0 else 0.0)
            return Passes(
                encoder=trained,
                cropped_encoder=trained * after if o.contrastive_weight > 0 else 0.0,
                discriminator_head=trained * after,
                encoder_output=trained * corrected * share + causal,
                generator=generated * after,
                generator_output=generated * after * share,
            )
        case "replace_mlm" | "all_tokens_mlm":
            everywhere = o.name == "all_tokens_mlm"
            return Passes(
                encoder=trained,
                discriminator_head=trained if everywhere and o.copy_mechanism else 0.0,
                encoder_output=trained if everywhere else trained * share,
                generator=generated,
                generator_output=generated * share,
            )
        case "two_stage":
            after = 1 - generator_share
            proposed = forward_only if o.generator == "masked_lm" else 0.0
            generator = generated * generator_share + proposed * after
            return Passes(
                encoder=trained * after,
                discriminator_head=trained * after,
                generator=generator,
                generator_output=generator * share,
            )
        case "electric":  # two towers, one softmax over what both say, at every token
            return Passes(
                encoder=trained,
                discriminator_head=trained,
                generator=2 * trained,
                generator_output=trained,
            )
        case "fast_electra":
            proposed = 0.0 if o.replacements else forward_only
            return Passes(
                encoder=trained,
                discriminator_head=trained,
                generator=proposed,
                generator_output=proposed * share,
            )
        case "self_augmented":  # the head corrects these replacements and proposes the next
            return Passes(
                encoder=trained,
                discriminator_head=trained,
                encoder_output=(trained + forward_only) * share,
            )
        case "sentence_contrast":  # two views, crops counted whole; a pass of its own for masks
            masked = trained if o.encoder_mlm_weight > 0 else 0.0
            return Passes(encoder=2 * trained + masked, encoder_output=masked * share)
        case _:
            assert_never(o.name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainFlops:
    """FLOPs of a pretraining run, averaged over its stages."""

    parts: Mapping[str, float]
    """Of one optimizer step, by part of the networks."""
    tokens_per_step: float
    """Batch size times length, padding counted."""
    steps: float | None
    """None for a budget in minutes; a budget in tokens is taken to have no padding."""

    @property
    def per_step(self) -> float:
        """Of one optimizer step."""
        return sum(self.parts.values())

    @property
    def per_token(self) -> float:
        """Of one token of the input."""
        return self.per_step / self.tokens_per_step

    @property
    def total(self) -> float | None:
        """Of the run; None where the number of steps depends on the machine."""
        return None if self.steps is None else self.per_step * self.steps


def train_flops(
    config: PretrainConfig, vocab_size: int, *, output_share: float | None = None
) -> TrainFlops:
    """Count a pretraining run, forward and backward.

    Args:
        config: the resolved recipe. Of `fast_electra` the generator is taken to have the shape that
            `model` says; the shape in `generator_folder` is not read. Proposals kept in
            `replacements` are taken to be there.
        vocab_size: V, as the tokenizer has it.
        output_share: share of the positions that meet the vocabulary, where it is not P / L; the
            published counts have `PUBLISHED_OUTPUT_SHARE`.

    Raises:
        ConfigError: there is no generator of the recipe's size.
    """
    parts: dict[str, float] = {}
    tokens = 0.0
    for stage in stages(config.schedule, config.training, config.data):
        share = masked_share(config, stage.length) if output_share is None else output_share
        passes = passes_of(config.objective, share)
        for name, flops in _sequence_flops(config, vocab_size, stage.length, passes).items():
            parts[name] = parts.get(name, 0.0) + stage.share * stage.sequences * flops
        tokens += stage.share * stage.sequences * stage.length
    steps: float | None = config.training.max_steps
    if config.training.max_tokens is not None:
        steps = config.training.max_tokens / tokens
    return TrainFlops(parts=parts, tokens_per_step=tokens, steps=steps)


def computed_flops(config: PretrainConfig, vocab_size: int, progress: float, idle: bool) -> float:
    """FLOPs a token that a step of `progress` has to compute, to be held against the machine's.

    Unlike the authors' rules: a backward pass is two forward passes, embeddings are looked up, and
    slots that a lower share of masks leaves count where they are computed (`idle`).
    """
    length = int(value_at(config.schedule.length_ramp, progress, config.data.max_length))
    share = masked_share(config, length, None if idle else progress)
    passes = passes_of(config.objective, share, trained=3.0, progress=progress)
    parts = _sequence_flops(config, vocab_size, length, passes)
    return sum(f for name, f in parts.items() if not name.endswith("_embeddings")) / length


def _sequence_flops(
    config: PretrainConfig, vocab_size: int, length: int, passes: Passes
) -> dict[str, float]:
    """FLOPs of one sequence, forward and backward, by part of the networks."""
    encoder = encoder_network(config.model)
    generator = generator_network(config.model) if passes.generator else encoder
    cropped = math.ceil(CROPPED_SHARE * length)
    return {
        "encoder_embeddings": passes.encoder * embedding_flops(encoder, length, vocab_size)
        + passes.cropped_encoder * embedding_flops(encoder, cropped, vocab_size),
        "encoder_layers": passes.encoder * layers_flops(encoder, length)
        + passes.cropped_encoder * layers_flops(encoder, cropped),
        "encoder_output": passes.encoder_output
        * length
        * masked_lm_head_flops(encoder, vocab_size),
        "discriminator_head": passes.discriminator_head * length * replaced_head_flops(encoder),
        "generator_embeddings": passes.generator * embedding_flops(generator, length, vocab_size),
        "generator_layers": passes.generator * layers_flops(generator, length),
        "generator_output": passes.generator_output
        * length
        * masked_lm_head_flops(
            generator, vocab_size, 2 if config.objective.name == "electric" else 1
        ),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """A count of the authors' script, and the recipe that it is of."""

    recipe: str
    flops: float
    changes: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """What differs from the recipe."""
    inference: bool = False
    """One input of 128 tokens, instead of the training."""


def _bert(steps: int, batch: int) -> dict[str, dict[str, Any]]:
    training = {"max_steps": steps, "global_batch_size": batch}
    return {"objective": {"name": "masked_lm"}, "training": training}


PUBLISHED_VOCAB_SIZE = 30_522
PUBLISHED_INPUT = 128
PUBLISHED: Mapping[str, Published] = {
    "bert_small": Published(recipe="classic-small", flops=1.4187e18, changes=_bert(1_450_000, 128)),
    "bert_base": Published(recipe="classic-base", flops=6.4283e19, changes=_bert(1_000_000, 256)),
    "bert_large": Published(recipe="classic-large", flops=1.9172e20, changes=_bert(1_000_000, 256)),
    "electra_small": Published(recipe="classic-small", flops=1.2937e18),
    "electra_base": Published(recipe="classic-base", flops=6.4245e19),
    "electra_400k": Published(recipe="classic-large", flops=7.1176e20),
    "electra_1.75M": Published(recipe="classic-large-pp", flops=3.1140e21),
    "small_inference": Published(recipe="classic-small", flops=3.677e9, inference=True),
    "base_inference": Published(recipe="classic-base", flops=2.862e10, inference=True),
    "large_inference": Published(recipe="classic-large", flops=8.747e10, inference=True),
}
"""What the authors' script prints. The paper has 1.4e18 for ELECTRA-Small (table 1); the script
gives 1.2937e18 with the generator of width 64 that table 6 names."""


def published_flops(name: str) -> float:
    """What this module counts for an entry of `PUBLISHED`."""
    entry = PUBLISHED[name]
    layers = [(entry.recipe, read_recipe(entry.recipe)), (name, entry.changes)]
    config = resolve(PretrainConfig, layers)
    if entry.inference:
        return inference_flops(config.model, PUBLISHED_VOCAB_SIZE, PUBLISHED_INPUT)
    counted = train_flops(config, PUBLISHED_VOCAB_SIZE, output_share=PUBLISHED_OUTPUT_SHARE)
    return counted.per_step * (config.training.max_steps or 0)
