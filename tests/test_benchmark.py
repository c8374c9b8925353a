import gzip
import io
import json
import signal
import statistics
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import electra.benchmark
from electra.benchmark import benchmark
from electra.cli import run
from electra.config import FinetuneConfig, LabelledDataConfig
from electra.corpus.files import read_lines
from electra.errors import ConfigError, DataError, Interrupted, UserError
from electra.evaluation.samples import Unit, read_units, split
from electra.evaluation.suite_files import MissingDataError, set_files
from electra.evaluation.suites import METRICS, BenchmarkSet, read_suite, suite_names
from electra.tasks.question_answering import QuestionAnswering
from electra.tasks.task import TASKS, task_class
from tests.tiny import make_encoder, pairs, sentences, write_tsv

SUITE = """
description = "two toys and one that is not there"

[sets.toy]
task = "text-classification"
train = "toy/train.tsv"
validation = 0.2
test = "toy/test.tsv"
metric = "accuracy"
recipe.training = { epochs = 1, global_batch_size = 16 }

[sets.toy-pairs]
task = "text-classification"
train = "pairs/train.tsv"
validation = "pairs/test.tsv"
test = "pairs/test.tsv"
metric = ["accuracy", "macro_f1"]
max_train_rows = 40
max_test_rows = 10
recipe.training = { epochs = 1, global_batch_size = 16 }

[sets.gone]
task = "multiple-choice"
train = "gone/train.jsonl"
validation = 0.1
test = "gone/test.jsonl"
metric = "accuracy"
"""
HEADER = ["index", "sentence1", "sentence2", "label"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    make_encoder(folder / "encoder", layers=1)
    (folder / "suite.toml").write_text(SUITE, encoding="utf-8")
    for name in ("toy", "pairs"):
        (folder / "data" / name).mkdir(parents=True)
    for part, count, seed in (("train", 120, 0), ("test", 40, 1)):
        write_tsv(
            folder / "data" / "toy" / f"{part}.tsv", ["sentence", "label"], sentences(count, seed)
        )
        rows = [(str(i), *row) for i, row in enumerate(pairs(count, seed))]
        write_tsv(folder / "data" / "pairs" / f"{part}.tsv", HEADER, rows)
    return folder


def arguments(home: Path, output: Path) -> dict[str, Any]:
    return {"model": str(home / "encoder"), "data": home / "data", "output": output, "seeds": 2}


@pytest.fixture(scope="module")
def done(home: Path) -> tuple[Path, dict[str, Any], str]:
    """A finished benchmark: its folder, what it returned, what it printed."""
    output, console = home / "done", Console(file=io.StringIO(), width=100)
    result = benchmark(str(home / "suite.toml"), **arguments(home, output), console=console)
    assert isinstance(console.file, io.StringIO)
    return output, result, console.file.getvalue()


def test_every_set_is_scored_on_its_test_rows(done: tuple[Path, dict[str, Any], str]) -> None:
    output, result, _ = done
    assert list(result["sets"]) == ["toy", "toy-pairs"]
    toy, pairs_ = result["sets"]["toy"], result["sets"]["toy-pairs"]
    assert (toy["n"], pairs_["n"]) == (40, 10)
    for row in (toy, pairs_):
        scores = [statistics.fmean(r["test"][m] for m in row["metric"]) for r in row["runs"]]
        assert row["scores"] == scores
        assert row["median"] == statistics.median(scores)
        assert row["std"] == pytest.approx(abs(scores[0] - scores[1]) / 2**0.5)
        assert [r["seed"] for r in row["runs"]] == [0, 1]
    assert result["mean"] == pytest.approx((toy["median"] + pairs_["median"]) / 2)
    assert json.loads((output / "results.json").read_text("utf-8")) == result
    from electra.evaluate import evaluate

    again = evaluate(model=output / "toy" / "seed-1", data=str(output.parent / "data/toy/test.tsv"))
    assert again["metrics"] == pytest.approx(toy["runs"][1]["test"])


def test_the_table_says_what_was_skipped(done: tuple[Path, dict[str, Any], str]) -> None:
    _, result, printed = done
    for word in ("metric", "median", "mean", "std", "minutes", "toy-pairs", "accuracy, macro_f1"):
        assert word in printed
    assert f"mean of the medians over 2 of 3 sets: {result['mean']:.4f}" in printed
    assert "gone/train.jsonl does not exist" in result["skipped"]["gone"]
    assert "skipped gone: " in printed


def test_a_second_call_trains_nothing(
    home: Path, done: tuple[Path, dict[str, Any], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, result, _ = done
    calls: list[Any] = []
    monkeypatch.setattr(electra.benchmark, "finetune", lambda **k: calls.append(k))
    assert benchmark(str(home / "suite.toml"), **arguments(home, output)) == result
    assert not calls
    assert not list(output.rglob("checkpoints"))


def test_it_goes_on_where_it_was_interrupted(
    home: Path, done: tuple[Path, dict[str, Any], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, trained = home / "stopped", []
    real = electra.benchmark.finetune

    def stopping(**given: Any) -> Any:
        if len(trained) == 1:
            raise Interrupted(int(signal.SIGINT), "stopped at step 1")
        trained.append(Path(given["output"]).relative_to(output).as_posix())
        return real(**given)

    monkeypatch.setattr(electra.benchmark, "finetune", stopping)
    with pytest.raises(Interrupted, match="the same electra benchmark command goes on") as stop:
        benchmark(str(home / "suite.toml"), **arguments(home, output))
    assert stop.value.exit_code == 130
    assert trained == ["toy/seed-0"]

    def counting(**given: Any) -> Any:
        trained.append(Path(given["output"]).relative_to(output).as_posix())
        return real(**given)

    monkeypatch.setattr(electra.benchmark, "finetune", counting)
    result = benchmark(str(home / "suite.toml"), **arguments(home, output))
    assert trained == ["toy/seed-0", "toy/seed-1", "toy-pairs/seed-0", "toy-pairs/seed-1"]
    scores = {name: row["scores"] for name, row in result["sets"].items()}
    assert scores == {name: row["scores"] for name, row in done[1]["sets"].items()}


def test_another_recipe_or_encoder_or_rows_need_another_folder(
    home: Path, done: tuple[Path, dict[str, Any], str]
) -> None:
    given = arguments(home, done[0])
    suite = str(home / "suite.toml")
    with pytest.raises(ConfigError, match=r"training.epochs 1.0 -> 2.0.*choose another --output"):
        benchmark(suite, **given, overrides={"training": {"epochs": 2}})
    make_encoder(home / "other", "electra")
    with pytest.raises(ConfigError, match=r"--model .*encoder -> .*other"):
        benchmark(suite, **(given | {"model": str(home / "other")}))
    with pytest.raises(ConfigError, match=r"begun with other rows \(max_train_rows None -> 256"):
        benchmark(suite, **given, quick=True)


def units_of(count: int, *, groups: int | None = None, labels: int = 3) -> list[Unit]:
    return [
        Unit(i, group=None if groups is None else i % groups, labels=frozenset([str(i % labels)]))
        for i in range(count)
    ]


@pytest.mark.parametrize("groups", [None, 7])
def test_held_out_rows_are_disjoint_and_the_same_for_the_same_seed(groups: int | None) -> None:
    units = units_of(100, groups=groups)
    drawn = split(units, seed=3, held_out=0.2, max_rows=50)
    assert drawn == split(units, seed=3, held_out=0.2, max_rows=50)
    assert drawn != split(units, seed=4, held_out=0.2, max_rows=50)
    assert not set(drawn.kept) & set(drawn.held_out)
    assert len(drawn.kept) == 50
    if groups is None:
        assert len(drawn.held_out) == 20
    else:
        assert {i % 7 for i in drawn.held_out}.isdisjoint({i % 7 for i in drawn.kept})
        assert 20 <= len(drawn.held_out) <= 35


def test_a_sample_keeps_every_label() -> None:
    rare = [Unit(i, labels=frozenset(["common"])) for i in range(500)]
    rare[123] = Unit(123, labels=frozenset(["rare"]))
    for seed in range(20):
        drawn = split(rare, seed=seed, max_rows=5, held_out=0.5)
        assert 123 in drawn.kept
        assert len(drawn.kept) == 5
    assert any(123 not in split(rare, seed=s, max_rows=5, every_label=False).kept for s in range(9))


def test_rows_that_may_not_be_held_out_are_trained_on() -> None:
    drawn = split(units_of(100), held_out=0.5, max_held_out=10)
    assert (len(drawn.kept), len(drawn.held_out)) == (90, 10)
    with pytest.raises(DataError, match="5 rows on one text or passage: none can be held out"):
        split(units_of(5, groups=1), held_out=0.5)


def squad(articles: int, paragraphs: int) -> dict[str, Any]:
    return {
        "data": [
            {
                "title": f"t{a}",
                "paragraphs": [
                    {
                        "context": f"word{a} number{p} here",
                        "qas": [
                            {
                                "id": f"{a}/{p}/{q}",
                                "question": "which word?",
                                "answers": [{"text": f"word{a}", "answer_start": 0}],
                            }
                            for q in range(2)
                        ],
                    }
                    for p in range(paragraphs)
                ],
            }
            for a in range(articles)
        ]
    }


SEMEVAL = '{}\t"The <e1>a{}</e1> in the <e2>b</e2>."\n{}(e1,e2)\nComment: none\n\n'
WRITTEN = {
    "text-classification": ("a.txt", "".join(f"L{i % 3}:x question {i} ?\n" for i in range(30))),
    "token-classification": (
        "a.txt",
        "-DOCSTART- -X- O\n\n" + "".join(f"w{i} O\nv B-{'PL'[i % 2]}\n\n" for i in range(30)),
    ),
    "relation-extraction": (
        "A.TXT",
        "".join(SEMEVAL.format(i, i, ("Cause-Effect", "Part-Whole")[i % 2]) for i in range(30)),
    ),
    "question-answering": ("a.json", json.dumps(squad(5, 3))),
    "multiple-choice": (
        "a.json",
        json.dumps(
            [
                [[f"p {i}"], [{"question": "q", "choice": ["x", "y"], "answer": "x"}] * 2, f"d{i}"]
                for i in range(15)
            ]
        ),
    ),
}


def read_with(task: str, path: str) -> list[Any]:
    if task == "text-classification":
        return list(read_lines(Path(path)))  # trec's lines, whoever reads them
    return list(task_class(task).from_training(path, FinetuneConfig())[1])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_what_is_drawn_is_read_by_the_tasks_own_reader(
    task: str, packed: bool, tmp_path: Path
) -> None:
    name, text = WRITTEN[task]
    file = tmp_path / (name + ".gz" * packed)
    file.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    each = BenchmarkSet(
        name="x", task=task, train=(file.name,), validation=0.3, test=(file.name,),
        metric=METRICS[task][:1], max_train_rows=14, max_test_rows=8,
    )  # fmt: skip
    files = set_files(each, tmp_path, tmp_path / "drawn", LabelledDataConfig())

    def keys(path: str) -> set[str]:
        return {_key(task, row) for row in read_with(task, path)}

    everything = read_with(task, str(file))
    train, held = read_with(task, files.train), read_with(task, files.validation)
    assert (len(everything), len(train)) == (30, 14)
    assert 9 <= len(held) <= 12
    assert len(read_with(task, files.test)) == 8
    assert keys(files.train) < keys(str(file))
    assert keys(files.train).isdisjoint(keys(files.validation))


def _key(task: str, row: Any) -> str:
    """What tells rows, or passages that must not be parted, from one another."""
    if task == "question-answering":
        return str(row.context.split()[0])  # the article
    return str(row.context if task == "multiple-choice" else getattr(row, "text", row))


def test_rows_of_tables_are_drawn_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('"one, two",3.5\nthree,4.0\n', encoding="utf-8")
    found = read_units([str(file)], "text-classification", LabelledDataConfig())
    assert [unit.content for unit in found.units] == [
        {"0": "one, two", "1": "3.5"},
        {"0": "three", "1": "4.0"},
    ]
    assert [unit.labels for unit in found.units] == [{"3.5"}, {"4.0"}]
    written = found.written([found.units[0].content]).decode()
    assert json.loads(written) == {"0": "one, two", "1": "3.5"}


def test_joined_sources_must_be_of_one_form(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x\ny\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "x", "label": "y"}\n', encoding="utf-8")
    sources = [str(tmp_path / "a.txt"), str(tmp_path / "b.jsonl")]
    with pytest.raises(DataError, match=r"b.jsonl has another form than .*a.txt"):
        read_units(sources, "text-classification", LabelledDataConfig())
    both = read_units([sources[0]] * 2, "text-classification", LabelledDataConfig())
    assert both.written([u.content for u in both.units]) == b"x\ny\nx\ny\n"


def test_articles_of_squad_are_not_parted(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(squad(6, 4)), encoding="utf-8")
    found = read_units([str(file)], "question-answering", LabelledDataConfig())
    assert len(found.units) == 24
    drawn = split(found.units, held_out=0.1)
    held = {found.units[i].group for i in drawn.held_out}
    assert len(held) == 1
    assert held.isdisjoint({found.units[i].group for i in drawn.kept})
    again = tmp_path / "again.json"
    again.write_bytes(found.written([u.content for u in found.units]))
    old, new = (QuestionAnswering.from_training(str(p), FinetuneConfig())[1] for p in (file, again))
    assert [(q.id, q.context, q.answers) for q in old] == [
        (q.id, q.context, q.answers) for q in new
    ]


@pytest.mark.parametrize("name", suite_names())
def test_the_suites_that_ship_are_whole(name: str) -> None:
    suite = read_suite(name)
    assert suite.name == name
    assert suite.description
    for each in suite.sets:
        assert each.task in TASKS
        assert set(each.metric) <= set(METRICS[each.task])
        assert each.config({}, 5).training.seed == 5
        # what chooses the model is not what is scored
        given = [p for p in (each.train, each.validation, each.test) if not isinstance(p, float)]
        assert len(each.sources) == sum(map(len, given))


def test_the_suites_have_their_sets() -> None:
    names = {name: {s.name for s in read_suite(name).sets} for name in suite_names()}
    assert names["glue-small"] == {
        "cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte",
    }  # fmt: skip
    assert names["chinese"] == {
        "chnsenticorp", "tnews", "cluener", "resume_ner", "cmrc2018", "c3",
    }  # fmt: skip
    assert {"sst2", "banking77", "conll2003", "squad_v1", "race_middle"} < names["english"]
    assert {"clinc150", "atis", "squad_v2"} < names["english"]


def edited(**changes: str) -> str:
    lines = {
        "task": '"text-classification"', "train": '"a.tsv"', "validation": "0.1",
        "test": '"b.tsv"', "metric": '"accuracy"',
    } | changes  # fmt: skip
    return "[sets.x]\n" + "".join(f"{k} = {v}\n" for k, v in lines.items() if v)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (edited(metrik='"f1"'), 'set x has an unknown key "metrik"; did you mean "metric"?'),
        ("nme = 1\n" + edited(), 'has an unknown key "nme"; did you mean "name"?'),
        (edited(metric=""), "set x has no metric"),
        (edited(metric='"acuracy"'), 'metric is acuracy; did you mean "accuracy"?'),
        (edited(task='"text-clasification"'), 'did you mean "text-classification"?'),
        (edited(validation="1.5"), "validation is 1.5; allowed: a share between 0 and 1"),
        (edited(test="0"), "test is 0; allowed: a share between 0 and 1"),
        (edited(validation="0.5", test="0.5"), "validation and test leave no rows to train on"),
        (edited(max_train_rows="0"), "max_train_rows is 0; allowed: 1 or more"),
        (edited(train="3"), "train must be text, or a list of texts"),
        (edited() + "recipe.training.epoks = 3\n", 'has no field "epoks"; did you mean "epochs"?'),
        ("sets = 3", "has no set: a table [sets.NAME] for each is wanted"),
        ("[sets.x", "is not valid TOML"),
    ],
)
def test_mistakes_in_a_suite_are_named(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_suite(str(file))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "glu-small"}, 'no suite "glu-small"; did you mean "glue-small"?'),
        ({"name": "zzz"}, 'there is no suite "zzz"; allowed: chinese, english, glue-small'),
        ({"name": "no.toml"}, "suite file no.toml does not exist"),
        ({"data": Path("nowhere")}, "--data nowhere is not a folder"),
        ({"data": None}, "give the folder of the data sets with --data, or set ELECTRA_DATA"),
        ({"only": "toi"}, '--only: suite suite has no set "toi"; did you mean "toy"?'),
        ({"only": ","}, "--only names no set; allowed: toy, toy-pairs, gone"),
        ({"seeds": 0}, "--seeds is 0; allowed: 1 or more"),
        ({"model": "./nowhere"}, "--model ./nowhere does not exist"),
        ({"torchrun": "2"}, "electra benchmark runs in one process: start it without torchrun"),
        ({"output": Path("file")}, "--output file is a file; a folder is wanted"),
        ({"output": Path("file/below")}, "--output file/below cannot be written (Not a directory)"),
        ({"overrides": {"training": {"epoks": 1}}}, 'did you mean "epochs"?'),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ELECTRA_DATA", raising=False)
    Path("file").touch()
    monkeypatch.setenv("WORLD_SIZE", change.pop("torchrun", "1"))
    given = {"name": str(home / "suite.toml"), **arguments(home, tmp_path / "out")} | change
    with pytest.raises(UserError) as caught:
        benchmark(given.pop("name"), **given)
    assert message in str(caught.value)
    assert not list(tmp_path.glob("out/*"))


def test_a_set_of_the_hub_is_skipped_where_the_hub_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from electra.evaluation import samples

    def unreachable(*_: Any) -> Any:
        raise DataError("the Hub cannot be reached")

    monkeypatch.setattr(samples, "source_rows", unreachable)
    cola = next(s for s in read_suite("glue-small").sets if s.name == "cola")
    with pytest.raises(MissingDataError, match="the Hub cannot be reached"):
        set_files(cola, None, tmp_path, LabelledDataConfig())


def test_the_command_lists_suites_and_wants_an_encoder(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    assert run(["benchmark"]) == 0
    listed = capsys.readouterr().out
    for name in suite_names():
        assert f"{name}: " in listed
    assert run(["benchmark", "english"]) == 2
    assert "no encoder given" in capsys.readouterr().err
    flags = f"--model {home}/encoder --data {home}/data --output {home}/line --only toy --quick"
    assert run(["benchmark", f"{home}/suite.toml", *flags.split(), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["quick"]
    assert said["sets"]["toy"]["std"] is None
    assert said["seeds"] == 1
