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
from electra.recipe import nest, resolve


@app.command(help_epilogue=fields_help(FinetuneConfig))
def finetune(
    *,
    model: str,
    train: str,
    validation: str,
    output: Path,
    task: str = "text-classification",
    seeds: int = 1,
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
    train
        CSV, TSV, JSONL or Parquet (also .gz), or a Hub data set as ID:split.
    validation
        The same; the best of some ten evaluations on it is kept.
    output
        The model folder to make.
    task
        text-classification: one sentence or a pair; with scores as labels, regression.
        token-classification: CoNLL columns (BIO, IOB1, BIOES, BMES), JSON lines of text and
        entities (start, end, label; or CLUENER's), or a folder of seq.in, seq.out and label as
        ATIS has, which learns the intent as well; long texts by windows.
        question-answering: SQuAD's JSON (v1.1, v2.0, CMRC 2018), or rows of question, context and
        answers; long contexts by windows (--data.doc-stride), unanswerable questions by a
        threshold, ELECTRA's own head with --model.head joint.
        relation-extraction: SemEval's text format, or text, head, tail ({"start", "end"}), label.
        multiple-choice: RACE's JSONL, C3's JSON, or context, question, choices, label.
    seeds
        Runs; above 1 each gets a folder seed-K, and the best is copied up.
    resume
        never refuses a folder that holds a run; auto continues it.
    overwrite
        Move an old run to NAME.old-1 and start afresh.
    from_scratch
        Random weights of the encoder's shape, to know what pretraining is worth.
    """
    layers = [*finetune_defaults(task), ("command line", nest(overrides or {}))]
    config = resolve(FinetuneConfig, layers)
    from electra.finetune import finetune as run_finetune

    run_finetune(
        model=model,
        train=train,
        validation=validation,
        output=output,
        task=task,
        config=config,
        seeds=seeds,
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
    batch_size: int = 32,
    device: str = "auto",
    overrides: Overrides = None,
) -> None:
    """Score a fine-tuned model on labelled data, or a pretrained one on minimal pairs.

    Parameters
    ----------
    model
        A folder that electra finetune wrote; for minimal pairs whatever electra score takes.
    data
        CSV, TSV, JSONL or Parquet (also .gz), or a Hub data set as ID:split. Columns are those of
        the training data; --data.text-column, --data.text-pair-column, --data.label-column and
        --data.header change them. For minimal pairs a file or folder of BLiMP or CLiMP, or with
        the columns sentence_good and sentence_bad.
    task
        minimal-pairs: whether good sentences score higher than bad ones, a tie counting half. The
        model's own where it is left out.
    limit
        Pairs of a paradigm, the first ones. Minimal pairs only.
    method
        How sentences are scored: see electra score. Minimal pairs only.
    json
        One line of JSON on standard output instead of tables.
    output
        Write the JSON to this file as well.
    batch_size
        Examples a forward pass.
    device
    report: Path | None = None,
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
    report
        Write a page of HTML: classes, confusions, calibration, wrong answers the model was surest
        of. Not for minimal pairs.
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
        context. relation-extraction: with <e1> and <e2> around the entities. multiple-choice:
        passage, question, options.
    model
        A folder that electra finetune wrote.
    input
        report=report,
        Instead of texts a file: .txt (a line, a text), .jsonl, .csv, .tsv, .parquet, or - for
        standard input, lines of text or of JSON. JSONL and - answer in JSONL.
    json
        A line of JSON for each answer.
    batch_size
        Texts a forward pass.
    device
        auto, cpu, cuda or mps.
    """
    columns = columns_of(overrides)
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
        Instead of texts a file: .txt (a line, a text), .jsonl, .csv, .tsv, .parquet, or - for
        standard input, lines of text or of JSON. JSONL and - answer in JSONL;
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
    columns = columns_of(overrides)
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
