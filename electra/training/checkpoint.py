"""Checkpoints that survive anything: written aside, synced, renamed, checksummed.

A checkpoint is a folder `step-00001000/` of safetensors and JSON, never a pickle:
`model.safetensors`, `optimizer.safetensors`, `random.safetensors`, `state.json`, and
`checksums.json` (SHA-256 of the others), which is written last. Kept are the last few and the best:
the `best_step` of the state in each that is kept. Of a model that is divided among processes the
tensors lie in `shard-*.safetensors`, a file a process, and any number of processes reads them.

What saving costs: the tensors written once, read once more by SHA-256, five files and two folders
synced. A thread hashes and syncs a file while the next one is written; Python's lock is free then.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from electra.errors import CheckpointError, ElectraError, cannot_write
from electra.training.distributed import World, is_divided
from electra.training.schedule import TrainState
from electra.training.shares import has_shares, read_shares, write_shares

_PREFIX = "step-"
_PARTIAL = ".partial-"
_MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")
_NONE, _ALL_TORN = -1, -2
_FILES = {"model.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"}


@dataclasses.dataclass(kw_only=True)
class Loaded:
    """What resuming found."""

    state: TrainState
    environment: dict[str, Any]
    """What may change the bits: thread count, dtype, micro-batch (as saved)."""
    skipped: list[str]
    """One message for each torn checkpoint passed over."""


class CheckpointStore:
    """The folder `checkpoints/` of a run."""

    def __init__(self, folder: Path, *, keep: int = 2, world: World | None = None) -> None:
        self.folder = folder
        self.keep = keep
        self.world = world or World()

    def steps(self) -> list[int]:
        """Steps of the checkpoints there, oldest first, whole or not."""
        if not self.folder.is_dir():
            return []
        return sorted(
            int(path.name[len(_PREFIX) :])
            for path in self.folder.glob(_PREFIX + "*")
            if path.name[len(_PREFIX) :].isdigit()
        )

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.folder / f"{_PREFIX}{step:08d}"

    def save(
        self,
        *,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        state: TrainState,
        environment: dict[str, Any],
    ) -> Path:
        """Write the checkpoint of `state.step`, then delete what is beyond the last and the best.

        To be called by every process.

        Raises:
            CheckpointError: it cannot be written; those that were there are as they were.
        """
        final = self.path(state.step)
        partial = self.folder / f"{_PARTIAL}{final.name}"
        weights = module_tensors(module)
        moments, scalars = _optimizer_tensors(module, optimizer)
        shares = {n: t for n, t in (weights | moments).items() if is_divided(t)}
        sums: dict[str, str] = {}
        record = {
            "state": dataclasses.asdict(state),
            "optimizer": scalars,
            "environment": environment,
        }

        def begin() -> None:
            for left in self.folder.glob(_PARTIAL + "*"):  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            partial.mkdir(parents=True)

        def write_own_shares() -> None:
            files = write_shares(partial, shares, self.world)
            sums.update({file.name: _sealed(file) for file in files})

        def share_sums() -> None:
            sums.update(self.world.merged(sums))

        def finish() -> None:
            here, beside = ({n: p[n] for n in p if n not in shares} for p in (weights, moments))
            _write(partial, here, beside, json.dumps(record, indent=1), sums)
            shutil.rmtree(final, ignore_errors=True)
            partial.rename(final)
            _sync(self.folder)

        main, divided = self.world.is_main, bool(shares)
        works = (begin, main), (write_own_shares, divided), (share_sums, divided), (finish, main)
        for work, mine in works:
            failure: Exception | None = None
            try:
                if mine:
                    work()
            except (OSError, SafetensorError) as error:
                failure = error
            if self.world.agree(failure is not None):
                raise self._not_written(final, partial, failure)
        if main:
            self._tidy(state.step)
        return final

    def _not_written(self, final: Path, partial: Path, failure: Exception | None) -> ElectraError:
        shutil.rmtree(partial, ignore_errors=True)
        if failure is None:
            return CheckpointError(f"another process could not write the checkpoint {final}")
        good = [step for step in self.steps() if torn(self.path(step)) is None]
        last = f"that of step {good[-1]} is as it was" if good else "there is none before it"
        return CheckpointError(
            f"{cannot_write(f'the checkpoint {final}', failure)}, and go on with --resume auto "
            f"({last})"
        )

    def _tidy(self, newest: int) -> None:
        """Delete all but the last `keep` and their best; what is newer was torn, or left behind."""
        last = [step for step in self.steps() if step <= newest][-self.keep :]
        wanted = {*last, *map(self._best_of, last)}
        for step in self.steps():
            if step not in wanted:
                shutil.rmtree(self.path(step), ignore_errors=True)

    def _best_of(self, step: int) -> int | None:
        try:
            record = json.loads((self.path(step) / "state.json").read_text(encoding="utf-8"))
            best = record["state"]["best_step"]
        except (OSError, ValueError, KeyError, TypeError):  # torn, or of an older version
            return None
        return best if isinstance(best, int) else None

    def load_weights(self, step: int, module: nn.Module) -> None:
        """Put the weights of one step into `module`.

        Raises:
            CheckpointError: the checkpoint is not there, torn, or of another model.
        """
        problem = torn(self.path(step))
        if problem is not None:
            raise CheckpointError(f"the weights of step {step} cannot be read: {problem}")
        _fill(module, _tensors(self.path(step), module)[0], self.path(step))

    def load_latest(self, *, module: nn.Module, optimizer: torch.optim.Optimizer) -> Loaded | None:
        """Restore the newest whole checkpoint in place; None where there is none.

        Torn ones are passed over and named in `skipped`.

        Raises:
            CheckpointError: a whole checkpoint does not fit the module (another recipe).
        """
        step, skipped = self._newest_whole() if self.world.is_main else (-1, [])
        step = round(self.world.same_number(float(step)))  # judged once, and alike
        if step >= 0:
            record = _restore(self.path(step), module, optimizer)
            return Loaded(
                state=TrainState(**record["state"]),
                environment=record["environment"],
                skipped=skipped,
            )
        if step == _ALL_TORN:
            raise CheckpointError(f"no whole checkpoint in {self.folder}: " + "; ".join(skipped))
        return None

    def _newest_whole(self) -> tuple[int, list[str]]:
        """A step, or what there is instead; and a message for each torn one passed over."""
        skipped: list[str] = []
        for step in reversed(self.steps()):
            problem = torn(self.path(step))
            if problem is None:
                return step, skipped
            skipped.append(problem)
        return (_ALL_TORN if skipped else _NONE), skipped


def torn(path: Path) -> str | None:
    """What is wrong with a checkpoint folder, in one line; None where it is whole."""
    try:
        sums = json.loads((path / "checksums.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"{path} has no readable checksums.json"
    if not isinstance(sums, dict) or not sums.keys() >= _FILES:
        return f"{path}/checksums.json lacks what a checkpoint has"
    for name, expected in sums.items():
        file = path / name
        if not file.is_file():
            return f"{file} is missing"
        if _sha256(file) != expected:
            return f"{file} does not match its checksum"
    return None


def module_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name, a tied one once, ready for safetensors."""
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor.detach().contiguous()
    return tensors


