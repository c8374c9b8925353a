"""What a short contrastive phase after pretraining does to an encoder's sentence vectors.

    python -m benchmarks.polish --run RUN --data CORPUS --minutes 2 --json FILE
    python -m benchmarks.polish --run RUN --data CORPUS --official --rows deletion
    python -m benchmarks.polish --run RUN --data CORPUS --quick

Unsupervised STS-B (Spearman of cosines of mean states; Cer et al. 2017) of a run's encoder as it
is, after as many minutes of each way to polish it (`--objective.name sentence_contrast`), and, as
controls, after as many minutes more of masked LM and of the run's own objective. All begin with the
run's weights and have the run's recipe but for budget and learning rate (`--learning-rate`, the
same for all); the contrastive rows read texts of `--max-length` in batches of `--batch-size`, and
their views lack `--view-share` of the tokens. A head that the run did not save begins fresh. Ways
are chosen on dev; `--official` reads test.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.feature_rank import effective_rank, mean_cosine, token_states
from benchmarks.protocol import DATA
from benchmarks.record import finish
from electra.config import LabelledDataConfig, PretrainConfig
from electra.corpus.folder import Corpus
from electra.errors import ElectraError
from electra.evaluate import evaluate
from electra.pretrain import pretrain
from electra.recipe import read_recipe, resolve

COLUMNS = LabelledDataConfig(text_column="0", text_pair_column="1", label_column="2")
QUICK_MINUTES = 0.05
DROPOUT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
WAYS: dict[str, dict[str, dict[str, Any]]] = {
    "deletion": {"objective": {"views": "deletion"}},
    "masking": {"objective": {"views": "masking"}},
    "crop": {"objective": {"views": "crop"}},
    "dropout": {"objective": {"views": "dropout"}, "model": DROPOUT},
    "deletion_and_mlm": {"objective": {"views": "deletion", "encoder_mlm_weight": 1.0}},
    "crop_and_mlm": {"objective": {"views": "crop", "encoder_mlm_weight": 1.0}},
}
"""Rows that are polished: what each changes."""
CONTROLS = ("masked_lm", "own_objective")
ROWS = ("before", *CONTROLS, *WAYS)
STARTS = ("warm_start", "causal_start")
"""Stages of a run's own objective that are behind it."""
FRESH: dict[str, dict[str, Any]] = {
    "model": {"weight_sharing": "embeddings"},
    "optimizer": {"generator_learning_rate": None},
    "schedule": {
        "warmup_steps": None,
        "warmup_ratio": 0.1,
        "replay": None,
        "batch_ramp": [],
        "length_ramp": [],
    },
    "training": {"average_last": 0.0, "save_total_limit": 1},
    "data": {"document_attention": False},
}
"""What a short phase has otherwise than the run, whatever its recipe says."""


def parser() -> argparse.ArgumentParser:
    """What can be asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--run", type=Path, required=True, help="a folder of electra pretrain")
    parser.add_argument("--data", type=Path, required=True, help="the corpus folder")
    parser.add_argument("--minutes", type=float, default=2.0, help="of each phase")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--view-share", type=float, default=0.7)
    parser.add_argument("--examples", choices=("packed", "documents"), default="documents")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--official", action="store_true", help="score on test instead of dev")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_MINUTES} minutes each")
    parser.add_argument("--work", type=Path, default=Path("runs/polish"))
    parser.add_argument("--json", type=Path)
    return parser


def main() -> None:
    """Polish, go on, compare."""
    given = parser().parse_args()
    file = DATA / "stsb" / f"stsb-en-{'test' if given.official else 'dev'}.csv"
    if not file.is_file():
        sys.exit(f"skipped: {file} is missing; set ELECTRA_DATA")
    given.minutes = QUICK_MINUTES if given.quick else given.minutes
    console, corpus = Console(stderr=True), Corpus(given.data)
    rows = []
    try:
        for row in rows_of(given):
            folder, report = given.run, {}
            if row != "before":
                folder = given.work / f"{row}-seed{given.seed}"
                report = pretrain(
                    data=given.data,
                    output=folder,
                    config=config_of(row, given),
                    overwrite=True,
                    console=console,
                )
            rows.append({"row": row, **scored(folder, file, corpus), **_spent(report)})
    except ElectraError as error:
        sys.exit(f"error: {error}")
    summary: dict[str, Any] = {"file": file.name, "minutes": given.minutes, "run": given.run.name}
    summary |= {f"spearman_{row['row']}": row["spearman"] for row in rows}
    finish(rows, summary, json_file=given.json)


def rows_of(given: argparse.Namespace) -> list[str]:
    """Those asked for, and the run as it is; masked LM once where it is the run's own objective."""
    asked = ["before", *given.rows]
    own = read_recipe(str(given.run / "config.toml"))["objective"]["name"]
    if own == "masked_lm" and "masked_lm" in asked:
        asked = [row for row in asked if row != "own_objective"]
    return [row for row in ROWS if row in asked]


def config_of(row: str, given: argparse.Namespace) -> PretrainConfig:
    """The run's recipe, begun with its weights, for one row."""
    recipe = read_recipe(str(given.run / "config.toml"))
    model = {name: recipe["model"].pop(name, None) for name in ("discriminator", "generator")}
    own = recipe["objective"]
    changes: dict[str, dict[str, Any]] = {name: dict(table) for name, table in FRESH.items()}
    changes["training"] |= {"minutes": given.minutes, "seed": given.seed}
    changes["optimizer"]["learning_rate"] = given.learning_rate
    trained_head = given.run / "masked_lm"
    model["discriminator"] = str(trained_head if trained_head.is_dir() else given.run / "encoder")
    if row in WAYS:
        more = WAYS[row]
        changes["objective"] = {
            "name": "sentence_contrast",
            "encoder_mlm_weight": 0.0,
            "view_share": given.view_share,
            **more["objective"],
        }
        changes["model"] |= more.get("model", {})
        changes["training"]["global_batch_size"] = given.batch_size
        changes["data"] |= {"max_length": given.max_length, "examples": given.examples}
    elif row == "masked_lm":
        changes["objective"] = {"name": "masked_lm"}
    else:
        changes["model"]["weight_sharing"] = recipe["model"].get("weight_sharing", "embeddings")
        changes["objective"] = {name: 0.0 for name in own if name in STARTS and own[name]}
        if (given.run / "discriminator").is_dir():
            model["discriminator"] = str(given.run / "discriminator")
        if (given.run / "generator").is_dir():
            model["generator"] = str(given.run / "generator")
    changes["model"] |= {name: value for name, value in model.items() if value is not None}
    return resolve(PretrainConfig, [("the run", recipe), (row, changes)])


def scored(folder: Path, file: Path, corpus: Corpus) -> dict[str, float]:
    """Correlations with people's scores, and how its states are spread."""
    result = evaluate(model=folder, data=str(file), task="similarity", columns=COLUMNS)
    states = token_states(str(folder / "encoder"), corpus)
    return {
        **result["metrics"],
        "token_rank": effective_rank(states),
        "token_cosine": mean_cosine(states),
    }


def _spent(report: dict[str, Any]) -> dict[str, Any]:
    return {name: report.get(name) for name in ("steps", "tokens", "minutes")}


if __name__ == "__main__":
    main()
