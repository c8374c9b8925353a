"""A corpus folder to an encoder.

    electra pretrain --data corpus --output runs/first --recipe small

Builds the networks and the objective, hands them to the one loop, and writes every part as a
folder that the Auto classes of transformers open.
"""

from __future__ import annotations

import dataclasses
import shlex
import shutil
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from tokenizers import Tokenizer

from electra.artifacts.model_card import write_pretraining_card
from electra.artifacts.runs_page import write_run_page
from electra.artifacts.samples import SamplesFile
from electra.config import BUDGETS, PretrainConfig
from electra.corpus.batches import CorpusSource
from electra.corpus.examples import Examples
from electra.corpus.folder import Corpus
from electra.corpus.streams import examples_of, token_counts, validation_batches
from electra.corpus.tokenizer import SpecialIds, num_ids, save_tokenizer
from electra.errors import ConfigError, Interrupted, writing_to
from electra.evaluation.probes import probe
from electra.model.document_attention import kernel_for
from electra.model.dropout import use_bit_dropout
from electra.model.flops import computed_flops
from electra.model.pretrained_parts import RECORD, open_inputs
from electra.model.pretraining_model import PretrainingModel
from electra.objectives.objective import PretrainingObjective, RunFacts, build_objective
from electra.recipe import to_tables
from electra.training.averaging import TailAverage
from electra.training.checkpoint import CheckpointStore
from electra.training.compiled import compile_passes, compiling
from electra.training.device import (
    keep_memory,
    machine,
    peak_flops,
    pick_device,
    pick_dtype,
    seed_everything,
    training_attention,
)
from electra.training.distributed import World, join_world, leave_world
from electra.training.health import Watch
from electra.training.loggers import MetricsFile, RunLogger, read_metrics
from electra.training.loop import bit_environment, fit, rows_at_once
from electra.training.memory import within_memory
from electra.training.optimizer import build_optimizer
from electra.training.parallel import divide, gather
from electra.training.run_folder import RunFolder, began_here, open_run, write_text
from electra.training.run_identity import Identity, check_same_run, describe_run, other_bits
from electra.training.schedule import Budget, TrainState
from electra.training.trackers import Trackers, check_trackers

_MAY_CHANGE = {
    "training": {
        *BUDGETS,
        *("eval_steps", "save_steps", "save_total_limit", "final_weights", "max_skipped_steps"),
        *("device", "sharding"),
        "compile",
    },
    "logging": {"trackers"},
    "objective": {"generator_folder", "replacements"},  # by their content, as data is
}
"""Fields that a resumed run may have otherwise than it began."""


