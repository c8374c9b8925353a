"""Many parts: any number of processes, killed and resumed, gives the same bytes."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import electra.corpus.stages
import electra.prepare
from electra.config import PrepareSettings
from electra.corpus.batches import CorpusSource
from electra.corpus.examples import Examples
from electra.corpus.folder import Corpus
from electra.corpus.tokenizer import SpecialIds, load_tokenizer
from electra.corpus.work_folder import locked
from electra.errors import ConfigError, DataError, OutputExistsError
from electra.prepare import prepare
from tests.conftest import make_text

SMALL = PrepareSettings(vocab_size=120, validation_share=0.1, near_duplicates=True)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Three files; the second repeats much of the first."""
    folder = tmp_path / "texts"
    folder.mkdir()
    first = make_text(150, seed=1)
    (folder / "a.txt").write_text(first)
    rows = [{"text": text} for text in [*first.split("\n\n")[:40], *make_text(60, 2).split("\n\n")]]
    (folder / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "c.txt").write_text(make_text(30, seed=3))
    return folder


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(electra.prepare, "PART_BYTES", 4_000)
    monkeypatch.setattr(electra.prepare, "ALONE_BYTES", 0)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_any_number_of_workers_gives_the_same_bytes(texts: Path, tmp_path: Path) -> None:
    one = prepare([texts], output=tmp_path / "one", settings=SMALL, workers=1)
    three = prepare([texts], output=tmp_path / "three", settings=SMALL, workers=3)
    assert one["fingerprint"] == three["fingerprint"]
    assert content(tmp_path / "one") == content(tmp_path / "three")
    names = set(content(tmp_path / "one"))
    assert {"manifest.json", "tokenizer.json"} < names
    assert all(name.endswith(".bin") for name in names - {"manifest.json", "tokenizer.json"})
    assert len(one["splits"]["train"]["shards"]) > 5
    assert one["removed"]["exact duplicate"] == 40
    assert not list(tmp_path.glob("*.partial"))