def _tensors(path: Path, module: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights and moments in a checkpoint; shares of them where the module is divided."""
    files = [path / f"{name}.safetensors" for name in ("model", "optimizer")]
    own = module_tensors(module)
    if not has_shares(path) and not any(is_divided(tensor) for tensor in own.values()):
        return load_file(files[0]), load_file(files[1])
    parameters = dict(module.named_parameters())
    likes = dict(own)
    for name, parameter in parameters.items():
        likes |= {f"{name}/{slot}": parameter for slot in _MOMENTS}
    read = read_shares(path, likes)
    found: list[dict[str, Tensor]] = []
    for file in files:
        with safe_open(file, framework="pt") as opened:
            names: list[str] = opened.keys()
            small = [name for name in names if not opened.get_slice(name).get_shape()]
            found.append({name: opened.get_tensor(name) for name in small})
    weights = found[0] | {name: tensor for name, tensor in read.items() if name in own}
    moments = found[1] | {name: tensor for name, tensor in read.items() if name not in own}
    return weights, moments


def _restore(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((path / "state.json").read_text(encoding="utf-8"))
        weights, moments = _tensors(path, module)
        random = load_file(path / "random.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error}") from None
    _fill(module, weights, path)
    parameters = dict(module.named_parameters())
    optimizer.state.clear()
    for key, tensor in moments.items():
        name, _, slot = key.rpartition("/")
        parameter = parameters[name]
        # torch keeps the step counter of its fused optimizers beside the parameter
        optimizer.state[parameter][slot] = tensor.to(parameter.device)
    for group, lr in zip(optimizer.param_groups, record["optimizer"]["lr"], strict=True):
        group["lr"] = lr
    torch.set_rng_state(random["cpu"])
    if "cuda" in random and torch.cuda.is_available():
        torch.cuda.set_rng_state(random["cuda"])
    return record


def _fill(module: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Copy the weights of the checkpoint `path` into the module, tied ones once."""
    own = module_tensors(module)
    if own.keys() != weights.keys() or any(own[k].shape != weights[k].shape for k in own):
        raise CheckpointError(
            f"checkpoint {path} holds another model than this recipe builds; resume with the "
            "recipe of its run (config.toml) or choose another output folder"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])


def _write(
    folder: Path,
    weights: dict[str, Tensor],
    moments: dict[str, Tensor],
    record: str,
    shares: dict[str, str],
) -> None:
    """The files of a checkpoint, and the folder, on the disk; with sums of `shares` there."""
    tensors = {"model": weights, "optimizer": moments, "random": _random_tensors()}
    sums: dict[str, Future[str]] = {}
    with ThreadPoolExecutor(1) as aside:
        for name, values in tensors.items():
            file = folder / f"{name}.safetensors"
            save_file(values, file)
            sums[file.name] = aside.submit(_sealed, file)
        (folder / "state.json").write_text(record, encoding="utf-8")
        sums["state.json"] = aside.submit(_sealed, folder / "state.json")
    found = shares | {name: sums[name].result() for name in sums}
    content = json.dumps(dict(sorted(found.items())), indent=1)
    (folder / "checksums.json").write_text(content, encoding="utf-8")
    _sync(folder / "checksums.json")
    _sync(folder)


def _sealed(file: Path) -> str:
    """The SHA-256 of a file, which is on the disk then."""
    digest = _sha256(file)
    _sync(file)
    return digest


def _optimizer_tensors(
    module: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = {}
    for name, parameter in module.named_parameters():
        for slot, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{name}/{slot}"] = torch.as_tensor(value).detach().contiguous()
    return tensors, {"lr": [group["lr"] for group in optimizer.param_groups]}


def _random_tensors() -> dict[str, Tensor]:
    tensors = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    return tensors


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
