"""Exact and near-duplicates against plain Python, in all cuts into parts, and after a kill."""

import errno
import itertools
import random
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import networkx
import numpy as np
import pytest
from numpy.typing import NDArray

from electra.corpus import bands, duplicates, findings
from electra.corpus.bands import BandWriter, read_band
from electra.corpus.duplicates import find_exact_duplicates, find_near_duplicates
from electra.corpus.findings import Duplicates
from electra.corpus.minhash import signature_bands
from electra.corpus.spill import Spill
from electra.errors import DataError

Rows = NDArray[np.uint64]
CUTS = ([0, 300], [0, 0, 1, 120, 120, 299, 300], [0, 150, 300, 300])


def write_parts(
    folder: Path, kind: str, rows: NDArray[np.generic], cuts: Sequence[int]
) -> list[Path]:
    """The rows, cut into parts, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, (start, end) in enumerate(itertools.pairwise(cuts)):
        path = folder / f"{number}-{kind}.bin"
        if kind == "bands":
            with BandWriter(path, rows.shape[1]) as writer:
                for keys in rows[start:end]:
                    writer.append(keys)
        else:
            path.write_bytes(rows[start:end].tobytes())
        files.append(path)
    return files


def flags_of(found: Duplicates) -> NDArray[np.bool_]:
    parts = [found.part(number) for number in range(len(found.files))]
    assert found.repeats == [int(part.sum()) for part in parts]
    return np.concatenate(parts)


def digests(draw: random.Random, count: int) -> NDArray[np.uint64]:
    """Rows of two numbers, many of them repeats, many alike in one half only."""
    some = [draw.getrandbits(64) for _ in range(12)]
    return np.array([[draw.choice(some), draw.choice(some)] for _ in range(count)], dtype="<u8")


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("bucket_size", [1, 7, 100, 10_000])
def test_exact_by_hand(tmp_path: Path, cuts: list[int], bucket_size: int) -> None:
    draw = random.Random(bucket_size)
    rows = digests(draw, 300)
    sources = np.array([draw.choice([0, 1, 300]) for _ in range(300)], dtype="<u2")
    shares: list[float] = []
    found = find_exact_duplicates(
        write_parts(tmp_path, "digests", rows, cuts),
        tmp_path,
        source_files=write_parts(tmp_path, "sources", sources, cuts),
        bucket_size=bucket_size,
        progress=shares.append,
    )
    first: dict[tuple[int, ...], int] = {}
    repeats, pairs, kept = [], Counter[tuple[int, int]](), []
    for number, row in enumerate(rows.tolist()):
        stays = first.setdefault(tuple(row), number)
        repeats.append(stays != number)
        if stays != number:
            pairs[int(sources[number]), int(sources[stays])] += 1
            kept.append((number, stays))
    assert flags_of(found).tolist() == repeats
    assert 100 < sum(repeats) < 250
    assert found.pairs == pairs
    places = [tuple(cuts[part] + at for part, at in example) for example in found.examples]
    assert places == kept[:3]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_two_million(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 2**63, (2_000_000, 2), dtype=np.uint64)
    rows[1_500_000:] = rows[:500_000]
    files = write_parts(tmp_path, "digests", rows, [0, 700_000, 2_000_000])
    found = find_exact_duplicates(files, tmp_path, bucket_size=2**17)
    assert found.repeats == [0, 500_000]
    assert found.pairs == {(0, 0): 500_000}
    assert found.part(1)[800_000:].all()
    assert found.examples[0] == ((1, 800_000), (0, 0))
    assert not list(tmp_path.rglob("spill"))


@pytest.mark.parametrize("distinct", [400_000, 3])
def test_memory_is_flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distinct: int) -> None:
    """Memory does not grow with the records, a byte for each apart, even if all are the same."""
    monkeypatch.setattr(duplicates, "_CHUNK", 2**12)
    count = 400_000
    rows = np.zeros((count, 2), dtype="<u8")
    rows[:, 0] = np.random.default_rng(0).permutation(count).astype(np.uint64) % distinct << 45
    files = write_parts(tmp_path, "digests", rows, range(0, count + 1, count // 10))
    tracemalloc.start()
    try:
        found = find_exact_duplicates(files, tmp_path, bucket_size=2**13)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(found.repeats) == count - distinct
    # measured: 1.4 MB above the flags; the records are 9.6 MB
    assert peak < count + 2_500_000


def near_by_hand(keys: Rows, left_out: Sequence[bool]) -> list[int]:
    """For each document the first one of its cluster."""
    graph = networkx.Graph()
    graph.add_nodes_from(range(len(keys)))
    for band in range(keys.shape[1]):
        seen: dict[int, int] = {}
        for number, key in enumerate(keys[:, band].tolist()):
            if not left_out[number]:
                graph.add_edge(number, seen.setdefault(key, number))
    first = list(range(len(keys)))
    for cluster in networkx.connected_components(graph):
        for number in cluster:
            first[number] = min(cluster)
    return first


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("bucket_size", [5, 10_000])
def test_near_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuts: list[int], bucket_size: int
) -> None:
    monkeypatch.setattr(bands, "BLOCK", 32)
    draw = random.Random(7)
    some = [[draw.getrandbits(64) for _ in range(250)] for _ in range(3)]
    keys = np.array([[draw.choice(of) for of in some] for _ in range(300)], dtype=np.uint64)
    keys[:, 1:] = np.where(
        np.random.default_rng(1).random((300, 2)) < 0.9,
        np.random.default_rng(2).integers(0, 2**63, (300, 2), dtype=np.uint64),
        keys[:, 1:],
    )
    left_out = np.array([draw.random() < 0.2 for _ in range(300)])
    sources = np.array([draw.choice([0, 5]) for _ in range(300)], dtype="<u2")
    for number, (start, end) in enumerate(itertools.pairwise(cuts)):
        findings.write_flags(tmp_path, number, left_out[start:end])
    found = find_near_duplicates(
        write_parts(tmp_path, "bands", keys, cuts),
        tmp_path,
        bands=3,
        left_out=sorted(tmp_path.glob("part-*.npy")),
        source_files=write_parts(tmp_path, "sources", sources, cuts),
        bucket_size=bucket_size,
    )
    first = near_by_hand(keys, left_out.tolist())
    dropped = [number for number, stays in enumerate(first) if stays != number]
    assert np.flatnonzero(flags_of(found)).tolist() == dropped
    assert 30 < len(dropped) < 240
    assert len({first[number] for number in dropped}) > 20  # not one cluster
    assert found.pairs == Counter((int(sources[n]), int(sources[first[n]])) for n in dropped)
    places = [tuple(cuts[part] + at for part, at in example) for example in found.examples]
    assert places == [(n, first[n]) for n in dropped[:3]]


def test_a_long_chain_is_one_cluster(tmp_path: Path) -> None:
    """Each shares a key with the next one alone, in one band or the other."""
    count = 20_001
    order = np.random.default_rng(3).permutation(count).astype(np.uint64)
    keys = np.stack((order // 2, (order + 1) // 2), axis=1) << np.uint64(45)
    files = write_parts(tmp_path, "bands", keys, [0, 10_000, count])
    found = find_near_duplicates(files, tmp_path, bands=2, bucket_size=1_000)
    assert flags_of(found).tolist() == [False] + [True] * (count - 1)


def test_near_texts(tmp_path: Path) -> None:
    draw = random.Random(8)
    words = [f"w{n}" for n in range(3_000)]
    texts = [" ".join(draw.choices(words, k=300)) for _ in range(20)]
    changed = texts[3].replace(texts[3].split()[150], "other", 1)
    texts += [changed, texts[5].upper() + "!", " ".join(draw.sample(texts[7].split(), 300))]
    keys = np.array([signature_bands(text) for text in texts])
    found = find_near_duplicates(
        write_parts(tmp_path, "bands", keys, [0, 21, 23]), tmp_path, bands=14
    )
    assert np.flatnonzero(flags_of(found)).tolist() == [20, 21]
    assert found.examples == [((0, 20), (0, 3)), ((1, 0), (0, 5))]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_kill_leaves_nothing_that_looks_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_parts(tmp_path, "digests", digests(random.Random(0), 300), CUTS[1])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(findings, "json", None)  # the report is the last file
        with pytest.raises(AttributeError):
            find_exact_duplicates(files, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(duplicates, "repeats_of", killed)
        with pytest.raises(KeyboardInterrupt):
            find_exact_duplicates(files, tmp_path)
    assert not (tmp_path / "exact").exists()
    assert (tmp_path / "exact.partial").is_dir()
    find_exact_duplicates(files, tmp_path)
    once = contents(tmp_path / "exact")
    assert not (tmp_path / "exact.partial").exists()
    with monkeypatch.context() as patched:
        patched.setattr(duplicates, "repeats_of", killed)
        again = find_exact_duplicates(files, tmp_path)  # what is there is read
    assert contents(tmp_path / "exact") == once
    assert len(again.files) == 6


def test_a_part_written_anew_is_looked_at_again(tmp_path: Path) -> None:
    rows = digests(random.Random(0), 300)
    files = write_parts(tmp_path, "digests", rows, CUTS[0])
    before = find_exact_duplicates(files, tmp_path)
    rows[:, 0] = np.arange(300)
    files = write_parts(tmp_path, "digests", rows, CUTS[0])
    assert before.repeats[0] > 100
    assert find_exact_duplicates(files, tmp_path).repeats == [0]


def test_no_documents(tmp_path: Path) -> None:
    rows = np.empty((0, 2), dtype="<u8")
    files = write_parts(tmp_path, "digests", rows, [0, 0])
    assert find_exact_duplicates(files, tmp_path).part(0).tolist() == []
    files = write_parts(tmp_path, "bands", rows, [0, 0])
    assert find_near_duplicates(files, tmp_path, bands=2).repeats == [0]


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = tmp_path / "cut.bin"
    cut.write_bytes(b"x" * 47)
    mend = "delete the work folder and run electra prepare again"
    with pytest.raises(DataError, match=f"cut.bin is cut short: 47 bytes, 16 a document; {mend}$"):
        find_exact_duplicates([cut], tmp_path)
    with pytest.raises(DataError, match=f"cut.bin is cut short: 47 bytes, 24 a document; {mend}$"):
        find_near_duplicates([cut], tmp_path, bands=3)
    cut.write_bytes(b"x" * 48)
    with pytest.raises(DataError, match=f"cut.bin has 24 documents, its part 3; {mend}$"):
        find_exact_duplicates([cut], tmp_path, source_files=[cut])
    with pytest.raises(DataError, match=r"cut\.bin is damaged"):
        find_near_duplicates([cut], tmp_path, bands=2, left_out=[cut])
    findings.write_flags(tmp_path, 0, np.zeros(2, dtype=np.bool_))
    flags = tmp_path / "part-00000.npy"
    with pytest.raises(DataError, match=f"cut.bin has 3 documents, its flags 2; {mend}$"):
        find_near_duplicates([cut], tmp_path, bands=2, left_out=[flags])
    np.save(flags, np.zeros(3))
    with pytest.raises(DataError, match=r"part-00000.npy holds float64 \(3,\), not flags"):
        find_near_duplicates([cut], tmp_path, bands=2, left_out=[flags])

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Spill, "add", full)
    with pytest.raises(
        DataError,
        match=r"exact cannot be written: No space left on device; the search for duplicates takes "
        r"0 MB there: make room and run the command again$",
    ):
        find_exact_duplicates([cut], tmp_path)
    assert not (tmp_path / "exact").exists()


def test_band_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "BLOCK", 4)
    keys = np.arange(30, dtype=np.uint64).reshape(10, 3)
    (file,) = write_parts(tmp_path, "bands", keys, [0, 10])
    for band in range(3):
        blocks = list(read_band(file, 10, 3, band))
        assert [start for start, _ in blocks] == [0, 4, 8]
        assert np.concatenate([found for _, found in blocks]).tolist() == keys[:, band].tolist()
    with pytest.raises(DataError, match="cut short: 4 numbers wanted, 0"):
        list(read_band(file, 12, 3, 2))
    with pytest.raises(IndexError), BandWriter(tmp_path / "torn.bin", 3) as writer:
        writer.append(keys[10])
    assert not list(tmp_path.glob("torn*"))
