"""The track: other rows for choosing than for the last table, and recipes that load."""

import tomllib
from pathlib import Path

import pytest

from benchmarks import protocol
from benchmarks import quality_per_minute as track
from benchmarks.step_time import PLANNED, Contestant
from electra.corpus.folder import Corpus
from electra.errors import ConfigError

BENCHMARKS = Path(track.__file__).parent


def test_both_suites_differ_in_the_rows_to_score_on_alone() -> None:
    selection, official = (
        tomllib.loads((BENCHMARKS / f"quality_{kind}.toml").read_text(encoding="utf-8"))["sets"]
        for kind in ("selection", "official")
    )
    assert list(selection) == list(official) == [name for name in track.SIX if name != "blimp"]
    for name, given in selection.items():
        theirs = official[name]
        assert {k: v for k, v in given.items() if k != "test"} == {
            k: v for k, v in theirs.items() if k != "test"
        }
        # held back of training, or a development set; never the official rows
        assert given["test"] != theirs["test"]


@pytest.mark.skipif(not (protocol.DATA / "blimp").is_dir(), reason="no BLiMP: set ELECTRA_DATA")
def test_a_paradigm_is_for_choosing_or_for_the_last_table() -> None:
    chosen_by, last = track.paradigms(official=False), track.paradigms(official=True)
    assert len(chosen_by) == len(last) == 17
    assert not set(chosen_by) & set(last)


@pytest.mark.parametrize("row", track.ROWS)
def test_every_row_is_a_recipe_with_the_tracks_budget_alone(row: str) -> None:
    config = track.config_of(row, [], seed=3, budget={"max_steps": 7})
    assert config.training.max_steps == 7
    assert config.training.minutes is None
    assert config.training.max_tokens is None
    assert config.training.seed == 3


def test_a_row_can_be_changed() -> None:
    changed = track.config_of(
        "rtd", ["optimizer.learning_rate=4e-3"], seed=0, budget={"max_steps": 7}
    )
    assert changed.optimizer.learning_rate == 4e-3
    with pytest.raises(ConfigError, match="--set"):
        track.config_of("rtd", ["optimizer.speed=1"], seed=0, budget={"max_steps": 7})


def test_steps_are_timed_at_the_length_that_the_ramp_gives_them(corpus: Path) -> None:
    changes = ["schedule.length_ramp=[[0, 16], [0.5, 64]]", "training.global_batch_size=4"]
    budget = {"max_steps": PLANNED, "device": "cpu"}
    config = track.config_of("masked_lm", changes, seed=0, budget=budget)
    contestant = Contestant(config, Corpus(corpus), steps=2)
    contestant.time_steps()
    assert contestant.state.tokens_seen <= 2 * 4 * 16
    contestant.state.step, before = PLANNED // 2, contestant.state.tokens_seen
    contestant.time_steps()
    assert contestant.state.tokens_seen - before > 2 * 4 * 16
