"""Heads for extractive answers: transformers' own, and the joint one of XLNet and ELECTRA.

The joint head scores ends given a start, and whether there is an answer at all.

Source: google-research/electra, finetune/qa/qa_tasks.py (`joint_prediction`,
`answerable_classifier`, `answerable_uses_start_logits`). transformers has no class for it on
these encoders, so the folder is opened by `load_span_model` (or `Predictor.open`), which reads
`config.json` and `model.safetensors`; `AutoModel` opens its encoder alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForQuestionAnswering, PreTrainedConfig, PreTrainedModel

from electra.config import HeadConfig
from electra.errors import ConfigError
from electra.tasks.model_folder import find_encoder, load_config, load_with_head, quiet_transformers

HIDDEN = 512
"""Width of the layers for ends and answerability."""
BEAM = 20
"""Starts at inference, and ends for each."""
_NEVER = -1e4
_AUTO: Any = AutoModelForQuestionAnswering


class JointSpanModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    """An encoder with scores of starts, of ends given a start, and of there being no answer."""

    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(self, encoder_of: PreTrainedModel, dropout: float = 0.0) -> None:
        """Take the encoder out of a model of `AutoModelForQuestionAnswering`."""
        super().__init__(encoder_of.config)
        self.base_model_prefix = encoder_of.base_model_prefix
        setattr(self, self.base_model_prefix, encoder_of.base_model)
        width = encoder_of.config.hidden_size
        self.dropout = nn.Dropout(dropout)
        self.start = nn.Linear(width, 1)
        # a linear layer over [start, token] is the sum of one over each
        self.end_token = nn.Linear(width, HIDDEN)
        self.end_start = nn.Linear(width, HIDDEN, bias=False)
        self.end = nn.Linear(HIDDEN, 1)
        self.no_answer_hidden = nn.Linear(2 * width, HIDDEN)
        self.no_answer = nn.Linear(HIDDEN, 1)
        for module in self.children():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        answer_mask: Tensor,
        token_type_ids: Tensor | None = None,
        start_positions: Tensor | None = None,
    ) -> Tensor:
        """Scores for training, or the beams.

        Args:
            input_ids: [B, L].
            attention_mask: [B, L].
            answer_mask: [B, L], 1 for tokens of the context and position 0.
            token_type_ids: [B, L], where the encoder reads them.
            start_positions: [B], the right starts, in training.

        Returns:
            with `start_positions` [B, L, 3]: logits of starts, of ends given the right start, and,
            the same all along L, of unanswerable; else [B, K, 3 + 2 K] for the K = min(20, L) best
            starts: position, log-probability, logit of unanswerable, K positions of ends, K
            log-probabilities of ends given the start. Float32.
        """
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        hidden = self.dropout(self.base_model(**inputs)[0])  # [B, L, H]
        outside = answer_mask == 0
        starts = self.start(hidden).squeeze(-1).float().masked_fill(outside, _NEVER)  # [B, L]
        weights = starts.softmax(-1).to(hidden.dtype)
        mean_start = (weights.unsqueeze(1) @ hidden).squeeze(1)  # [B, H]
        judged = torch.cat([hidden[:, 0], mean_start], dim=-1)  # [B, 2 H]
        no_answer = self.no_answer(F.gelu(self.no_answer_hidden(judged))).float()  # [B, 1]
        tokens = self.end_token(hidden)  # [B, L, HIDDEN]
        rows = torch.arange(len(hidden), device=hidden.device)
        if start_positions is not None:
            ends = self._ends(tokens, hidden[rows, start_positions], outside)
            return torch.stack([starts, ends, no_answer.expand_as(starts)], dim=-1)  # [B, L, 3]
        count = min(BEAM, input_ids.shape[1])
        best, positions = starts.log_softmax(-1).topk(count, dim=-1)  # [B, K] twice
        beams = []
        for k in range(count):
            ends = self._ends(tokens, hidden[rows, positions[:, k]], outside).log_softmax(-1)
            best_ends, end_positions = ends.topk(count, dim=-1)  # [B, K] twice
            parts = [positions[:, k : k + 1].float(), best[:, k : k + 1], no_answer]
            beams.append(torch.cat([*parts, end_positions.float(), best_ends], dim=-1))
        return torch.stack(beams, dim=1)

    def _ends(self, tokens: Tensor, start: Tensor, outside: Tensor) -> Tensor:
        """Logits [B, L] of ends given the vector [B, H] of a start."""
        joint = F.gelu(tokens + self.end_start(start).unsqueeze(1))  # [B, L, HIDDEN]
        ends: Tensor = self.end(joint).squeeze(-1).float().masked_fill(outside, _NEVER)
        return ends


def build_span_model(
    encoder: str, head: HeadConfig, *, joint: bool = False, from_scratch: bool = False
) -> PreTrainedModel:
    """The encoder under a fresh head, in float32.

    Args:
        encoder: what was given as --model.
        head: dropout; pooling has to be `auto`.
        joint: `JointSpanModel` instead of `AutoModelForQuestionAnswering`'s.
        from_scratch: fresh weights of the encoder's shape.

    Raises:
        ConfigError: the encoder cannot be opened, or its head has no such setting.
    """
    found = find_encoder(encoder)
    config = load_config(found)
    if type(config) not in _AUTO._model_mapping:
        raise ConfigError(
            f"--model {encoder}: transformers has no {_AUTO.__name__} for {config.model_type}"
        )
    if head.pooling != "auto":
        raise ConfigError(
            f"--model.pooling is {head.pooling}; an answer is read from every token (allowed: auto)"
        )
    if head.dropout is not None and not joint:
        if config.model_type != "modernbert":
            raise ConfigError(
                f"--model.dropout is {head.dropout}; the plain head of {config.model_type} has "
                "none (leave it out, or take --model.head joint)"
            )
        config.classifier_dropout = head.dropout
    config.num_labels = 2
    model = _fresh(config) if from_scratch else load_with_head(_AUTO, found, config)
    return JointSpanModel(model, dropout=head.dropout or 0.0) if joint else model


def load_span_model(folder: Path, *, joint: bool = False) -> PreTrainedModel:
    """A model as `finetune` saved it; every weight must be there.

    Raises:
        ConfigError: the folder has no configuration or no such weights.
    """
    config = load_config(str(folder))
    if not joint:
        return load_with_head(_AUTO, str(folder), config, fresh_head=False)
    model = JointSpanModel(_fresh(config))
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0]
        raise ConfigError(f"--model {folder} has no joint head that can be read: {first}") from None
    return model


def _fresh(config: PreTrainedConfig) -> PreTrainedModel:
    with quiet_transformers():
        model: PreTrainedModel = _AUTO.from_config(
            config, dtype=torch.float32, trust_remote_code=False
        )
    return model
