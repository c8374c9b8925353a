"""A cloze model that predicts every token in one pass (Clark et al. 2020, Electric, section 2.3).

    q(x_t | the other tokens) = softmax(W head([left_(t-1); right_(t+1)]) + b)

One network reads from left to right, one from right to left; what both know of a token's neighbours
predicts the token, so neither has seen it. The right one is the left one with the mask of attention
transposed. At the ends of the text, where a neighbour is missing, zeros stand in.

B sequences, L tokens, N rows of any kind, H hidden size of a tower, E embedding size, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ElectraConfig, ElectraModel, ModernBertConfig, ModernBertModel

from electra.config import ModelConfig
from electra.errors import CheckpointError
from electra.model import classic, modern
from electra.model.document_attention import as_mask

WEIGHTS, SETTINGS = "two_tower.safetensors", "two_tower.json"
_FORMAT = "electra two_tower 1"
_KINDS: dict[str, tuple[Any, Any]] = {
    "electra": (ElectraConfig, ElectraModel),
    "modernbert": (ModernBertConfig, ModernBertModel),
}


class TwoTower(nn.Module):
    """Two bodies of one kind over one module of embeddings, and a head over both."""

    def __init__(self, left: Any, right: Any) -> None:
        """Take two bodies of transformers; the right one's embeddings are given up."""
        super().__init__()
        self.left, self.right = left, right
        self.share_embeddings(left.embeddings)
        table = left.get_input_embeddings().weight  # (V, E)
        self.dense = nn.Linear(2 * left.config.hidden_size, table.shape[1])
        self.norm = nn.LayerNorm(table.shape[1])
        self.bias = nn.Parameter(torch.zeros(len(table)))
        nn.init.normal_(self.dense.weight, 0.0, left.config.initializer_range)
        nn.init.zeros_(self.dense.bias)

    @classmethod
    def build(cls, model: ModelConfig, config: Any) -> TwoTower:
        """Fresh weights; `config` is a generator's, of which each tower has the size."""
        family: Any = {"classic": classic, "modern": modern}[model.family]
        if model.family == "modern":  # no windows: the mask is one for all layers
            layers = ["full_attention"] * config.num_hidden_layers
            config = ModernBertConfig(**(config.to_dict() | {"layer_types": layers}))
        bodies = [family.build_masked_lm(config, model).base_model for _ in range(2)]
        towers = cls(*bodies)
        if model.initialization == "scaled":
            nn.init.normal_(towers.dense.weight, 0.0, towers.dense.in_features**-0.5)
        return towers

    @property
    def embeddings(self) -> Any:
        """What both towers read with; its table of tokens is the output's, too."""
        return self.left.embeddings

    def share_embeddings(self, module: Any) -> None:
        """Read with the embeddings of another network."""
        self.left.embeddings = module
        self.right.embeddings = module

    def use_attention(self, name: str) -> None:
        """Choose transformers' attention kernel."""
        self.left.set_attn_implementation(name)
        self.right.set_attn_implementation(name)

    def forward(self, input_ids: Tensor, context: Mapping[str, Tensor]) -> Tensor:
        """What surrounds each token, (B, L) -> (B, L, 2 H).

        Args:
            input_ids: unmasked.
            context: holds `attention_mask` and `token_type_ids`, (B, L), where they are not all 1
                and 0.
        """
        length = input_ids.shape[1]
        seen = torch.ones(len(input_ids), 1, length, length, dtype=torch.bool)
        seen = seen.to(input_ids.device)
        real = context.get("attention_mask")
        if real is not None:  # padding reads itself: no row of the mask may be empty
            own = torch.eye(length, dtype=torch.bool, device=input_ids.device)
            seen = real[:, None, None, :].bool() | own  # (B, 1, L, L)
        left = _states(self.left, input_ids, context, seen.tril())  # (B, L, H)
        right = _states(self.right, input_ids, context, seen.triu())
        if real is not None:
            right = right * real.unsqueeze(-1).to(right.dtype)
        return torch.cat([F.pad(left[:, :-1], (0, 0, 1, 0)), F.pad(right[:, 1:], (0, 0, 0, 1))], -1)

    def logits(self, surroundings: Tensor) -> Tensor:
        """Vocabulary logits, (..., 2 H) -> (..., V)."""
        transformed = self.norm(F.gelu(self.dense(surroundings)))  # (..., E)
        return F.linear(transformed, self.left.get_input_embeddings().weight, self.bias)

    def log_probabilities(self, input_ids: Tensor, context: Mapping[str, Tensor]) -> Tensor:
        """The log of q(x_t | the other tokens) at every token, float32, (B, L) -> (B, L)."""
        logits = self.logits(self(input_ids, context)).float()  # (B, L, V)
        return logits.log_softmax(-1).gather(-1, input_ids.unsqueeze(-1)).squeeze(-1)

    def save(self, folder: Path) -> None:
        """Write `two_tower.safetensors` and `two_tower.json`."""
        state = self.state_dict()
        own = {k: v.contiguous() for k, v in state.items() if not k.startswith("right.embeddings.")}
        save_file(own, folder / WEIGHTS)
        settings = {"format": _FORMAT, "config": self.left.config.to_dict()}
        (folder / SETTINGS).write_text(json.dumps(settings, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> TwoTower:
        """Open what `save` wrote, for evaluation.

        Raises:
            CheckpointError: the files are missing, damaged or of another kind.
        """
        try:
            settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
            weights = load_file(folder / WEIGHTS)
            if settings["format"] != _FORMAT:
                raise ValueError(f"its format is {settings['format']}, not {_FORMAT}")
            config_class, body_class = _KINDS[settings["config"]["model_type"]]
            config = config_class(**settings["config"])
            towers = cls(body_class(config), body_class(config))
            missing, unexpected = towers.load_state_dict(weights, strict=False)
            missing = [name for name in missing if not name.startswith("right.embeddings.")]
            if missing or unexpected:
                raise ValueError(f"the weights do not fit: {(missing + unexpected)[0]}")
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            first = str(error).strip().splitlines()[0]
            raise CheckpointError(f"{folder} holds no two-tower cloze model: {first}") from None
        return towers.eval()


def _states(body: Any, input_ids: Tensor, context: Mapping[str, Tensor], mask: Tensor) -> Tensor:
    """A tower's output, (B, L, H), under a mask (B, 1, L, L) that is true where it may look."""
    ready = as_mask(mask, body.config._attn_implementation)
    if body.config.model_type == "modernbert":
        output = body(input_ids, attention_mask={"full_attention": ready})
    else:
        types = context.get("token_type_ids")
        output = body(input_ids, attention_mask=ready, token_type_ids=types)
    states: Tensor = output.last_hidden_state
    return states
