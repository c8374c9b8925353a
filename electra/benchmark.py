"""An encoder to a table: every set of a suite fine-tuned with several seeds and scored on its test.

    electra benchmark glue-small --model runs/mine --data FOLDER --output runs/glue-mine

The model of a run is chosen on validation data, the test data is read once with what was chosen.
Each (set, seed) has a folder of its own; what is finished there is not done again. A set that
fails does not keep the others from running.
"""

from __future__ import annotations

import dataclasses
import json as json_format
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from electra.config import BUDGETS, FinetuneConfig
from electra.errors import (
    ConfigError,
    DataError,
    DivergedError,
    Interrupted,
    UserError,
    did_you_mean,
)
from electra.evaluate import evaluate
from electra.evaluation.suite_files import Files, MissingDataError, contents, is_hub, set_files
from electra.evaluation.suite_results import (
    keep_earlier,
    print_results,
    recipe_of,
    summary,
    write_results,
)
from electra.evaluation.suites import BenchmarkSet, Suite, read_suite, suite_names
from electra.finetune import finetune
from electra.recipe import Values
from electra.tasks.model_folder import find_encoder
from electra.training.device import machine
from electra.training.run_folder import write_text
from electra.training.run_identity import check_same_run, identity

DATA_VARIABLE = "ELECTRA_DATA"
SEEDS = 3
QUICK_ROWS = {"max_train_rows": 256, "max_validation_rows": 64, "max_test_rows": 64}
QUICK: dict[str, dict[str, Any]] = {"training": {"epochs": 1}}
_MADE_OF = "made_of.json"
_TEST = "test.json"


def list_suites(console: Console) -> None:
    """Print the suites that come with the package, and their sets."""
    for name in suite_names():
        suite = read_suite(name)
        title = f"[bold]{name}[/bold]: {escape(suite.description)}"
        console.print(title, highlight=False, soft_wrap=True)
        names = ", ".join(s.name for s in suite.sets)
        console.print(f"  {names}", highlight=False, markup=False, soft_wrap=True)
    console.print("electra benchmark NAME --model ENCODER --data FOLDER runs one of them")


