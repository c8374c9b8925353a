"""`electra report`: runs side by side on one page; whole, unfinished and damaged ones."""

import json
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from electra.artifacts.runs import (
    MOST_POINTS,
    columns_of,
    default_settings,
    differing,
    distinct_names,
    read_runs,
    thinned,
    time_at,
)
from electra.artifacts.runs_page import runs_page
from electra.artifacts.samples import ROWS, SAMPLES, TOKENS, Pieces, SamplesFile, sample_rows
from electra.cli import run
from electra.corpus.languages import language_settings
from electra.corpus.tokenizer import load_tokenizer
from electra.corpus.tokenizer_training import train_tokenizer
from electra.objectives.objective import SeenText
from electra.pretrain import pretrain
from electra.report import report
from tests.conftest import make_text
from tests.objectives.build import VOCAB, make, noise, padded_batch
from tests.shapes import tiny_config

DRAWS_FIGURES = True

MASKED_LM = '[objective]\nname = "masked_lm"\n[optimizer]\nlearning_rate = 0.001\n'


def write_run(
    folder: Path,
    rows: list[dict[str, Any]] | None = None,
    *,
    config: str = MASKED_LM,
    environment: dict[str, Any] | None = None,
    samples: dict[str, Any] | None = None,
) -> Path:
    """An unfinished run; without rows it has no metrics.jsonl."""
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(config, encoding="utf-8")
    for name, content in (("environment.json", environment), (SAMPLES, samples)):
        if content is not None:
            (folder / name).write_text(json.dumps(content), encoding="utf-8")
    if rows is not None:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    return folder


def steps(count: int) -> list[dict[str, Any]]:
    """Ten steps and 1,000 tokens in five seconds a row, and an evaluation at the end."""
    rows = [
        {
            "step": 10 * n,
            "tokens_seen": 1000 * n,
            "seconds": 5.0 * n,
            "lr": 1e-3,
            "encoder_mlm_loss": 8 / n,
            "grad_norm": 1.0,
            "tokens_per_second": 200.0,
        }
        for n in range(1, count + 1)
    ]
    step, tokens = 10 * count, 1000 * count
    return [*rows, {"step": step, "tokens_seen": tokens, "eval_encoder_mlm_loss": 2.5}]


class Parts(HTMLParser):
    """The text of a page; refuses scripts, what is loaded, and elements left open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "script"
        for name, value in attrs:
            assert name not in ("src", "href", "xlink:href") or (value or "").startswith("#")
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def text_of(page: str) -> str:
    parts = Parts()
    parts.feed(page)
    parts.close()
    assert not parts.open
    return parts.text


def addresses(page: str) -> set[str]:
    """All that look like one, but for the names of SVG's own name spaces."""
    return set(re.findall(r"https?://[^\"<> ]*", re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)))


def figures(page: str) -> int:
    return page.count("<svg ")


# ---- reading ---------------------------------------------------------------------------------


def test_thinned_by_hand() -> None:
    points = [(0.0, 0.0), (1.0, 10.0), (2.0, 20.0), (3.0, 30.0), (4.0, 7.0)]
    assert thinned(points, 3) == [(0.5, 5.0), (2.5, 25.0), (4.0, 7.0)]
    assert thinned(points, 5) == points


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(2, 60))
def test_thinned_keeps_the_last_the_order_and_the_range(ys: list[float], most: int) -> None:
    points = [(float(x), y) for x, y in enumerate(ys)]
    found = thinned(points, most)
    assert len(found) == min(len(points), most)
    assert found[-1] == points[-1]
    assert [x for x, _ in found] == sorted({x for x, _ in found})
    assert min(ys) - 1e-6 <= min(y for _, y in found)
    assert max(y for _, y in found) <= max(ys) + 1e-6


def test_evaluations_stand_at_the_time_of_their_step(tmp_path: Path) -> None:
    times = [(0.0, 0.0), (10.0, 5.0), (30.0, 9.0)]
    assert [time_at(step, times) for step in (5, 10, 20, 30, 40)] == [2.5, 5.0, 7.0, 9.0, 11.0]
    assert time_at(5, []) is None
    rows = [*steps(2)[:2], {"step": 15, "tokens_seen": 1500, "eval_encoder_mlm_loss": 3.0}]
    (found,) = read_runs([write_run(tmp_path / "run", rows)])
    assert found.curve("eval_encoder_mlm_loss", "minutes") == [(7.5 / 60, 3.0)]
    assert found.curve("eval_encoder_mlm_loss", "tokens") == [(1500, 3.0)]
    assert found.curve("encoder_mlm_loss", "minutes") == [(5 / 60, 8.0), (10 / 60, 4.0)]
    assert found.length("minutes") == 10 / 60


