"""Commands that make an application of an encoder and use it."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from electra.cli.app import (
    Input,
    Json,
    Overrides,
    Overwrite,
    app,
    columns_of,
    fields_help,
    progress_console,
)
from electra.config import FinetuneConfig, finetune_defaults
from electra.recipe import nest, read_recipe, resolve


@app.command(help_epilogue=fields_help(FinetuneConfig))
def finetune(
    *,
    model: str,
    output: Path,
    train: str | None = None,
    validation: str | None = None,
    task: str = "text-classification",
    recipe: str | None = None,
    seeds: int = 1,
    train_fraction: str | None = None,
    search: int | None = None,
    search_space: Path | None = None,
    resume: str = "never",
    overwrite: Overwrite = False,
    from_scratch: Overwrite = False,
    overrides: Overrides = None,
) -> None:
    """Fine-tune an encoder on labelled data.

    The output is a model folder for electra evaluate and predict, and for the Auto classes.

    Parameters
    ----------
    model
        An encoder: a folder, a run folder of electra pretrain, or a Hub id.
    output
        The model folder to make.
    train
        CSV, TSV, JSONL, JSON or Parquet (also .gz), splits of a JSON file as
        PATH.json:train+oos_train, or a Hub data set as ID:split.
    validation
        The same; the best of some ten evaluations on it is kept.
    task
        text-classification: one sentence or a pair; with scores as labels, regression; with lists
        of labels (or --data.label-separator), several; long texts by --data.long-texts windows.
        token-classification: CoNLL columns (BIO, IOB1, BIOES, BMES), JSON lines of text and
        entities (start, end, label; or CLUENER's), or a folder of seq.in, seq.out and label as
        ATIS has, which learns the intent as well; long texts by windows.
        question-answering: SQuAD's JSON (v1.1, v2.0, CMRC 2018), or rows of question, context and
        answers; long contexts by windows (--data.doc-stride), unanswerable questions by a
        threshold, ELECTRA's own head with --model.head joint.
        relation-extraction: SemEval's text format, or text, head, tail ({"start", "end"}), label.
        multiple-choice: RACE's JSONL, C3's JSON, or context, question, choices, label.
    recipe
        A .toml file with the fields below, such as the config.toml of a run or the best.toml of a
        search; flags win over it. With tables [tasks.NAME] (task, train, validation; also weight,
        data.FIELD, model.FIELD) it trains several tasks on one encoder, each to a folder NAME.
    seeds
        Runs; above 1 each gets a folder seed-K, the best is copied up, and two ways to join them
        are measured: ensemble/ (mean of the logits) and averaged/ (mean of the weights).
    train_fraction
        Shares of the training data, such as 0.01,0.1,1: a learning curve over labels.
    search
        Trials of a search for a recipe on the validation data (extra: pip install
        "electra[search]"); the best recipe is written as best.toml.
    search_space
        A .toml file: a table [section.field] for each field that is tried, with low, high and
        log = true, or with choices. Without it: learning rate, its decay over layers, batch size.
    resume
        never refuses a folder that holds a run; auto continues it.
    overwrite
        Move an old run to NAME.old-1 and start afresh.
    from_scratch
        Random weights of the encoder's shape, to know what pretraining is worth.
    """
    layers, tasks = finetune_defaults(task), None
    if recipe is not None:
        tables = read_recipe(recipe)
        tasks = tables.pop("tasks", None)
        layers.append((f"recipe {recipe}", tables))
    layers.append(("command line", nest(overrides or {})))
    config = resolve(FinetuneConfig, layers)
    from electra.finetune import finetune as run_finetune
    from electra.finetuning.fractions import parse_fractions

    run_finetune(
        model=model,
        output=output,
        train=train,
        validation=validation,
        task=task,
        tasks=tasks,
        config=config,
        seeds=seeds,
        train_fraction=() if train_fraction is None else parse_fractions(train_fraction),
        trials=search,
        search_space=search_space,
        resume=resume,
        overwrite=overwrite,
        from_scratch=from_scratch,
        console=progress_console(),
    )


@app.command
def evaluate(
    *,
    model: str,
    data: str,
    task: str | None = None,
    limit: int | None = None,
    method: str = "auto",
    json: Json = False,
    output: Path | None = None,
    report: Path | None = None,
    batch_size: int = 32,
    device: str = "auto",
    overrides: Overrides = None,
) -> None:
    """Score a fine-tuned model on labelled data, or a pretrained one on pairs of sentences.

    Parameters
    ----------
    model
        A folder that electra finetune wrote; for minimal pairs whatever electra score takes, for
        similarity any encoder: a run, one of its parts, a folder or id of the Hub.
    data
        CSV, TSV, JSONL, JSON or Parquet (also .gz), splits of a JSON file as PATH.json:test, or a
        Hub data set as ID:split. Columns are those of the training data; --data.text-column,
        --data.text-pair-column, --data.label-column, --data.label-separator and --data.header
        change them. For minimal pairs a file or folder of BLiMP or CLiMP, or with the columns
        sentence_good and sentence_bad. For similarity two texts and a number a row (STS-B).
    task
        minimal-pairs: whether good sentences score higher than bad ones, a tie counting half.
        similarity: whether the cosine of two sentences' mean states goes with the scores that
        people gave, nothing trained. The model's own where it is left out.
    limit
        Pairs of a paradigm, the first ones. Minimal pairs only.
    method
        How sentences are scored: see electra score. Minimal pairs only.
    json
        One line of JSON on standard output instead of tables.
    output
        Write the JSON to this file as well.
    report
        Write a page of HTML: classes, confusions, calibration, wrong answers the model was surest
        of. For fine-tuned models alone.
    batch_size
        Examples a forward pass.
    device
        auto, cpu, cuda or mps.
    """
    columns = columns_of(overrides)
    from electra.evaluate import evaluate as run_evaluate

    run_evaluate(
        model=model,
        data=data,
        task=task,
        limit=limit,
        method=method,
        json=json,
        output=output,
        report=report,
        columns=columns,
        batch_size=batch_size,
        device=device,
        console=Console(),
        progress=progress_console(),
    )


@app.command
def predict(
    *texts: str,
    model: Path,
    input: Input = None,
    json: Json = False,
    batch_size: int = 32,
    device: str = "auto",
    overrides: Overrides = None,
) -> None:
    """Answer texts with a fine-tuned model.

    Parameters
    ----------
    texts
        The texts; for a model of two sentences they come in twos. question-answering: question,
        context. relation-extraction: with `<e1>...</e1>` and `<e2>...</e2>` around the entities.
        multiple-choice: passage, question, options.
    model
        A folder that electra finetune wrote.
    input
        Instead of texts a file: .txt (a line, a text), .jsonl, .json, .csv, .tsv, .parquet (also
        .gz), splits of a JSON file as PATH.json:train+dev, or - for standard input, lines of text
        or of JSON. Blank lines are skipped, and not counted. JSON, JSONL and - answer in JSONL.
        --data.text-column, --data.text-pair-column and --data.header say where the text stands.
    json
        A line of JSON for each answer.
    batch_size
        Texts a forward pass.
    device
        auto, cpu, cuda or mps.
    """
    columns = columns_of(overrides, labelled=False)
    from electra.predict import predict as run_predict
    from electra.predict import print_predictions

    answers = run_predict(
        model=model,
        texts=texts,
        input=input,
        columns=columns,
        batch_size=batch_size,
        device=device,
    )
    print_predictions(answers, json=json, input=input)


@app.command
def score(
    *texts: str,
    model: str,
    input: Input = None,
    method: str = "auto",
    json: Json = False,
    batch_size: int = 32,
    device: str = "auto",
    overrides: Overrides = None,
) -> None:
    """Score texts, and each of their tokens, with a pretrained model.

    Parameters
    ----------
    texts
        The texts.
    model
        A run folder of electra pretrain, one of its parts discriminator/, masked_lm/ and
        generator/, or a masked LM of the Hub.
    input
        Instead of texts a file: .txt (a line, a text), .jsonl, .json, .csv, .tsv, .parquet (also
        .gz), splits of a JSON file as PATH.json:train+dev, or - for standard input, lines of text
        or of JSON. Blank lines are skipped, and not counted. JSON, JSONL and - answer in JSONL;
        --data.text-column and --data.header say where the text stands.
    method
        discriminator: sum of log P(original), one pass a text. electric: sum of minus the
        energies, one pass a text. pseudo-log-likelihood: sum of log P(token | the others), a pass
        a token. auto: what the model is made for.
    json
        A line of JSON for each text.
    batch_size
        Rows of a forward pass; a text with one token masked is a row.
    device
        auto, cpu, cuda or mps.
    """
    columns = columns_of(overrides, labelled=False)
    from electra.score import print_scores
    from electra.score import score as run_score

    scores = run_score(
        model=model,
        texts=texts,
        input=input,
        method=method,
        columns=columns,
        batch_size=batch_size,
        device=device,
        progress=progress_console(),
    )
    print_scores(scores, json=json, input=input)