def benchmark(
    name: str,
    *,
    model: str,
    data: Path | None = None,
    seeds: int | None = None,
    output: Path | None = None,
    only: str | None = None,
    quick: bool = False,
    json: bool = False,
    overrides: Values | None = None,
    console: Console | None = None,
    progress: Console | None = None,
) -> dict[str, Any]:
    """Run a suite on an encoder.

    Args:
        name: a suite that comes with the package, or a .toml file (`electra.evaluation.suites`).
        model: an encoder: a folder, a run folder with `encoder/`, or a Hub id.
        data: the folder of the data sets; none: the environment's `ELECTRA_DATA`.
        seeds: runs of each set, with seeds 0, 1, ...; none: 3, quick 1.
        output: the folder to write to; none: `runs/benchmarks/NAME`, quick `NAME-quick`.
        only: names of sets, parted by commas; none: all. What `results.json` has of the others is
            kept where encoder, recipe, rows and number of seeds are the same.
        quick: a few hundred rows and one epoch of each set, to see that everything works.
        json: print the result as one line of JSON instead of a table.
        overrides: sections of the recipe, for all sets.
        console: where the result is printed; none: nowhere.
        progress: where progress goes; none: nowhere.

    Returns:
        what `results.json` in the output folder holds: `sets` with `median`, `mean`, `std` (none
        with one seed), `scores`, `n`, `minutes`, `chosen_by` and `recipe` each, `skipped` and
        `failed` with the reasons, and `mean`, the mean of the sets' medians.

    Raises:
        UserError: what the user can mend; once all else is done and shown, that sets failed.
        Interrupted: Ctrl-C or SIGTERM; the same command goes on.
    """
    progress = progress or Console(quiet=True)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("electra benchmark runs in one process: start it without torchrun")
    suite = read_suite(name)
    sets = _chosen(suite, only)
    if seeds is not None and seeds < 1:
        raise ConfigError(f"--seeds is {seeds}; allowed: 1 or more")
    count = seeds or (1 if quick else SEEDS)
    every = [_quick(s) for s in suite.sets] if quick else list(suite.sets)
    sets = [s for s in every if s.name in {chosen.name for chosen in sets}]
    folder = _data_folder(data, sets)
    encoder = find_encoder(model)
    output = output or Path("runs") / "benchmarks" / (suite.name + ("-quick" if quick else ""))
    _make(output)
    layers = _merged(QUICK, overrides or {}) if quick else dict(overrides or {})
    # mistakes in a flag, and folders of another recipe, are told before anything is trained
    recipes = {each.name: recipe_of(each, layers) for each in sets}
    for each in sets:
        _check_folder(each, folder, output / each.name, count, layers, encoder)
    result: dict[str, Any] = {
        "suite": suite.name,
        "model": identity(encoder),
        "quick": quick,
        "seeds": count,
        "machine": machine(),
        "sets": {},
        "skipped": {},
        "failed": {},
        "mean": None,
    }
    others = {s.name: recipe_of(s, layers) for s in every if s.name not in recipes}
    keep_earlier(output, result, others)
    try:
        for number, each in enumerate(sets, start=1):
            title = f"{each.name} ({number} of {len(sets)})"
            try:
                runs = _run_set(each, model, folder, output, count, layers, title, progress)
            except MissingDataError as reason:
                result["skipped"][each.name] = str(reason)
                progress.print(f"{title}: skipped, {reason}", highlight=False, markup=False)
            except (UserError, DivergedError) as reason:
                result["failed"][each.name] = str(reason)
                progress.print(f"{title}: failed, {reason}", highlight=False, markup=False)
            else:
                result["sets"][each.name] = summary(each, runs, recipes[each.name])
            write_results(output, result, [s.name for s in every])
    except (Interrupted, KeyboardInterrupt) as stop:
        code = stop.exit_code - 128 if isinstance(stop, Interrupted) else int(signal.SIGINT)
        raise Interrupted(
            code, "interrupted; the same electra benchmark command goes on from here"
        ) from None
    if console is not None:
        if json:
            line = json_format.dumps(result, ensure_ascii=False)
            console.print(Text(line), soft_wrap=True)
        else:
            print_results(result, console)
    failed = [each.name for each in sets if each.name in result["failed"]]
    if failed:
        raise UserError(
            f"{len(failed)} of {len(sets)} sets failed ({', '.join(failed)}), as said above and in "
            "results.json; the same command tries them again"
        )
    return result


def _chosen(suite: Suite, only: str | None) -> list[BenchmarkSet]:
    names = [s.name for s in suite.sets]
    if only is None:
        return list(suite.sets)
    asked = [name.strip() for name in only.split(",") if name.strip()]
    for name in asked:
        if name not in names:
            raise ConfigError(
                f'--only: suite {suite.name} has no set "{name}"; {did_you_mean(name, names)}'
            )
    if not asked:
        raise ConfigError(f"--only names no set; allowed: {', '.join(names)}")
    return [s for s in suite.sets if s.name in asked]


def _quick(each: BenchmarkSet) -> BenchmarkSet:
    limits: dict[str, Any] = {
        name: min(most, getattr(each, name) or most) for name, most in QUICK_ROWS.items()
    }
    return dataclasses.replace(each, **limits)


def _merged(first: Values, second: Values) -> dict[str, dict[str, Any]]:
    """Sections of both; of a field that both have, and of a budget, the second's."""
    merged = {name: dict(table) for name, table in first.items()}
    for name, table in second.items():
        if name == "training" and {"epochs", "max_steps", "max_tokens", "minutes"} & set(table):
            merged.get(name, {}).pop("epochs", None)
        merged.setdefault(name, {}).update(table)
    return merged