def test_long_runs_are_thinned_to_their_last_row(tmp_path: Path) -> None:
    (found,) = read_runs([write_run(tmp_path / "run", steps(2000))])
    points = found.curve("encoder_mlm_loss", "tokens")
    assert len(points) == MOST_POINTS
    assert points[-1] == (2_000_000, 8 / 2000)


def test_what_is_no_finite_number_is_no_point(tmp_path: Path) -> None:
    rows = steps(3)
    rows[1] |= {"encoder_mlm_loss": math.nan, "progress": [0.1, 0.2], "note": "x", "flag": True}
    (found,) = read_runs([write_run(tmp_path / "run", rows)])
    assert [x for x, _ in found.curve("encoder_mlm_loss", "tokens")] == [1000, 3000]
    assert not {"progress", "note", "flag"} & set(columns_of([found]))


def test_names_are_as_long_as_they_must_be() -> None:
    def names(*paths: str) -> list[str]:
        return distinct_names([Path(path) for path in paths])

    assert names("/a/run") == ["run"]
    assert names("/a/one", "/b/two") == ["one", "two"]
    assert names("/a/x/run", "/b/x/run", "/c/other") == ["a/x/run", "b/x/run", "other"]
    assert names("/a/run", "/run") == ["a/run", "/run"]


