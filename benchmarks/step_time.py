"""The processor time of a pretraining step, of a few steps at a time anywhere in the schedule."""

from __future__ import annotations

import time
from typing import Any

import torch

from electra.config import PretrainConfig
from electra.corpus.batches import CorpusSource
from electra.corpus.folder import Corpus
from electra.corpus.streams import examples_of
from electra.corpus.tokenizer import SpecialIds, load_tokenizer
from electra.plan import objective_and_source
from electra.training.device import pick_dtype
from electra.training.loop import fit
from electra.training.optimizer import build_optimizer
from electra.training.schedule import Budget, TrainState

CPU = torch.device("cpu")
PLANNED = 10_000
"""Steps of the runs that are timed."""


class Contestant:
    """A recipe in training, ready to be timed."""

    def __init__(self, config: PretrainConfig, corpus: Corpus, steps: int = 10) -> None:
        """`config` has a budget of `PLANNED` steps, of which `steps` are taken at a time."""
        self.config = config
        self.objective, self.source = objective_and_source(config, corpus, CPU)
        special = SpecialIds.of(load_tokenizer(corpus.folder))
        self.shorter = {
            length: CorpusSource(
                examples_of(corpus, "train", config, special, length),
                seed=config.training.seed,
                with_ids=self.objective.wants_ids,
            )
            for _, length in config.schedule.length_ramp
            if length != config.data.max_length
        }
        self.optimizer = build_optimizer(self.objective, self.config.optimizer)
        self.state, self.steps = TrainState(), steps

    def time_steps(self) -> tuple[float, float]:
        """Seconds a step, of the processor and of the clock."""
        started, clock = time.process_time(), time.monotonic()
        goal = self.state.step + self.steps

        class Some(Budget):
            """Ends after a few of the planned steps."""

            def progress(self, state: TrainState) -> float:
                return 1.0 if state.step >= goal else super().progress(state)

        fit(
            self.objective,
            optimizer=self.optimizer,
            source=self.source,
            state=self.state,
            budget=Some(max_steps=PLANNED),
            config=self.config.training,
            optimizer_config=self.config.optimizer,
            schedule=self.config.schedule,
            logging=self.config.logging,
            device=CPU,
            dtype=pick_dtype("auto", CPU),
            logger=_Silent(),
            shorter=self.shorter,
        )
        spent = time.process_time() - started, time.monotonic() - clock
        return spent[0] / self.steps, spent[1] / self.steps


class _Silent:
    """A logger that says nothing."""

    def log(self, row: dict[str, Any]) -> None:
        """Nothing."""

    def show(self, progress: float, text: str) -> None:
        """Nothing."""
