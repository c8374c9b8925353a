"""An objective whose passes are compiled: `prepare` one graph, `forward` another with its backward.

Shapes are fixed: a stage, a ramp or a smaller last micro-batch makes a graph of its own, and no
step asks the device anything. What cannot be one graph (a loop that ends by what it finds) is left
as it is written, and said once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from electra.config import TrainingConfig
from electra.training.noise import Noise

if TYPE_CHECKING:
    from electra.training.loop import Batch

GRAPHS = 64
"""Compiled forms of a pass at most: stages times batch sizes times lengths."""
_WHAT = {"prepare": "masks", "forward": "networks"}


def compiling(config: TrainingConfig, device: torch.device) -> bool:
    """Whether to compile, `auto` resolved."""
    return device.type == "cuda" if config.compile == "auto" else config.compile


def compile_passes(
    objective: nn.Module,
    device: torch.device,
    *,
    tell: Callable[[str], None],
    cuda_graphs: bool = False,
    backend: str | Callable[..., Any] = "inductor",
) -> None:
    """Compile the passes of training in place, as `nn.Module.compile` does; evaluation stays.

    Args:
        objective: what is trained, on its device (`training.loop.Objective`).
        device: where.
        tell: says a line to whoever watches.
        cuda_graphs: launch the kernels of the networks' passes as one; for one micro-batch a step,
            since what such a graph returns is overwritten when it runs again.
        backend: of torch.compile.
    """
    objective.idle_slots = True  # type: ignore[assignment]
    for name in _WHAT:
        if name == "prepare" and device.type == "cpu" and backend == "inductor":
            continue  # C++ made of the noise's shifts crashes the process (torch 2.13)
        mode = "reduce-overhead" if cuda_graphs and name == "forward" else None
        compiled = _Compiled(objective, name, device, tell, backend=backend, mode=mode)
        setattr(objective, name, compiled)


class _Compiled:
    """A method of an objective."""

    def __init__(
        self,
        objective: nn.Module,
        name: str,
        device: torch.device,
        tell: Callable[[str], None],
        **settings: Any,
    ) -> None:
        self._objective, self._name, self._device, self._tell = objective, name, device, tell
        self._plain: Any = getattr(objective, name)
        self._graphs: Any = torch.compile(self._plain, fullgraph=True, dynamic=False, **settings)
        self._recorded = settings["mode"] is not None

    def __call__(self, batch: Batch, noise: Noise) -> Any:
        if self._graphs is None or not self._objective.training:
            return self._plain(batch, noise)
        from torch._dynamo import config, exc
        from torch._functorch import config as gradient_config

        noise.move(self._device)
        if self._recorded:  # what the last step's graph returned may be overwritten
            compiler: Any = torch.compiler
            compiler.cudagraph_mark_step_begin()
        limit: Any = config
        at_once: Any = gradient_config  # what the backward pass lacks is to be seen here, too
        try:
            with (
                limit.patch(recompile_limit=GRAPHS),
                at_once.patch(force_non_lazy_backward_lowering=True),
            ):
                return self._graphs(batch, noise)
        except (exc.TorchDynamoException, exc.FailOnRecompileLimitHit) as error:
            self._graphs = None  # before anything was computed
            cause = getattr(error, "inner_exception", error)
            why = next(filter(None, map(str.strip, str(cause).splitlines())), "")
            self._tell(f"the {_WHAT[self._name]} are not compiled, which costs time alone: {why}")
            return self._plain(batch, noise)
