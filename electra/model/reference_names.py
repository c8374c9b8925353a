"""Names of google-research/electra's variables (commit 8a46635) for parameters of transformers.

One checkpoint of the reference holds both networks: `electra/...` is the discriminator's body and
the embeddings that both share, `generator/...` the generator's layers, `generator_predictions/...`
and `discriminator_predictions/...` the heads. Dense kernels are (in, out), ours (out, in).
"""

from __future__ import annotations

BODIES = {"generator": "generator", "discriminator": "electra", "masked_lm": "electra"}
"""Scope of a part's layers; `masked_lm` is a masked-LM head on the discriminator's body."""


def reference_name(name: str, *, own_embeddings: bool = False) -> tuple[str, bool]:
    """A parameter's name in the reference, and whether it is stored transposed there.

    Args:
        name: PART.PARAMETER: a key of `BODIES` and a parameter of `ElectraForPreTraining` or
            `ElectraForMaskedLM`, as in `discriminator.electra.encoder.layer.0.output.dense.bias`.
        own_embeddings: the embeddings stand in the part's own scope; else they are the shared ones.
    """
    part, _, rest = name.partition(".")
    body = BODIES[part]
    if rest == "generator_lm_head.bias":
        return "generator_predictions/output_bias", False
    if rest.startswith("electra.embeddings."):
        body = body if own_embeddings else "electra"
        if "LayerNorm" not in rest:
            rest = rest.removesuffix(".weight")
    path = rest.replace("encoder.layer.", "encoder/layer_").replace("dense_prediction", "dense_1")
    path = path.replace(".", "/")
    if path.startswith("electra/"):
        path = body + path.removeprefix("electra")
    if "LayerNorm" in path:
        return path.replace("weight", "gamma").replace("bias", "beta"), False
    return path.replace("weight", "kernel"), path.endswith("weight")


def is_training_state(variable: str) -> bool:
    """Whether a variable is an optimizer's slot, a counter or the sampling temperature."""
    return variable.rsplit("/", 1)[-1] in {"adam_m", "adam_v", "global_step", "temperature"}