def test_differing_tables() -> None:
    tables = [{"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}, {"a": 1, "b": 2}]
    assert differing(tables) == {"b": [2, 3, 2], "c": [None, 4, None]}
    assert differing([{"a": 1}]) == {}


def test_defaults_are_those_of_the_recipe() -> None:
    defaults = default_settings("pretraining")
    assert defaults["optimizer.max_grad_norm"] == tiny_config("classic").optimizer.max_grad_norm
    assert default_settings("fine-tuning")["optimizer.learning_rate"] == 1e-4
    assert "objective.name" not in default_settings("fine-tuning")
    assert None not in defaults.values()


# ---- the page --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two short runs, `one` and `two`, of different learning rates."""
    folder = tmp_path_factory.mktemp("runs")
    for name, rate in (("one", 3e-3), ("two", 1e-3)):
        config = tiny_config("modern", optimizer={"learning_rate": rate})
        pretrain(data=corpus, output=folder / name, config=config)
    return folder


def test_two_runs_side_by_side(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["report", str(trained / "one"), str(trained / "two")]) == 0
    shown = capsys.readouterr()
    assert "report: report.html" in shown.out
    assert "discriminator auc" in shown.out
    assert not shown.err
    page = (tmp_path / "report.html").read_text("utf-8")
    text = text_of(page)
    assert "Pretraining: 2 runs" in text
    assert re.search(r"optimizer\.learning_rate</td><td>0.003</td><td>0.001</td>", page)
    assert ">optimizer.max_grad_norm</td><td>1.0</td>" in page  # shared: folded
    assert figures(page) == 8  # losses, discriminator, generator, training; tokens, minutes
    for name in ("one", "two"):
        metrics = json.loads((trained / name / "report.json").read_text("utf-8"))["metrics"]
        assert f">{metrics['discriminator_auc']:.4g}</td>" in page
        assert f"{name}, step 8" in text  # under its samples
    # a second time its own page is replaced
    assert run(["report", str(trained / "one")]) == 0
    assert "Pretraining: one" in text_of((tmp_path / "report.html").read_text("utf-8"))


def test_json_is_one_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(trained / "one"), str(trained / "two")]
    assert run(["report", *folders, "--output", str(tmp_path / "page.html"), "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    found = json.loads(out)
    assert found["report"] == str(tmp_path / "page.html")
    assert found["settings"] == {"optimizer.learning_rate": {"one": 0.003, "two": 0.001}}
    assert found["environment"] == {}
    for entry, folder in zip(found["runs"], folders, strict=True):
        written = json.loads((Path(folder) / "report.json").read_text("utf-8"))
        assert entry["folder"] == folder
        assert (entry["status"], entry["steps"], entry["evaluated_at"]) == ("finished", 8, 8)
        assert entry["metrics"] == written["metrics"]
        assert entry["encoder_parameters"] == written["parameters"]["encoder"]


def test_of_one_run_what_is_not_by_default(trained: Path) -> None:
    page = runs_page(read_runs([trained / "one"]))
    assert re.search(r"optimizer\.learning_rate</td><td>0.003</td><td>0.0005</td>", page)
    before_the_fold, _, folded = page.partition("as by default")
    assert "max_grad_norm" not in before_the_fold
    assert "batch_ramp" not in before_the_fold  # empty in both
    assert "max_grad_norm" in folded
    assert '<div class="legend">' not in page


def test_unfinished_runs_and_those_without_metrics(tmp_path: Path) -> None:
    begun = write_run(tmp_path / "begun")
    going = write_run(tmp_path / "going", steps(3))
    with (going / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 40, "tokens_se')
    result = report([begun, going], output=tmp_path / "page.html")
    first, second = result["runs"]
    assert (first["status"], first["steps"], first["metrics"]) == ("no metrics yet", None, {})
    assert (second["status"], second["steps"], second["tokens"]) == ("unfinished", 30, 3000)
    assert (second["minutes"], second["tokens_per_second"]) == (0.25, 200.0)
    assert (second["metrics"], second["evaluated_at"]) == ({"encoder_mlm_loss": 2.5}, 30)
    text = text_of((tmp_path / "page.html").read_text("utf-8"))
    assert "going: 1 line of metrics.jsonl left out" in text
    # alone
    report([begun], output=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "No metrics yet." in text_of(page)
    assert figures(page) == 0


def test_what_is_read_is_text(tmp_path: Path) -> None:
    token = {"text": " <b>&", "original": " <i>", "probability": 0.25}
    odd = write_run(
        tmp_path / "<script>",
        [{"step": 1, "tokens_seen": 5, "seconds": 1.0, "$x_1$ \u60c5_loss": 1.0}],
        config='[objective]\nname = "<script>"\n',
        environment={"inputs": {"data": {"name": "<script>", "sha256": "1"}}},
        samples={"step": 1, "rows": [[token]]},
    )
    text = text_of(runs_page(read_runs([odd])))
    assert "<b>&" in text
    assert "<i>" in text


def test_samples_are_shaded_and_marked(tmp_path: Path) -> None:
    tokens = [
        {"text": " the", "probability": 0.1},
        {"text": " dog", "original": " cat", "probability": 0.9},
        {"text": "s", "probability": 0.0},
    ]
    folders = [
        write_run(tmp_path / name, steps(1), samples={"step": 10, "rows": [tokens]})
        for name in ("a", "b")
    ]
    page = runs_page(read_runs(folders))
    assert (
        '> <span style="--share: 0.20" title="10%">the</span>'
        ' <span class="replaced" style="--share: 1.00" title="90%">'
        "<ruby>dog<rt>cat</rt></ruby></span>"
        '<span style="--share: 0.00" title="0%">s</span></p>'
    ) in page
    text = text_of(page)
    assert text.index("a, step 10") < text.index("b, step 10")


def test_other_data_is_said(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / digest, environment={"inputs": {"data": {"sha256": digest}}})
        for digest in ("one", "two")
    ]
    assert "The runs read different data" in runs_page(read_runs(folders))
    assert "The runs read different data" not in runs_page(read_runs(folders[:1]))


def test_fine_tuning_runs_are_drawn_too(tmp_path: Path) -> None:
    rows = [
        {"step": 5, "tokens_seen": 100, "seconds": 2.0, "lr": 1e-4, "loss": 1.0, "task_loss": 1.0},
        {"step": 5, "tokens_seen": 100, "eval_accuracy": 0.5},
    ]
    tuned = write_run(tmp_path / "tuned", rows, config="[training]\nmax_steps = 5\n")
    (found,) = read_runs([tuned])
    assert columns_of([found]) == ["lr", "loss", "accuracy"]
    assert "Fine-tuning: tuned" in text_of(runs_page([found]))


def test_more_runs_than_colours(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / f"run{n}", steps(1)) for n in range(23)]
    page = runs_page(read_runs(folders))
    assert "dashed #1f77b4" in page
    assert "dotted #1f77b4" in page


def test_without_matplotlib_a_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    folder = write_run(tmp_path / "run", steps(2))
    assert run(["report", str(folder), "--output", str(tmp_path / "page.html")]) == 0
    line = 'Figures need matplotlib: pip install "electra[plot]"'
    assert capsys.readouterr().err.strip() == line
    page = (tmp_path / "page.html").read_text("utf-8")
    assert text_of(page).count(line) == 1


# ---- mistakes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "no run given: electra report RUN..."),
        ("nowhere", "nowhere does not exist; give the folder of a run"),
        ("file", "file is a file; give the folder of a run"),
        ("empty", "empty is no run: it has neither config.toml nor metrics.jsonl"),
        ("runs", "or one of the runs in it: one, tuned"),
        ("runs/one runs/../runs/one", "the run runs/../runs/one is given twice"),
        ("runs/one runs/tuned", "runs/tuned is a run of fine-tuning: give runs of one kind"),
        ("torn", "torn/report.json cannot be read"),
        ("badly", "badly/config.toml cannot be read"),
        ("runs/one --output empty", "--output empty is a folder; a file is wanted"),
        ("runs/one --output no/page.html", "there is no folder no"),
        ("runs/one --output file", "file is there and no page of electra report: choose another"),
    ],
)
def test_mistakes_are_one_line(
    arguments: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(Path("runs/one"), steps(1))
    write_run(Path("runs/tuned"), config="[training]\nmax_steps = 5\n")
    (write_run(Path("torn")) / "report.json").write_text('{"metr', encoding="utf-8")
    write_run(Path("badly"), config="[objective\n")
    Path("empty").mkdir()
    Path("file").write_text("mine", encoding="utf-8")
    assert run(["report", *arguments.split()]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1
    assert Path("file").read_text("utf-8") == "mine"
    assert not Path("report.html").exists()


def test_a_runs_own_report_is_this_page(trained: Path, tmp_path: Path) -> None:
    own = trained / "one" / "report.html"
    page = own.read_text("utf-8")
    assert figures(page) == 8
    assert "one, step 8" not in text_of(page)
    assert "What the discriminator sees" in text_of(page)
    assert not addresses(page)
    corpus = json.loads((trained / "one" / "report.json").read_text("utf-8"))["corpus"]["train"]
    assert f"tokens of the corpus{corpus['tokens']:,}" in text_of(page)
    other = tmp_path / "page.html"
    report([trained / "one"], output=other)
    names = re.compile(r'(id="|#|url\(#)[a-z]+[0-9a-f]+')  # matplotlib's are drawn anew
    assert names.sub("", other.read_text("utf-8")) == names.sub("", page)
    report([trained / "one"], output=own)  # so it may be written again


def test_a_page_of_something_else_is_kept_unless_told(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", steps(1))
    own = folder / "report.html"
    own.write_text("<h1>Fine-tuning</h1>", encoding="utf-8")
    arguments = ["report", str(folder), "--output", str(own)]
    assert run(arguments) == 2
    assert own.read_text("utf-8") == "<h1>Fine-tuning</h1>"
    assert run([*arguments, "--overwrite"]) == 0
    assert "Pretraining: run" in text_of(own.read_text("utf-8"))


def test_what_was_warned_of_stands_on_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*steps(2), *({"step": 20 + n, "warning": f"<step {n}>"} for n in range(23))]
    folders = [write_run(tmp_path / "odd", rows), write_run(tmp_path / "good", steps(2))]
    result = report(folders, output=tmp_path / "page.html")
    assert [len(r["warnings"]) for r in result["runs"]] == [23, 0]
    text = text_of((tmp_path / "page.html").read_text("utf-8"))
    assert "odd: <step 19>odd: 3 more stand in metrics.jsonl." in text
    assert "Warnings" not in text_of(runs_page(read_runs(folders[1:])))
    assert "<step 0><step 1>" in text_of(runs_page(read_runs(folders[:1])))
    assert run(["report", str(folders[0]), "--output", str(tmp_path / "page.html")]) == 0
    assert "warning: <step 19>" in capsys.readouterr().out


# ---- what a run keeps ------------------------------------------------------------------------


def test_a_run_keeps_what_its_discriminator_saw(trained: Path) -> None:
    found = json.loads((trained / "one" / SAMPLES).read_text("utf-8"))
    assert (found["step"], len(found["rows"])) == (8, ROWS)
    tokens = [token for row in found["rows"] for token in row]
    assert all(0 <= token["probability"] <= 1 for token in tokens)
    replaced = [token for token in tokens if "original" in token]
    assert 0 < len(replaced) < 0.2 * len(tokens)
    assert found["rows"][0][0]["text"] == " [CLS]"
    other = json.loads((trained / "two" / SAMPLES).read_text("utf-8"))
    originals = [
        [[token.get("original", token["text"]) for token in row] for row in samples["rows"]]
        for samples in (found, other)
    ]
    assert originals[0] == originals[1]


def test_without_a_discriminator_nothing_is_kept(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config("modern", objective={"name": "masked_lm"}, training={"max_steps": 2})
    pretrain(data=corpus, output=tmp_path / "run", config=config)
    assert not (tmp_path / "run" / SAMPLES).exists()
    page = runs_page(read_runs([tmp_path / "run"]))
    assert "What the discriminator sees" not in page


def test_sample_rows_by_hand(corpus: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(corpus)
    cls, sep, the, cat, dog = (
        tokenizer.get_vocab()[token] for token in ("[CLS]", "[SEP]", "the", "cat", "river")
    )
    batch = {
        "input_ids": torch.tensor([[cls, the, cat, sep], [cls, dog, sep, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
    }
    seen = SeenText(
        torch.tensor([[cls, the, dog, sep], [cls, 10_000, sep, 0]]),
        torch.tensor([[-math.inf, 0.0, math.log(3), 0.0], [0.0, 0.0, 0.0, 9.0]]),
    )
    state: Any = SimpleNamespace(step=7, tokens_seen=99)
    SamplesFile(tmp_path, tokenizer, state).write(batch, seen)
    assert json.loads((tmp_path / SAMPLES).read_text("utf-8")) == {
        "step": 7,
        "tokens_seen": 99,
        "rows": [
            [
                {"text": " [CLS]", "probability": 0.0},
                {"text": " the", "probability": 0.5},
                {"text": " river", "original": " cat", "probability": 0.75},
                {"text": " [SEP]", "probability": 0.5},
            ],
            [
                {"text": " [CLS]", "probability": 0.5},
                {"text": " [10000]", "original": " river", "probability": 0.5},
                {"text": " [SEP]", "probability": 0.5},
            ],
        ],
    }


def test_many_long_rows_are_cut_and_spread(corpus: Path) -> None:
    ids = torch.arange(5, 69).unsqueeze(1).expand(64, TOKENS + 9)
    pieces = Pieces(load_tokenizer(corpus))
    rows = sample_rows(pieces, {"input_ids": ids}, SeenText(ids, torch.zeros(ids.shape)))
    assert [len(row) for row in rows] == [TOKENS] * ROWS
    assert [row[0]["text"] for row in rows] == [pieces.text(5 + n) for n in (0, 10, 21, 32, 42, 53)]


@pytest.mark.parametrize("kind", ["word_piece", "bpe", "unigram"])
def test_pieces_join_to_the_text(kind: Any) -> None:
    settings = language_settings("other")
    texts = [make_text(2, seed) for seed in range(60)]
    tokenizer = train_tokenizer(texts, kind=kind, vocab_size=300, settings=settings)
    text = "the farmer remembers that bare homeland"
    pieces = Pieces(tokenizer)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert len(ids) > len(text.split())  # some words are in parts
    assert "".join(map(pieces.text, ids)).strip() == text


@pytest.mark.parametrize(
    "name",
    [
        "replaced_token_detection",
        "electra_15_percent",
        "all_tokens_mlm",
        "adversarial",
        "self_augmented",
        "electric",
    ],
)
def test_what_is_shown_is_what_is_scored(name: str) -> None:
    objective = make("modern", counts=torch.ones(VOCAB), objective={"name": name})
    batch = padded_batch()
    output = objective.probe(batch, noise())
    assert output.seen is not None
    assert output.replaced_scores is not None
    assert output.is_replaced is not None
    shown, changed = output.seen.scores, output.seen.input_ids != batch["input_ids"]
    assert shown.shape == changed.shape == (3, 14)
    assert changed.any()
    real = batch["attention_mask"].bool()
    if name == "electric":  # special tokens have no energy; a draw may equal the original
        targets = real & (batch["input_ids"] > 4)
        assert torch.equal(shown[targets], output.replaced_scores)
        assert (shown[~targets] == -math.inf).all()
        assert not (changed[targets] & ~output.is_replaced).any()
    else:
        assert torch.equal(shown[real], output.replaced_scores)
        assert torch.equal(changed[real], output.is_replaced)