def test_how_the_text_is_cut_does_not_matter(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = prepare([texts], output=tmp_path / "cut", settings=SMALL, workers=1)
    monkeypatch.setattr(electra.prepare, "PART_BYTES", 10**9)
    whole = prepare([texts], output=tmp_path / "whole", settings=SMALL, workers=1)
    assert len(whole["splits"]["train"]["shards"]) == 1
    for name in ("tokenizer_sha256", "removed", "sources", "tokenizer_report", "unknown_share"):
        assert cut[name] == whole[name], name
    for split in ("train", "validation"):
        tokens = []
        for folder in ("cut", "whole"):
            found = Corpus(tmp_path / folder).split(split)
            tokens.append(
                [found.tokens(i, 0, shard.tokens) for i, shard in enumerate(found.shards)]
            )
        assert np.concatenate(tokens[0]).tolist() == np.concatenate(tokens[1]).tolist()


_SCRIPT = """
import sys, electra.prepare as p
from electra.config import PrepareSettings
p.PART_BYTES, p.ALONE_BYTES = 4_000, 0
settings = PrepareSettings(vocab_size=120, validation_share=0.1, near_duplicates=True)
p.prepare([sys.argv[1]], output=p.Path(sys.argv[2]), settings=settings, workers=2)
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(texts: Path, tmp_path: Path) -> None:
    prepare([texts], output=tmp_path / "whole", settings=SMALL, workers=1)
    command = [sys.executable, "-c", _SCRIPT, str(texts), str(tmp_path / "killed")]
    started = time.monotonic()
    subprocess.run(command, check=True)
    usual = time.monotonic() - started
    moments = random.Random(0)
    kills = 0
    for round_number in range(4):
        output = tmp_path / f"killed-{round_number}"
        command[-1] = str(output)
        while not output.is_dir():
            process = subprocess.Popen(command)
            try:
                process.wait(timeout=moments.uniform(0.15, 0.9) * usual)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
        assert content(output) == content(tmp_path / "whole")
    assert kills


def stopped_after(count: int, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C when so many parts have gone through a stage."""
    usual = electra.corpus.stages.STAGES[stage]
    calls: list[int] = []

    def counted(plan: Any, number: int, tick: Any) -> None:
        if len(calls) == count:
            raise KeyboardInterrupt
        calls.append(number)
        usual(plan, number, tick)

    monkeypatch.setitem(electra.corpus.stages.STAGES, stage, counted)  # type: ignore[arg-type]


@pytest.mark.parametrize("stage", ["clean", "encode"])
def test_an_interrupted_one_goes_on_with_what_is_missing(
    texts: Path, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare([texts], output=tmp_path / "whole", settings=SMALL, workers=1)
    console = Console(file=io.StringIO(), width=200)
    with monkeypatch.context() as patch:
        stopped_after(4, stage, patch)
        with pytest.raises(KeyboardInterrupt):
            prepare([texts], output=tmp_path / "c", settings=SMALL, workers=1, console=console)
    assert not (tmp_path / "c").exists()
    work = tmp_path / "c.partial"
    assert "what is done is kept in" in console.file.getvalue()  # type: ignore[attr-defined]
    done = sorted((work / ("texts" if stage == "clean" else "encoded")).iterdir())
    assert len(done) == 4
    before = {path.name: path.stat().st_mtime_ns for path in done}
    seen: list[int] = []
    usual = electra.corpus.stages.STAGES[stage]

    def watched(plan: Any, number: int, tick: Any) -> None:
        seen.append(number)
        usual(plan, number, tick)

    monkeypatch.setitem(electra.corpus.stages.STAGES, stage, watched)  # type: ignore[arg-type]
    prepare([texts], output=tmp_path / "c", settings=SMALL, workers=1, console=console)
    assert len(before) == 4
    assert not {int(name[:5]) for name in before} & set(seen)
    assert "going on in" in console.file.getvalue()  # type: ignore[attr-defined]
    assert content(tmp_path / "c") == content(tmp_path / "whole")


def test_other_settings_begin_again(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stopped_after(4, "clean", patch)
        with pytest.raises(KeyboardInterrupt):
            prepare([texts], output=tmp_path / "c", settings=SMALL, workers=1)
    console = Console(file=io.StringIO(), width=200)
    settings = PrepareSettings(vocab_size=120, min_chars=30)
    prepare([texts], output=tmp_path / "c", settings=settings, workers=1, console=console)
    assert "was begun otherwise: beginning again" in console.file.getvalue()  # type: ignore[attr-defined]
    prepare([texts], output=tmp_path / "whole", settings=settings, workers=1)
    assert content(tmp_path / "c") == content(tmp_path / "whole")


def test_a_file_that_is_changed_meanwhile_is_not_mixed_with_itself(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stopped_after(2, "clean", patch)
        with pytest.raises(KeyboardInterrupt):
            prepare([texts], output=tmp_path / "c", settings=SMALL, workers=1)
    changed = (texts / "a.txt").read_text().replace("e", "i")  # as long as before
    (texts / "a.txt").write_text(changed)
    later = time.time_ns() + 10**9
    os.utime(texts / "a.txt", ns=(later, later))
    prepare([texts], output=tmp_path / "c", settings=SMALL, workers=1)
    prepare([texts], output=tmp_path / "whole", settings=SMALL, workers=1)
    assert content(tmp_path / "c") == content(tmp_path / "whole")


def test_two_at_once_are_refused(texts: Path, tmp_path: Path) -> None:
    writing = "another electra prepare is writing"
    with (
        locked(tmp_path / "c.partial", tmp_path / "c"),
        pytest.raises(OutputExistsError, match=writing),
    ):
        prepare([texts], output=tmp_path / "c", settings=SMALL)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_mistake_in_one_part_is_named_and_the_rest_is_kept(
    texts: Path, tmp_path: Path, workers: int
) -> None:
    bad = texts / "d.jsonl"
    bad.write_text('{"text": "a good row of text"}\n[1, 2]\n')
    with pytest.raises(DataError, match=r"d\.jsonl line 2"):
        prepare([texts], output=tmp_path / "c", settings=SMALL, workers=workers)
    assert not (tmp_path / "c").exists()
    assert not (tmp_path / "c.partial" / "manifest.json").exists()
    bad.write_text('{"text": "a good row of text"}\n')
    manifest = prepare([texts], output=tmp_path / "c", settings=SMALL, workers=workers)
    assert manifest["read"] == 281


def test_sources_have_their_counts_and_lose_to_one_another(texts: Path, tmp_path: Path) -> None:
    files = [texts / "a.txt", texts / "b.jsonl"]
    manifest = prepare(files, output=tmp_path / "c", settings=SMALL)
    one, other = manifest["sources"]
    assert (one["read"], other["read"], other["documents"]) == (150, 100, 60)
    assert manifest["between_sources"] == [
        {
            "reason": "exact duplicate",
            "of": str(files[1]),
            "for": str(files[0]),
            "documents": 40,
        }
    ]
    assert len(manifest["examples"]["exact duplicate"]) == 3
    assert Corpus(tmp_path / "c").weights is None


def test_weights_are_kept_from_the_first_example_on(texts: Path, tmp_path: Path) -> None:
    tables = [
        {"path": str(texts / "a.txt"), "name": "long", "weight": 1},
        {"path": str(texts / "c.txt"), "name": "short", "weight": 3},
    ]
    manifest = prepare(tables=tables, output=tmp_path / "c", settings=SMALL)
    assert [source["name"] for source in manifest["sources"]] == ["long", "short"]
    corpus = Corpus(tmp_path / "c")
    assert corpus.weights == [1.0, 3.0]
    special = SpecialIds.of(load_tokenizer(tmp_path / "c"))
    examples = Examples(corpus.split("train"), special, max_length=32, kind="packed")
    ranges = examples.source_ranges(2)
    assert ranges[0][1] == ranges[1][0]
    assert ranges[1][1] == len(examples)
    stream = CorpusSource(examples, seed=1, weights=corpus.weights, with_ids=True)
    ids = stream.batch(0, 200)["example_ids"].numpy()
    short = (ids >= ranges[1][0]).cumsum()
    times = np.arange(1, 201)
    assert (np.abs(short - 0.75 * times) < 1).all()
    again = stream.batch(150, 20)["example_ids"].numpy()
    assert again.tolist() == ids[150:170].tolist()


def test_a_weight_for_one_source_alone(texts: Path, tmp_path: Path) -> None:
    tables = [{"path": str(texts / "a.txt"), "weight": 1}, {"path": str(texts / "c.txt")}]
    with pytest.raises(ConfigError, match=r"c\.txt\" has no weight, and others have; give all"):
        prepare(tables=tables, output=tmp_path / "c", settings=SMALL)
    assert not list(tmp_path.glob("c*"))


def test_standard_input(tmp_path: Path) -> None:
    text = io.BytesIO(make_text(60).encode())
    manifest = prepare(["-"], output=tmp_path / "c", settings=SMALL, stdin=text)
    assert manifest["read"] == 60
    (tmp_path / "a.txt").write_text(make_text(60))
    named = prepare([tmp_path / "a.txt"], output=tmp_path / "d", settings=SMALL)
    assert manifest["fingerprint"] == named["fingerprint"]
    assert not list(tmp_path.glob("*.partial"))


def test_near_duplicates_go_where_asked(tmp_path: Path) -> None:
    generator = random.Random(0)
    words = [f"word{i}" for i in range(500)]
    documents = [generator.choices(words, k=200) for _ in range(20)]
    changed = [[*d[:100], "changed", *d[101:]] for d in documents[:10]]
    rows = [" ".join(d) for d in documents + changed]
    (tmp_path / "a.txt").write_text("\n\n".join(rows))
    for asked, left in ((False, 30), (True, 20)):
        settings = PrepareSettings(vocab_size=600, near_duplicates=asked)
        manifest = prepare([tmp_path / "a.txt"], output=tmp_path / str(asked), settings=settings)
        assert sum(s["documents"] for s in manifest["splits"].values()) == left
        assert manifest["removed"].get("near-duplicate", 0) == 30 - left


@pytest.mark.parametrize("kind", ["word_piece", "bpe", "unigram"])
def test_kinds_of_tokenizers(texts: Path, tmp_path: Path, kind: str) -> None:
    settings = PrepareSettings(vocab_size=400, tokenizer_kind=kind)
    manifest = prepare([texts], output=tmp_path / "c", settings=settings, workers=1)
    assert manifest["language"]["kind"] == kind
    tokenizer = load_tokenizer(tmp_path / "c")
    corpus = Corpus(tmp_path / "c").split("train")
    first = corpus.tokens(0, 0, int(corpus.offsets[0][1]) - 1).tolist()
    shown = " ".join(tokenizer.decode(first).split())
    everything = " ".join((texts / "a.txt").read_text().split())
    assert shown in (everything if kind != "word_piece" else everything.lower())