def _data_folder(data: Path | None, sets: Sequence[BenchmarkSet]) -> Path | None:
    given = data or (Path(os.environ[DATA_VARIABLE]) if os.environ.get(DATA_VARIABLE) else None)
    if given is not None and not given.is_dir():
        name = "--data" if data is not None else DATA_VARIABLE
        raise ConfigError(f"{name} {given} is not a folder; the data sets are wanted below it")
    every = [source for s in sets for source in s.sources]
    if given is None and not all(is_hub(source) for source in every):
        raise ConfigError(
            f"no data folder: give the folder of the data sets with --data, or set {DATA_VARIABLE}"
        )
    return given


def _make(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file; a folder is wanted")
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe = output / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"--output {output} cannot be written ({error.strerror}); choose another folder"
        ) from None


def _run_set(
    each: BenchmarkSet,
    model: str,
    data: Path | None,
    output: Path,
    count: int,
    overrides: Values,
    title: str,
    progress: Console,
) -> list[dict[str, Any]]:
    """What the runs of all seeds say, those done before among them."""
    folder = output / each.name
    files: Files | None = None
    runs = []
    for seed in range(count):
        run, config = folder / f"seed-{seed}", each.config(overrides, seed)
        if (run / _TEST).is_file():
            progress.print(f"{title}, seed {seed}: done before", highlight=False, markup=False)
        else:
            if files is None:
                files = set_files(each, data, folder / "data", config.data)
                folder.mkdir(parents=True, exist_ok=True)
                made_of = {**each.rows_wanted(), "sources": contents(each, data)}
                write_text(folder / _MADE_OF, json_format.dumps(made_of, indent=1) + "\n")
            progress.print(f"{title}, seed {seed}", highlight=False, markup=False)
            finetune(
                model=model,
                train=files.train,
                validation=files.validation,
                output=run,
                task=each.task,
                config=config,
                resume="auto",
                console=progress,
            )
            tested = evaluate(model=run, data=files.test, device=config.training.device)
            for metric in each.metric:
                if metric not in tested["metrics"]:
                    raise ConfigError(
                        f"set {each.name} has no metric {metric} on its data; "
                        f"there are: {', '.join(tested['metrics'])}"
                    )
            write_text(run / _TEST, json_format.dumps(tested, ensure_ascii=False) + "\n")
            shutil.rmtree(run / "checkpoints", ignore_errors=True)  # thrice the model's size
        runs.append({"seed": seed} | _read(run / _TEST) | {"report": _read(run / "report.json")})
    chosen_by = runs[0]["report"].get("metric")
    if chosen_by != each.metric[0]:
        said = f"{title}: models were chosen by {chosen_by}, the set's metric is {each.metric[0]}"
        progress.print(said, highlight=False, markup=False)
    return runs


def _check_folder(
    each: BenchmarkSet,
    data: Path | None,
    folder: Path,
    count: int,
    overrides: Values,
    encoder: str,
) -> None:
    """Refuse to go on in a folder where the set was of other rows, data, encoder or recipe."""
    file, wanted = folder / _MADE_OF, each.rows_wanted()
    before = _read(file) if file.is_file() else wanted
    parts = [f"{k} {before.get(k)} -> {wanted[k]}" for k in wanted if before.get(k) != wanted[k]]
    if parts:
        raise ConfigError(
            f"{folder} was begun with other rows ({'; '.join(parts)}): choose another --output"
        )
    known = before.get("sources", {})
    now = contents(each, data) if known else {}
    changed = [name for name in now if name in known and known[name] != now[name]]
    if changed:
        raise ConfigError(
            f"{folder} was begun with other data ({', '.join(changed)} changed since): choose "
            "another --output"
        )
    inputs = {"model": identity(encoder)}
    for seed in range(count):
        config, run = each.config(overrides, seed), folder / f"seed-{seed}"
        check_same_run(run, config, inputs, may_change=_may_change(config))


def _may_change(config: FinetuneConfig) -> dict[str, set[str]]:
    """Where no budget is given, fine-tuning chooses the epochs."""
    given = any(getattr(config.training, name) is not None for name in (*BUDGETS, "epochs"))
    return {"training": {"device"} if given else {"device", "epochs"}}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json_format.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; delete its folder") from None
    if not isinstance(found, dict):
        raise DataError(f"{path} is no JSON object; delete its folder")
    return found