def pretrain(
    *,
    data: Path,
    output: Path,
    config: PretrainConfig,
    resume: str = "never",
    overwrite: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Train; write `encoder/` and the other parts of the objective; return the report.

    Args:
        data: a corpus folder from `electra prepare`.
        output: the run folder.
        config: the resolved recipe.
        resume: `never`, `auto`, or the run folder itself.
        overwrite: move an old run aside.
        console: where progress goes; none: nowhere.

    Raises:
        UserError: what the user can mend.
        Interrupted: after Ctrl-C or SIGTERM; a checkpoint is on disk.
    """
    console = console or Console(quiet=True)
    world = join_world()
    try:
        check_trackers(config.logging.trackers)
        corpus = Corpus(data)
        device = pick_device(config.training.device, world)
        _check_world(config, world)
        if overwrite and not began_here(output):  # or a run is moved for a mistake in what is read
            open_inputs(corpus, config)
        run = open_run(output, resume=resume, overwrite=overwrite, world=world)
        if world.is_main:
            for note in run.notes:
                console.print(note, highlight=False, markup=False)
        if run.status == "finished":
            return run.report()
        with writing_to(output):
            return _train(corpus, run, config, device, world, console)
    except Interrupted as stop:
        raise Interrupted(
            stop.exit_code - 128,
            f"{stop}; continue with: electra pretrain --data {shlex.quote(str(data))} "
            f"--recipe {shlex.quote(str(output / 'config.toml'))} "
            f"--output {shlex.quote(str(output))} --resume auto",
        ) from None
    finally:
        leave_world(world)


def _train(
    corpus: Corpus,
    run: RunFolder,
    config: PretrainConfig,
    device: torch.device,
    world: World,
    console: Console,
) -> dict[str, Any]:
    begun = run.path if run.status == "continued" else None
    tokenizer, parts, config = open_inputs(corpus, config, begun=begun)
    special = SpecialIds.of(tokenizer)
    seed_everything(config.training.seed)
    keep_memory()
    rows = num_ids(tokenizer) if parts is None else parts.discriminator.config.vocab_size
    counts = token_counts(corpus, rows, config)
    objective = build_objective(config, rows, special, token_counts=counts, parts=parts).to(device)
    use_bit_dropout(objective)
    dropout = config.model.attention_probs_dropout_prob
    kernel = training_attention(device, config.data.max_length, dropout=dropout)
    if config.data.document_attention:
        kernel = kernel_for(device, kernel, dropout=dropout)
    objective.model.use_attention(kernel)
    divided = config.training.sharding == "full" and world.size > 1
    if divided:
        divide(objective, world, device)
    optimizer = build_optimizer(objective, config.optimizer, apart=_apart(objective, config))
    average = None
    if config.training.average_last:
        average = TailAverage(objective, config.training.average_last)
        objective.tail_average = average  # so that it is in the checkpoint
    examples = examples_of(corpus, "train", config, special)

    def stream(of: Examples) -> CorpusSource:
        return CorpusSource(
            of, seed=config.training.seed, weights=corpus.weights, with_ids=objective.wants_ids
        )

    source = stream(examples)
    shorter = {
        length: stream(examples_of(corpus, "train", config, special, length))
        for _, length in config.schedule.length_ramp
        if length != config.data.max_length
    }
    if examples.unused_share > 0.1 and world.is_main:
        console.print(
            f"{examples.unused_share:.0%} of the tokens are left out: two_segments drops what a "
            "line holds beyond the room of its segment (least with a sentence a line)",
            highlight=False,
        )
    validation = validation_batches(corpus, config, special, with_ids=objective.wants_ids)
    dtype = pick_dtype(config.training.dtype, device)
    store = CheckpointStore(run.checkpoints, keep=config.training.save_total_limit, world=world)
    state = TrainState()
    fingerprint = str(corpus.manifest["fingerprint"])

    def tell(line: str) -> None:
        if world.is_main:
            console.print(line, highlight=False, markup=False)

    inputs: dict[str, Identity | str | bool] = {
        "data": {"name": str(corpus.folder), "sha256": fingerprint}
    }
    inputs |= objective.inputs
    may_change: dict[str, set[str]] = dict(_MAY_CHANGE)
    if parts is not None:  # by their content, as data is
        inputs |= parts.identities()
        may_change["model"] = {part.role for part in parts.parts}
    if run.status != "continued":
        for note in [*(parts.notes if parts else []), *_size_warning(objective)]:
            tell(note)
    if run.status == "continued":
        check_same_run(run.path, config, inputs, may_change=may_change)
    objective.begin_run(RunFacts(config, tokenizer, fingerprint, tell, len(examples), world.size))
    before = None
    if run.status == "continued":
        loaded = store.load_latest(module=objective, optimizer=optimizer)
        assert loaded is not None, "open_run saw a whole checkpoint"
        state, before = loaded.state, loaded.environment
    training = within_memory(
        config.training, objective, source, device=device, dtype=dtype, world=world, before=before
    )
    if training.micro_batch_size != config.training.micro_batch_size:
        tell(f"{training.micro_batch_size} sequences a forward pass fit into the memory")
    training = dataclasses.replace(training, compile=not divided and compiling(training, device))
    if training.compile:
        one = world.size == 1 and rows_at_once(training, world) == training.global_batch_size
        compile_passes(objective, device, tell=tell, cuda_graphs=one and device.type == "cuda")
    if before is not None:
        warning = other_bits(before, bit_environment(training, dtype, world))
        if warning and world.is_main:
            console.print(warning, highlight=False)
    if world.is_main:
        describe_run(run.path, config, inputs)
        if parts is not None:
            write_text(run.path / RECORD, parts.record())
    cut = state.step if run.status == "continued" else -1
    metrics = MetricsFile(run.path / "metrics.jsonl", cut_after_step=cut) if world.is_main else None
    trackers = Trackers(
        config.logging.trackers if world.is_main else (),
        run.path,
        config=to_tables(config),
        step=state.step,
        continued=run.status == "continued",
        say=tell,
    )
    watch = Watch(read_metrics(run.path / "metrics.jsonl") if world.is_main else ())
    logger = RunLogger(
        metrics,
        console,
        title="pretraining",
        quiet=not world.is_main,
        trackers=trackers,
        watch=watch.see,
    )
    peak = peak_flops(device, dtype) * world.size

    def utilisation(progress: float, tokens_per_second: float) -> float:
        idle = objective.idle_slots or device.type != "cpu"
        return tokens_per_second / peak * computed_flops(config, num_ids(tokenizer), progress, idle)

    samples = SamplesFile(run.path, tokenizer, state) if world.is_main else None
    show = None if samples is None else samples.write
    try:
        last = fit(
            objective,
            optimizer=optimizer,
            source=source,
            state=state,
            budget=Budget.of(config.training, config.schedule.replay),
            config=training,
            optimizer_config=config.optimizer,
            schedule=config.schedule,
            logging=config.logging,
            device=device,
            dtype=dtype,
            logger=logger,
            evaluate=lambda: probe(objective, validation, device, show=show),
            checkpoints=store,
            world=world,
            shorter=shorter,
            average=average,
            check=examples.check_unchanged,
            utilisation=utilisation,
        )
    finally:
        logger.close()
    weights_step = state.step
    if average is not None:
        average.apply_to_weights()
        tell(f"the weights saved are the average of those after the last {average.count:,} steps")
    elif config.training.final_weights == "best" and state.best_step is not None:
        if state.best_step != state.step:
            store.load_weights(state.best_step, objective)
            weights_step, last = state.best_step, {}
    objective.eval()
    objective.begin_step(1.0)
    last = last or probe(objective, validation, device, show=show)
    report = _report(config, corpus, objective.model, state, last)
    report["weights_step"] = weights_step
    gather(objective)
    if world.is_main:
        _save(run, objective, tokenizer, config, corpus, report)
        console.print(
            f"{report['tokens']:,} tokens in {report['minutes']:.1f} minutes; encoder: "
            f"{run.path / 'encoder'}, report: {run.path / 'report.html'}",
            highlight=False,
        )
    world.wait()
    return report


def _apart(objective: PretrainingObjective, config: PretrainConfig) -> dict[str, float]:
    """Share of the learning rate by name, for what a decoupled generator has to itself."""
    rate = config.optimizer.generator_learning_rate
    if rate is None:
        return {}
    share = rate / config.optimizer.learning_rate
    return {f"model.{name}": share for name in objective.model.generator_names()}


def _size_warning(objective: PretrainingObjective) -> list[str]:
    """A line where the generator is as large as the discriminator, and need not be."""
    model, generator = objective.model, objective.generator_config
    if generator is None:
        return []
    encoder = model.encoder.config
    width, layers = encoder.hidden_size, encoder.num_hidden_layers
    if generator.hidden_size < width or generator.num_hidden_layers < layers:
        return []
    why = "as --model.weight-sharing all makes them one network, " if model.sharing == "all" else ""
    return [
        f"{why}the generator is as large as the discriminator ({layers} layers of {width}), which "
        "is known to collapse: the discriminator learns nothing when the generator is too good; "
        "published sizes are 1/4 to 1/2"
    ]


def _check_world(config: PretrainConfig, world: World) -> None:
    for size in config.batch_sizes:
        if size % world.size:
            ramp = " after --schedule.batch-ramp" if config.schedule.batch_ramp else ""
            raise ConfigError(
                f"--training.global-batch-size {size}{ramp} cannot be shared by {world.size} "
                f"processes; allowed: multiples of {world.size}"
            )


def _report(
    config: PretrainConfig,
    corpus: Corpus,
    model: PretrainingModel,
    state: TrainState,
    metrics: dict[str, float],
) -> dict[str, Any]:
    return {
        "electra": machine()["electra"],
        "objective": config.objective.name,
        "family": config.model.family,
        "steps": state.step,
        "tokens": state.tokens_seen,
        "minutes": state.seconds / 60,
        "tokens_per_second": state.tokens_seen / max(state.seconds, 1e-9),
        "epochs": state.tokens_seen / corpus.manifest["splits"]["train"]["tokens"],
        "parameters": model.num_parameters(),
        "metrics": metrics,
        "corpus": {
            split: {name: counts[name] for name in ("documents", "tokens")}
            for split, counts in corpus.manifest["splits"].items()
        },
        "corpus_fingerprint": corpus.manifest["fingerprint"],
    }


def _save(
    run: RunFolder,
    objective: PretrainingObjective,
    tokenizer: Tokenizer,
    config: PretrainConfig,
    corpus: Corpus,
    report: dict[str, Any],
) -> None:
    """Write all parts aside and move each into place; the report last."""
    partial = run.path / ".partial-parts"
    shutil.rmtree(partial, ignore_errors=True)
    model = objective.model
    parts = model.save_parts(
        partial,
        with_masked_lm=objective.keeps_masked_lm,
        discriminator_fields=objective.discriminator_fields,
    )
    for part, folder in parts.items():
        save_tokenizer(
            tokenizer,
            folder,
            max_length=config.model.max_position_embeddings,
            token_types=model.family.uses_token_types,
        )
        write_pretraining_card(
            folder, part, family=config.model.family, report=report, manifest=corpus.manifest
        )
        shutil.rmtree(run.path / part, ignore_errors=True)
        folder.rename(run.path / part)
    extra = partial / "extra"
    extra.mkdir()
    objective.save_extra(extra)
    shutil.rmtree(run.path / "extra", ignore_errors=True)
    if any(extra.iterdir()):
        extra.rename(run.path / "extra")
    shutil.rmtree(partial)
    write_run_page(run.path, report)
    run.finish(report)
