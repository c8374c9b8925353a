"""The copy mechanism: a prediction that is a mixture of the input token and a softmax.

    p(token) = D [token is the input] + (1 - D) softmax(token)

D is one minus the discriminator's probability of being replaced (ELECTRA, section 3.4; COCO-LM,
Meng et al. 2021, section 3.1).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def copy_loss(token_losses: Tensor, scores: Tensor, kept: Tensor) -> Tensor:
    """-log of the mixture of copy and softmax, elementwise.

    Args:
        token_losses: -log softmax(original token).
        scores: logit of not copying.
        kept: whether the input is the original, so that copying is right.
    """
    log_predicted = F.logsigmoid(scores) - token_losses
    log_copied = F.logsigmoid(-scores)
    return -torch.where(kept, torch.logaddexp(log_copied, log_predicted), log_predicted)
