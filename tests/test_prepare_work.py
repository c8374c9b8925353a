"""The folder of the work: what stays when something is mended, changed, killed or full."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import electra.corpus.stages
import electra.corpus.work_folder
import electra.prepare
from electra.cli import run
from electra.config import CleaningSettings, PrepareSettings
from electra.corpus.manifest import no_documents
from electra.corpus.preparation_report import tell
from electra.corpus.sources import Source, plan_parts
from electra.corpus.stages import Plan
from electra.corpus.text_store import TextStore, TextWriter
from electra.corpus.work_keys import part_keys
from electra.errors import ConfigError, DataError, ElectraError
from electra.prepare import prepare
from tests.conftest import make_text

SMALL = PrepareSettings(vocab_size=120, validation_share=0.1)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Five files, each a part or more."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for n in range(5):
        (folder / f"{n}.txt").write_text(make_text(40, seed=n))
    return folder


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(electra.prepare, "PART_BYTES", 4_000)
    monkeypatch.setattr(electra.prepare, "ALONE_BYTES", 0)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class Seen:
    """Which files and parts go through a stage; it may be stopped after some."""

    def __init__(self, stage: str, patch: pytest.MonkeyPatch, stop_after: int = 10**6) -> None:
        self.files: list[str] = []
        usual = electra.corpus.stages.STAGES[stage]

        def watched(plan: Plan, number: int, tick: Callable[[int], None]) -> None:
            if len(self.files) == stop_after:
                raise KeyboardInterrupt
            usual(plan, number, tick)
            self.files += [Path(piece.path).name for piece in plan.parts[number].pieces]

        patch.setitem(electra.corpus.stages.STAGES, stage, watched)  # type: ignore[arg-type]


def begun(texts: list[Any], output: Path, settings: PrepareSettings = SMALL) -> None:
    """A work in which all is cleaned and nothing is encoded."""
    with pytest.MonkeyPatch.context() as patch:
        Seen("encode", patch, 0)
        with pytest.raises(KeyboardInterrupt):
            prepare(texts, output=output, settings=settings, workers=1)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_mistake_is_mended_and_good_parts_are_not_cleaned_again(
    texts: Path, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = texts / "5.jsonl"
    bad.write_text('{"text": "a good row of text"}\n[1, 2]\n')
    said = io.StringIO()
    console = Console(file=said, width=200)
    with pytest.raises(DataError, match=r"5\.jsonl line 2"):
        prepare([texts], output=tmp_path / "c", settings=SMALL, workers=workers, console=console)
    assert "what is done is kept" in said.getvalue()
    bad.write_text('{"text": "a good row of text"}\n')
    seen = Seen("clean", monkeypatch)
    prepare([texts], output=tmp_path / "c", settings=SMALL, workers=1, console=console)
    # the bad one, and of each process what it had in hand: which that is the machine decides
    assert len(set(seen.files)) <= 1 + workers
    assert "5.jsonl" in seen.files
    assert "going on in" in said.getvalue()
    prepare([texts], output=tmp_path / "whole", settings=SMALL, workers=1)
    assert content(tmp_path / "c") == content(tmp_path / "whole")


@pytest.mark.parametrize(
    "changed",
    [
        {"vocab_size": 150},
        {"encoding_errors": "replace"},
        {"licence": "CC0"},
        {"tokenizer_kind": "bpe", "vocab_size": 300},
        {"validation_share": 0.2},
        {"deduplicate": False},
    ],
    ids=str,
)
def test_settings_that_do_not_touch_cleaning_leave_it(
    texts: Path, tmp_path: Path, changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun([texts], tmp_path / "c")
    settings = replace(SMALL, **changed)
    with monkeypatch.context() as patch:
        seen = Seen("clean", patch)
        prepare([texts], output=tmp_path / "c", settings=settings, workers=1)
    assert seen.files == []
    prepare([texts], output=tmp_path / "whole", settings=settings, workers=1)
    assert content(tmp_path / "c") == content(tmp_path / "whole")


def test_what_was_encoded_stays_if_only_the_licence_changes(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        before = Seen("encode", patch, 3)
        with pytest.raises(KeyboardInterrupt):
            prepare([texts], output=tmp_path / "c", settings=SMALL, workers=1)
    settings = replace(SMALL, licence="CC0")
    with monkeypatch.context() as patch:
        after = Seen("encode", patch)
        prepare([texts], output=tmp_path / "c", settings=settings, workers=1)
    with monkeypatch.context() as patch:
        every = Seen("encode", patch)
        prepare([texts], output=tmp_path / "whole", settings=settings, workers=1)
    assert before.files + after.files == every.files
    assert content(tmp_path / "c") == content(tmp_path / "whole")


def test_parts_and_sources_get_other_numbers(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(texts.iterdir())
    begun(files[1:], tmp_path / "c")
    turned = [files[3], files[0], files[2], files[1]]  # one is new, one is gone, all are moved
    with monkeypatch.context() as patch:
        seen = Seen("clean", patch)
        manifest = prepare(turned, output=tmp_path / "c", settings=SMALL, workers=1)
    prepare(turned, output=tmp_path / "whole", settings=SMALL, workers=1)
    assert "2.txt" not in seen.files
    assert "0.txt" in seen.files
    assert [source["name"] for source in manifest["sources"]] == list(map(str, turned))
    assert content(tmp_path / "c") == content(tmp_path / "whole")


def test_replaced_bytes_are_not_taken_for_strict_ones(texts: Path, tmp_path: Path) -> None:
    (texts / "5.txt").write_bytes(b"bad \xfe\xff bytes in this document\n")
    begun([texts], tmp_path / "c", replace(SMALL, encoding_errors="replace"))
    with pytest.raises(DataError, match="0xfe"):
        prepare([texts], output=tmp_path / "c", settings=SMALL, workers=1)


def test_a_damaged_part_is_cleaned_again(texts: Path, tmp_path: Path) -> None:
    begun([texts], tmp_path / "c")
    file = tmp_path / "c.partial" / "texts" / "00001" / "texts.bin"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(ElectraError, match="00001 is not as it was written; remove it, and run"):
        prepare([texts], output=tmp_path / "c", settings=replace(SMALL), workers=1)
    settings = replace(SMALL, vocab_size=130)
    prepare([texts], output=tmp_path / "c", settings=settings, workers=1)
    prepare([texts], output=tmp_path / "whole", settings=settings, workers=1)
    assert content(tmp_path / "c") == content(tmp_path / "whole")


class _Killed(BaseException):
    """Nothing of the process runs any more."""


KILLED_AT = ("rmtree", "unlink", "rename", "replace", "write_text", "mkdir")


@pytest.mark.parametrize("other", [False, True], ids=["same", "other settings"])
def test_killed_at_any_change_of_the_folder(
    texts: Path, tmp_path: Path, other: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the n-th change of the file system, for many n, nothing more is changed."""
    import shutil

    monkeypatch.setattr(electra.prepare, "PART_BYTES", 10**6)
    files = [texts / "0.txt", texts / "1.txt"]
    tables = [{"path": str(file), "weight": 1} for file in files]  # two parts
    later = replace(SMALL, min_chars=30, vocab_size=130) if other else SMALL
    prepare(tables=tables, output=tmp_path / "whole", settings=later, workers=1)
    output = tmp_path / "c"
    stop = 0
    while True:
        stop += 3 if other else 2
        count = 0

        def killing(usual: Any, limit: int) -> Any:
            def change(*arguments: Any, **named: Any) -> Any:
                nonlocal count
                count += 1
                if count >= limit:
                    raise _Killed
                return usual(*arguments, **named)

            return change

        with monkeypatch.context() as patch:
            for name in KILLED_AT:
                owner: Any = shutil if name == "rmtree" else Path
                patch.setattr(owner, name, killing(getattr(owner, name), stop))
            try:
                prepare(tables=tables, output=output, settings=SMALL, workers=1)
                killed = False
            except _Killed:
                killed = True
        if killed:
            assert not output.exists() or (output / "manifest.json").is_file()
        if not output.exists():
            prepare(tables=tables, output=output, settings=later, workers=1)
            assert content(output) == content(tmp_path / "whole"), stop
        shutil.rmtree(output)
        shutil.rmtree(tmp_path / "c.partial", ignore_errors=True)
        if not killed:
            break
    assert stop > 20


