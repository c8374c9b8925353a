"""`electra` as a worker of torchrun whose second process does something at its twelfth step.

    python -m torch.distributed.run --nproc-per-node 2 tests/worker.py kill pretrain --data ...

`kill`: dies, the first time it is started; `term`: ends torchrun.
"""

import os
import signal
import sys
from typing import Any

import torch

torch.set_num_threads(1)

from electra.cli import main  # noqa: E402
from electra.training import loop  # noqa: E402


def at_step_twelve(what: str) -> None:
    usual, calls = loop.clip_gradients, []

    def clip_gradients(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 12 and os.environ.get("RANK") == "1":
            if what == "term":
                os.kill(os.getppid(), signal.SIGTERM)
            elif os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
                os.kill(os.getpid(), signal.SIGKILL)
        return usual(*arguments)

    loop.clip_gradients = clip_gradients


if __name__ == "__main__":
    at_step_twelve(sys.argv[1])
    main(sys.argv[2:])
