"""Packed files: whole, in several streams, cut, damaged."""

import bz2
import gzip
import lzma
import random
import re
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest

from electra.corpus.compression import (
    COMPRESSIONS,
    compression_of,
    read_blocks,
    unpacked_file,
    without_compression,
)
from electra.corpus.documents import read_documents
from electra.corpus.files import ReadReport, kind_of, read_lines, read_rows
from electra.errors import DataError, ElectraError


def zstandard(data: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": zstandard,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
}
# does not shrink to nothing, so that cuts fall inside
NOISE = random.Random(0).randbytes(300_000).hex().encode()


@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_streams_on_end_are_one(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    pack = PACK[ending]
    path.write_bytes(pack(NOISE) + pack(b"") + pack(b"tail" * 700_000))
    blocks = list(read_blocks(path))
    assert b"".join(blocks) == NOISE + b"tail" * 700_000
    assert max(map(len, blocks)) <= 2**20  # what shrinks well is not unpacked at once
    assert all(blocks)
    with unpacked_file(path) as file:
        assert file.read() == b"".join(blocks)
        assert file.seek(5) == 5
    path.write_bytes(b"")
    assert list(read_blocks(path)) == []


@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_every_kind_is_read_packed(tmp_path: Path, ending: str) -> None:
    for name, text in (("a.txt", "one\n\ntwo\n"), ("a.jsonl", '{"text": "one"}\n{"text": "two"}')):
        path = tmp_path / f"{name}{ending}"
        path.write_bytes(PACK[ending](text.encode()))
        assert list(read_documents(path)) == ["one", "two"]
    path = tmp_path / f"a.TSV{ending.upper()}"
    path.write_bytes(PACK[ending](b"text\tn\none\t1\n"))
    assert kind_of(path) == "tsv"
    assert list(read_rows(path)) == [{"text": "one", "n": "1"}]
    assert without_compression("x/a.txt" + ending) == "x/a.txt"
    assert compression_of("x/a.txt") is None


@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_cut_archives_are_named(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.txt{ending}"
    whole = PACK[ending](NOISE)
    path.write_bytes(whole[: len(whole) // 2])
    place = rf"ends early, at byte {len(whole) // 2} \(\d+ bytes unpacked\); get it again"
    with pytest.raises(DataError, match=rf"a\.txt\{ending} is truncated: the \{ending} {place}"):
        list(read_lines(path))
    path.write_bytes(whole + whole[:-3])
    with pytest.raises(DataError, match="is truncated"):
        list(read_lines(path))


@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_damaged_archives_are_named(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.txt{ending}"
    whole = bytearray(PACK[ending](NOISE))
    for place in range(len(whole) // 2, len(whole)):
        whole[place] ^= 0x55
    message = rf"a\.txt\{ending} is not a whole \{ending} file: .*near byte \d+.*get it again"
    for damaged in (bytes(whole), b"no archive at all", PACK[ending](b"x") + b"garbage here"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=message):
            list(read_lines(path))


def test_a_wrong_checksum_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    packed = bytearray(gzip.compress(NOISE))
    packed[-8:-4] = (zlib.crc32(NOISE) ^ 1).to_bytes(4, "little")
    path.write_bytes(packed)
    with pytest.raises(DataError, match=r"not a whole \.gz file: .*incorrect data check"):
        list(read_lines(path))


def test_zeros_behind_a_gzip_are_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"a\n") + bytes(70_000) + gzip.compress(b"b\n") + bytes(9))
    assert list(read_lines(path)) == ["a\n", "b\n"]
    path.write_bytes(bytes(9) + gzip.compress(b"a\n"))
    with pytest.raises(DataError, match="not a whole"):
        list(read_lines(path))


def test_the_position_is_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(NOISE + b"\n"))
    report = ReadReport()
    list(read_documents(path, report=report))
    assert report.position == path.stat().st_size


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this machine")
@pytest.mark.parametrize("kind", ["arrow", "feather"])
def test_no_room_for_what_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / f"a.{kind}.gz"
    path.write_bytes(gzip.compress(NOISE))
    full = Path("/dev/full")
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full.open("wb", buffering=0))
    place = re.escape(tempfile.gettempdir())
    message = rf"a\.{kind}\.gz is unpacked to {place}, which is full .*environment variable TMPDIR"
    with pytest.raises(ElectraError, match=message):
        list(read_documents(path))
