"""The search for a recipe: trials on the validation data, by optuna's TPE.

    electra finetune ... --search 20
    electra finetune ... --search 20 --search-space space.toml

    [optimizer.learning_rate]           # a space: bounds, or choices
    low = 1e-5
    high = 5e-4
    log = true
    [training.global_batch_size]
    choices = [16, 32]

Trial k is a pure function of the seed, k and the trials before it (Bergstra et al. 2011,
"Algorithms for hyper-parameter optimization", the tree-structured Parzen estimator). So nothing of
the search is kept but the trials' own folders: an interrupted search asks again, is told the same,
and goes on in the middle of a trial.
"""

from __future__ import annotations

import json
import math
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from electra.artifacts.report import page, table
from electra.config import FinetuneConfig
from electra.errors import ConfigError, DivergedError, did_you_mean
from electra.finetuning.one_run import MAY_CHANGE, RunInputs, RunResult, train_once
from electra.finetuning.several_seeds import copy_model
from electra.recipe import resolve, to_tables, to_toml
from electra.training.run_folder import RunFolder, open_run, write_text
from electra.training.run_identity import check_same_run, describe_run

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

RESULTS = "search.json"
RECIPE = "best.toml"
Space = dict[str, dict[str, Any]]
"""`section.field` -> `low`, `high` and perhaps `log`, or `choices`."""

DEFAULT_SPACE: Space = {
    "optimizer.learning_rate": {"low": 1e-5, "high": 5e-4, "log": True},
    "optimizer.layerwise_lr_decay": {"choices": [0.8, 0.9, 1.0]},
    "training.global_batch_size": {"choices": [16, 32]},
}
"""What decides most in fine-tuning; about the grids of the paper's appendix B."""
_KEYS = {"low", "high", "log", "choices"}


def read_space(file: Path | None, config: FinetuneConfig) -> Space:
    """The space of a TOML file, or the default one.

    Args:
        file: a table for each field, `[section.field]`.
        config: the recipe that is varied; every bound and choice is tried on it.

    Raises:
        ConfigError: no such file, field or form, or a value that its field does not take.
    """
    if file is None:
        for name, given in DEFAULT_SPACE.items():
            _check("the default space", name, given, config)
        return DEFAULT_SPACE
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--search-space {file} cannot be read: {error}") from None
    space: Space = {}
    for section, fields in tables.items():
        if not isinstance(fields, dict):
            raise ConfigError(f"--search-space {file}: [{section}.FIELD] tables are wanted")
        for name, given in fields.items():
            space[f"{section}.{name.replace('-', '_')}"] = given
    if not space:
        raise ConfigError(f"--search-space {file} names no field to search over")
    for name, given in space.items():
        _check(f"--search-space {file}", name, given, config)
    return space


def _check(origin: str, name: str, given: Any, config: FinetuneConfig) -> None:
    where = f"{origin}: [{name}]"
    if name.startswith("data.") or name in ("model.head", "training.class_weights"):
        raise ConfigError(
            f"{where} is decided when the data are read, before the search; give it as a flag"
        )
    if not isinstance(given, Mapping) or not given.keys() & _KEYS:
        raise ConfigError(f"{where} wants low and high (and log), or choices")
    if unknown := sorted(given.keys() - _KEYS):
        raise ConfigError(f"{where} has {unknown[0]}; {did_you_mean(unknown[0], _KEYS)}")
    if "choices" in given:
        values = given["choices"]
        if not isinstance(values, list) or not values or len(given) > 1:
            raise ConfigError(f"{where} wants choices alone, a list of one value or more")
    elif not all(_is_number(given.get(end)) for end in ("low", "high")):
        raise ConfigError(f"{where} wants two numbers, low and high")
    elif not isinstance(given.get("log", False), bool):
        raise ConfigError(f"{where} has log = {given['log']}; allowed: true, false")
    elif given["low"] < given["high"]:
        values = [given["low"], given["high"]]
        if given.get("log") and given["low"] <= 0:
            raise ConfigError(f"{where} has low = {given['low']}; with log it is above 0")
    else:
        raise ConfigError(f"{where} wants low and high, low the smaller one")
    for value in values:
        with_values(config, {name: value}, origin=origin)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def with_values(
    config: FinetuneConfig, values: Mapping[str, Any], *, origin: str = "search"
) -> FinetuneConfig:
    """The recipe with `section.field` values of its own.

    Raises:
        ConfigError: no such field, or a value that it does not take.
    """
    tables: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        section, _, field = name.partition(".")
        tables.setdefault(section, {})[field] = value
    return resolve(FinetuneConfig, [("recipe", to_tables(config)), (origin, tables)])


