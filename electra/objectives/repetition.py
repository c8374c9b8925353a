"""Telling, at every token, whether it stands elsewhere in the row, too.

    loss = mean over read tokens of BCE(is_repeated, head(hidden))

A token is repeated if the text that is read has it at another place (in a causal start: before).
The [PAD], [CLS], [SEP] and [MASK] of a row are not asked about. Nothing is drawn or labelled.
What it teaches is to look for a token elsewhere, which pairs of sentences need, and which neither
masked LM nor replaced token detection teaches in a small budget (docs/lab_log.md, "Looking
elsewhere").

B sequences, L tokens, H hidden size.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def is_repeated(input_ids: Tensor, *, before: bool = False) -> Tensor:
    """(B, L) bool: whether a row has the token at another place, or at one before."""
    alike = input_ids.unsqueeze(1) == input_ids.unsqueeze(2)  # (B, L, L)
    return alike.tril(-1).any(2) if before else alike.sum(2) > 1


class RepetitionHead(nn.Module):
    """The logit of being repeated; with a hidden layer, as the discriminator's head."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.out = nn.Linear(hidden_size, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, L, H) -> (B, L) float32."""
        scores: Tensor = self.out(F.gelu(self.dense(hidden))).squeeze(-1)
        return scores.float()

    def loss(self, hidden: Tensor, read_ids: Tensor, asked: Tensor, before: bool = False) -> Tensor:
        """Binary cross-entropy, summed.

        Args:
            hidden: (B, L, H) of the text as it was read.
            read_ids: (B, L) that text.
            asked: (B, L) 1 for the tokens that are asked about, else 0.
            before: count the places before alone.
        """
        truth = is_repeated(read_ids, before=before).float()
        losses = F.binary_cross_entropy_with_logits(self(hidden), truth, reduction="none")
        return (losses * asked).sum()

    def num_correct(self, hidden: Tensor, read_ids: Tensor, asked: Tensor) -> Tensor:
        """How many of them are right; arguments as for `loss`."""
        said: Tensor = self(hidden) > 0  # (B, L)
        right = said == is_repeated(read_ids)
        return (right * asked).sum()