def test_all_is_done_but_the_name(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare([texts], output=tmp_path / "whole", settings=SMALL, workers=1)

    def killed(_: Path) -> None:
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(electra.prepare, "clear", killed)
        with pytest.raises(_Killed):
            prepare([texts], output=tmp_path / "c", settings=SMALL, workers=1)
    with monkeypatch.context() as patch:
        patch.setattr(electra.prepare, "_work", None)  # not called
        prepare([texts], output=tmp_path / "c", settings=SMALL, workers=1)
    assert content(tmp_path / "c") == content(tmp_path / "whole")


_SLOW = """
import sys, time
import electra.corpus.stages as stages, electra.corpus.worker as worker
def slow(plan, number, tick):
    (plan.folder / f"pid-{number}").write_text(str(__import__("os").getpid()))
    print("a library says hello")
    if sys.argv[2:] == ["speak"]:
        return
    time.sleep(60)
stages.STAGES["clean"] = slow
worker.main(sys.argv[1])
"""


def written_plan(texts: Path, folder: Path, part_bytes: int = 4_000) -> Plan:
    folder.mkdir()
    files = tuple(map(str, sorted(texts.iterdir())))
    source = Source(name="texts", files=files, sizes=tuple(Path(f).stat().st_size for f in files))
    parts = plan_parts([source], part_bytes)
    plan = Plan(folder, SMALL, (source,), parts, part_keys(SMALL, [source], parts))
    plan.write()
    return plan


def test_workers_end_with_a_parent_that_is_killed(texts: Path, tmp_path: Path) -> None:
    plan = written_plan(texts, tmp_path / "work")
    parent = (
        "import subprocess, sys, time\n"
        "for n in '01':\n"
        "    p = subprocess.Popen([sys.executable, *sys.argv[1:]], stdin=subprocess.PIPE,\n"
        "        stdout=subprocess.DEVNULL, start_new_session=True)\n"
        "    p.stdin.write(f'clean {n}\\n'.encode()); p.stdin.flush()\n"
        "    globals()[f'kept{n}'] = p\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", parent, "-c", _SLOW, str(plan.folder)]
    process = subprocess.Popen(command)
    files = [plan.folder / f"pid-{n}" for n in (0, 1)]
    end = time.monotonic() + 60
    while not all(file.is_file() and file.read_text() for file in files):
        assert time.monotonic() < end
        time.sleep(0.05)
    workers = [int(file.read_text()) for file in files]
    process.send_signal(signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 2
    while any(map(alive, workers)):
        assert time.monotonic() < end, "a worker outlived who started it"
        time.sleep(0.05)


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_what_libraries_print_is_not_for_the_parent(texts: Path, tmp_path: Path) -> None:
    plan = written_plan(texts, tmp_path / "work")
    command = [sys.executable, "-c", _SLOW, str(plan.folder), "speak"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write("clean 0\n")
        process.stdin.flush()
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.stdin.close()
        assert lines == [{"bytes": 0}, {"done": 0}]
        assert process.wait() == 1
        assert process.stderr.read() == "a library says hello\n"


def test_a_worker_that_is_killed_is_named_by_its_file(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a worker ends as if there had been no memory: a file named json.py in its way does not count
    monkeypatch.chdir(tmp_path)
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    start = electra.corpus.worker._start

    def killed(*arguments: Any, **named: Any) -> Any:
        process = start(*arguments, **named)
        process.kill()
        return process

    prepare([texts], output=tmp_path / "c", settings=SMALL, workers=2)
    monkeypatch.setattr(electra.corpus.worker, "_start", killed)
    with pytest.raises(ElectraError, match=r"(texts/\d\.txt ended|that prepared text has ended)"):
        prepare([texts], output=tmp_path / "d", settings=SMALL, workers=2)


def test_a_plan_is_read_a_part_at_a_time(texts: Path, tmp_path: Path) -> None:
    plan = written_plan(texts, tmp_path / "work")
    read = Plan.read(plan.folder)
    assert list(read.parts) == list(plan.parts)
    assert read.parts[1:3] == list(plan.parts[1:3])
    assert list(read.keys) == list(plan.keys)
    assert plan.is_written()
    assert not replace(plan, settings=replace(SMALL, licence="CC0")).is_written()
    small = written_plan(texts, tmp_path / "small", 10**6)  # no file is cut
    assert [len(source.files) for source in Plan.read(small.folder).sources] == [0]
    assert [len(part.pieces) for part in Plan.read(small.folder).parts] == [5]


@pytest.mark.parametrize("where", ["clean", "encode", "select", "tokenizer", "spool"])
def test_a_full_disk_is_one_line(
    texts: Path, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    def full_in_rust(*_: Any, **__: Any) -> Any:
        raise Exception("No space left on device (os error 28)")

    owner, name = {
        "clean": (electra.corpus.stages, "TextWriter"),
        "encode": (electra.corpus.stages, "ShardWriter"),
        "select": (electra.prepare, "select"),
        "tokenizer": (electra.prepare, "train_tokenizer"),
        "spool": (electra.corpus.work_folder, "spool"),
    }[where]
    monkeypatch.setattr(owner, name, full_in_rust if where == "tokenizer" else full)
    given: list[Any] = ["-"] if where == "spool" else [texts]
    with pytest.raises(ElectraError) as caught:
        prepare(given, output=tmp_path / "c", settings=SMALL, workers=1, stdin=io.BytesIO(b"text"))
    message = "c.partial: the disk is full; make room and run the same command"
    assert str(caught.value) == f"{tmp_path}/{message}"
    assert caught.value.exit_code == 1


def test_a_stale_standard_input_is_in_nobodys_way(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun([texts], tmp_path / "c")
    (tmp_path / "c.partial" / "standard-input").mkdir()
    (tmp_path / "c.partial" / "standard-input" / "text.txt").write_text("of another time")
    seen = Seen("clean", monkeypatch)
    prepare([texts], output=tmp_path / "c", settings=SMALL, workers=1)
    assert seen.files == []


def test_tokenizer_and_segmenter_are_checked_before_anything(tmp_path: Path, corpus: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    for settings, message in (
        (PrepareSettings(tokenizer_kind="bbpe"), "--tokenizer-kind is bbpe; did you mean"),
        (PrepareSettings(tokenizer=str(tmp_path / "tokenizer.json")), "is not a tokenizer"),
        (
            PrepareSettings(tokenizer_kind="bpe", segmenter="jieba"),
            "--segmenter jieba needs --tokenizer-kind word_piece",
        ),
    ):
        with pytest.raises((ConfigError, DataError), match=message):
            prepare(["nothing.txt"], output=tmp_path / "c", settings=settings)


def test_evaluation_texts_go_in_any_process(texts: Path, tmp_path: Path) -> None:
    known = (texts / "2.txt").read_text().split("\n\n")
    (tmp_path / "test.txt").write_text(" ".join(known[3].split()))
    cleaning = CleaningSettings(contaminated=(str(tmp_path / "test.txt"),), contamination_words=4)
    settings = replace(SMALL, cleaning=cleaning)
    one = prepare([texts], output=tmp_path / "one", settings=settings, workers=1)
    two = prepare([texts], output=tmp_path / "two", settings=settings, workers=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    (reason,) = (reason for reason in two["removed"] if "evaluation text" in reason)
    assert reason == f"evaluation text: 4 words in {tmp_path / 'test.txt'}"
    assert two["contamination"]["texts"] == 1
    assert two["languages_by"] is None
    assert one == two


def test_languages_are_said_to_be_judged_by(texts: Path, tmp_path: Path) -> None:
    cleaning = CleaningSettings(languages="en", language_model="script")
    settings = replace(SMALL, cleaning=cleaning)
    manifest = prepare([texts], output=tmp_path / "c", settings=settings, workers=1)
    assert manifest["languages_by"] == "script"


def test_rules_that_remove_all_are_named(texts: Path, tmp_path: Path) -> None:
    settings = replace(SMALL, cleaning=CleaningSettings(languages="zh"))
    with pytest.raises(DataError, match=r"no text, and lost 200 \(language: not zh\); at least"):
        prepare([texts], output=tmp_path / "c", settings=settings, workers=1)
    said = str(no_documents(1, SMALL, {"a": 1, "b": 3_000, "c": 2}))
    assert "one document only, and lost 3,000 (b) and 2 (c);" in said


def test_a_weighted_source_that_lost_all_is_refused(texts: Path, tmp_path: Path) -> None:
    (tmp_path / "zh.txt").write_text("这是一个很长的句子，它应该留下。" * 5)
    tables = [
        {"path": str(texts), "name": "english", "weight": 1},
        {"path": str(tmp_path / "zh.txt"), "name": "chinese", "weight": 1},
    ]
    settings = replace(SMALL, cleaning=CleaningSettings(languages="en"))
    with pytest.raises(DataError, match=r'source "chinese" has a weight, and no .* \(1 language'):
        prepare(tables=tables, output=tmp_path / "c", settings=settings, workers=1)


def test_the_sample_is_from_all_over_and_little_is_read(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun([texts], tmp_path / "c")
    folder = tmp_path / "c.partial"
    plan = Plan.read(folder)
    whole = sum(electra.prepare.selected_bytes(plan, training=True))
    read: list[str] = []
    usual = TextStore.texts

    def counted(store: TextStore, chosen: Any) -> Any:
        for text in usual(store, chosen):
            read.append(text)
            yield text

    monkeypatch.setattr(TextStore, "texts", counted)
    ticks: list[int] = []
    sample = list(electra.prepare.tokenizer_sample(plan, whole // 4, ticks.append))
    size = sum(len(text.encode()) for text in sample)
    assert size == sum(ticks)
    assert 0.12 * whole < size < 0.4 * whole
    assert sum(map(len, read)) < 0.4 * whole
    where = {path.name for path in texts.iterdir() for piece in sample if piece in path.read_text()}
    assert len(where) == 5
    unseen = list(electra.prepare.tokenizer_sample(plan, whole // 4, ticks.append, unseen=True))
    assert 0.12 * whole < sum(len(text.encode()) for text in unseen) < 0.4 * whole
    assert not set(sample) & set(unseen)


def test_far_texts_are_passed_over(tmp_path: Path) -> None:
    with TextWriter(tmp_path / "a") as writer:
        for n in range(50):
            text = f"{n} " * 10_000
            writer.add(text, text.encode(), bytes(16))
        writer.finish({})
    import numpy as np

    chosen = np.zeros(50, dtype=bool)
    chosen[[0, 1, 20, 49]] = True
    assert [text.split()[0] for text in TextStore(tmp_path / "a").texts(chosen)] == [
        "0",
        "1",
        "20",
        "49",
    ]


@pytest.mark.parametrize(
    ("size", "wanted"),
    [(10**6, 4_000_000), (3 * 10**8, 8_000_000), (1.1 * 10**9, 32_000_000), (10**12, 64_000_000)],
)
def test_parts_of_small_corpora_are_small(
    size: float, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(electra.prepare, "PART_BYTES", 64_000_000)
    source = Source(name="a", files=("a.txt",), sizes=(int(size),))
    assert electra.prepare._part_bytes([source]) == wanted


def test_too_many_sources_are_one_line(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(electra.prepare, "MOST_SOURCES", 4)
    with pytest.raises(DataError, match="5 sources are given; allowed: 4: give their folder, or"):
        prepare(sorted(texts.iterdir()), output=tmp_path / "c", settings=SMALL)


def test_of_thousands_of_sources_twenty_are_shown(texts: Path, tmp_path: Path) -> None:
    manifest = prepare([texts], output=tmp_path / "c", settings=SMALL, workers=1)
    of_one = manifest["sources"][0]
    sources = [of_one | {"name": f"name-{n}", "tokens": n % 100} for n in range(1_000)]
    said = io.StringIO()
    tell(manifest | {"sources": sources}, tmp_path / "c", Console(file=said, width=200))
    assert said.getvalue().count("name-") == 20
    assert "and 980 more sources: see manifest.json" in said.getvalue()


FLAGS = """
vocab_size = 150
min_chars = 5
deduplicate = false

[cleaning]
symbols = false
c4 = true
"""


def settings_of(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str = ""
) -> PrepareSettings:
    """What the command line makes of flags."""
    found: list[PrepareSettings] = []

    def taken(*_: Any, settings: PrepareSettings, **__: Any) -> None:
        found.append(settings)

    monkeypatch.setattr(electra.prepare, "prepare", taken)
    command = ["prepare", *arguments.split(), "--output", str(tmp_path / "c")]
    if recipe:
        (tmp_path / "r.toml").write_text(recipe)
        command += ["--recipe", str(tmp_path / "r.toml")]
    assert run(command) == 0
    return found[0]


def test_flags_of_cleaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = "--cleaning.c4 x.txt --cleaning.no-symbols --cleaning.contaminated a y.txt"
    settings = settings_of(f"{flags} --cleaning.language-share=0.7", tmp_path, monkeypatch)
    wanted = CleaningSettings(c4=True, symbols=False, contaminated=("a",), language_share=0.7)
    assert settings.cleaning == wanted


def test_a_flag_of_cleaning_does_what_it_says(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (texts / "9.txt").write_text("这是一个很长的句子，它应该留下。" * 5)
    command = ["prepare", "--cleaning.languages", "en", "--cleaning.markup", str(texts)]
    assert run([*command, "--output", str(tmp_path / "c"), "--vocab-size", "120"]) == 0
    manifest = json.loads((tmp_path / "c" / "manifest.json").read_text())
    assert manifest["removed"]["language: not en"] == 1
    assert manifest["settings"]["cleaning"]["markup"] is True
    assert run([*command, "--output", str(tmp_path / "d"), "--cleaning.cc4"]) == 2
    assert "Did you mean --cleaning.c4" in capsys.readouterr().err


def test_flags_at_their_defaults_win_over_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = settings_of("x", tmp_path, monkeypatch, FLAGS)
    assert (none.vocab_size, none.min_chars, none.deduplicate) == (150, 5, False)
    assert (none.cleaning.symbols, none.cleaning.c4) == (False, True)
    flags = "--vocab-size 16384 --deduplicate --cleaning.symbols --cleaning.no-c4 x"
    given = settings_of(flags, tmp_path, monkeypatch, FLAGS)
    assert (given.vocab_size, given.min_chars, given.deduplicate) == (16_384, 5, True)
    assert (given.cleaning.symbols, given.cleaning.c4) == (True, False)


@pytest.mark.parametrize("sources", ['["a.txt"]', '"a.txt"', "3"])
def test_sources_that_are_no_tables(
    tmp_path: Path, sources: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.toml").write_text(f"sources = {sources}\n")
    recipe = ["--recipe", str(tmp_path / "r.toml")]
    assert run(["prepare", *recipe, "--output", str(tmp_path / "c")]) == 2
    shown = capsys.readouterr().err
    assert "allowed: a table [[sources]] for each" in shown
    assert shown.count("\n") == 1


def test_tiny_files_do_not_fill_the_memory() -> None:
    """A million of them have to fit; here some thousands, by the bytes of each."""
    import tracemalloc

    files = tuple(f"/data/tiny/{n:07d}.txt" for n in range(5_000))
    source = Source(name="tiny", files=files, sizes=(500,) * len(files))
    tracemalloc.start()
    parts = plan_parts([source], 4_000_000)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(parts) == 1
    assert held / len(files) < 1_000


def test_a_work_that_is_left_has_no_plan_before_it_has_no_texts(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun([texts], tmp_path / "c")
    folder = tmp_path / "c.partial"
    found: list[bool] = []
    usual = electra.corpus.work_folder.remove_folder

    def watched(place: Path) -> None:
        found.append((folder / "plan.json").exists())
        usual(place)

    monkeypatch.setattr(electra.corpus.work_folder, "remove_folder", watched)
    electra.corpus.work_folder.leave(
        folder, Console(quiet=True), by_mistake=False, standard_input=True
    )
    assert found == [False]
    assert not os.path.exists(folder)