def search(
    run: RunFolder, config: FinetuneConfig, inputs: RunInputs, *, trials: int, space: Space
) -> tuple[RunResult, list[RunResult]]:
    """Trials in `trial-000/` and so on; the best model copied up, its recipe in `best.toml`.

    A trial that fails by what it was told (a gradient that is not finite, values that do not go
    together) counts as the worst. The first ten are drawn without looking at one another.
    """
    inputs.say(*run.notes)
    optuna = import_optuna()
    if run.status != "fresh":
        check_same_run(run.path, config, inputs.facts, may_change=MAY_CHANGE)
    if inputs.world.is_main:
        describe_run(run.path, config, inputs.facts)
    metric = inputs.data.metric
    done: list[FrozenTrial] = []
    rows: list[dict[str, Any]] = []
    results: list[RunResult] = []
    for number in range(trials):
        sampler = optuna.samplers.TPESampler(seed=config.training.seed + number)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials(done)
        values = study.ask({n: _distribution(optuna, n, s) for n, s in space.items()}).params
        folder = open_run(run.path / f"trial-{number:03d}", resume="auto", world=inputs.world)
        told = ", ".join(f"{name} {_short(value)}" for name, value in values.items())
        inputs.say(f"trial {number + 1} of {trials}: {told}")
        row: dict[str, Any] = {"trial": number, "values": values}
        try:
            try:
                tried = with_values(config, values)
            except ConfigError as error:  # each by itself is allowed, but not together
                raise DivergedError(str(error)) from None
            result = train_once(folder, tried, inputs)
        except DivergedError as error:
            inputs.say(f"trial {number + 1} failed: {error}")
            row |= {"score": None, "failed": str(error)}
            done.append(_finished(optuna, space, values, None))
        else:
            results.append(result)
            row |= {"score": result.metrics[metric], "best_step": result.best_step}
            done.append(_finished(optuna, space, values, result.metrics[metric]))
        rows.append(row)
        if inputs.world.is_main:
            _write_results(run.path, metric, rows)
    if not results:
        raise DivergedError(
            f"none of the {trials} trials came to an end; see {run.path / RESULTS} and try lower "
            "learning rates"
        )
    best = max(results, key=lambda r: r.metrics[metric])
    if inputs.world.is_main:
        copy_model(best.folder, run.path)
        found = next(row for row in rows if run.path / f"trial-{row['trial']:03d}" == best.folder)
        recipe = to_toml(with_values(config, found["values"]))
        write_text(run.path / RECIPE, recipe)
        run.finish(RunFolder(best.folder, "finished").report() | {"trials": trials})
        inputs.say(
            f"the best of {trials} trials, {metric} {best.metrics[metric]:.4f}, is in {run.path}; "
            f"its recipe is {run.path / RECIPE}: measure it anew with --recipe, since the best of "
            "many is lucky, too"
        )
    inputs.world.wait()
    return best, results


def import_optuna() -> Any:
    """The library, quiet.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise ConfigError('--search needs optuna: pip install "electra[search]"') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _distribution(optuna: Any, name: str, given: Mapping[str, Any]) -> BaseDistribution:
    kinds = optuna.distributions
    if "choices" in given:
        return kinds.CategoricalDistribution(given["choices"])  # type: ignore[no-any-return]
    ends, log = (given["low"], given["high"]), bool(given.get("log", False))
    if _is_whole(name):
        return kinds.IntDistribution(*map(int, ends), log=log)  # type: ignore[no-any-return]
    return kinds.FloatDistribution(*map(float, ends), log=log)  # type: ignore[no-any-return]


def _is_whole(name: str) -> bool:
    """Whether a field takes whole numbers alone."""
    section, _, field = name.partition(".")
    kind = typing.get_type_hints(typing.get_type_hints(FinetuneConfig)[section])[field]
    kinds = (kind, *typing.get_args(kind))
    return int in kinds and float not in kinds


def _finished(
    optuna: Any, space: Space, values: Mapping[str, Any], score: float | None
) -> FrozenTrial:
    """A trial as the sampler remembers it."""
    state = optuna.trial.TrialState
    return optuna.trial.create_trial(  # type: ignore[no-any-return]
        params=dict(values),
        distributions={n: _distribution(optuna, n, given) for n, given in space.items()},
        value=score,
        # the sampler passes over failed trials, and ranks pruned ones last
        state=state.PRUNED if score is None else state.COMPLETE,
    )


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _write_results(folder: Path, metric: str, rows: list[dict[str, Any]]) -> None:
    found = {"metric": metric, "trials": rows}
    write_text(folder / RESULTS, json.dumps(found, indent=1) + "\n")
    names = list(rows[0]["values"])
    ranked = sorted(rows, key=lambda row: math.inf if row["score"] is None else -row["score"])
    cells = [
        [row["trial"], *(_short(row["values"][n]) for n in names), row.get("failed", row["score"])]
        for row in ranked
    ]
    shown = table(("trial", *names, metric), cells)
    text = page(f"Search: {len(rows)} trials", [("Trials, the best first", shown)])
    (folder / "search.html").write_text(text, encoding="utf-8")
