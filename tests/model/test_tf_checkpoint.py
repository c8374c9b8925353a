"""The reader of TensorFlow's checkpoints, against what TensorFlow wrote and read back."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from electra.errors import DataError
from electra.model.tf_checkpoint import TFCheckpoint, find_checkpoint
from tests.golden.values import load
from tests.tf_bundle import write_bundle

GOLDEN = Path(__file__).parents[1] / "golden"
DATA_SHA256 = "bd851a6ea8fb31c92bc0b59dfa460adf6614ba3fde1cf20aa7f9ae3395c33295"
"""Of the data file that the reference wrote; it is not kept, its tensors are."""


def reference_checkpoint(folder: Path) -> Path:
    """The reference's own checkpoint: its index as it is, its data from the same tensors."""
    weights = load("initial_weights")
    data = b"".join(weights[name].tobytes() for name in sorted(weights))
    assert hashlib.sha256(data).hexdigest() == DATA_SHA256
    index = (GOLDEN / "tf_checkpoint" / "model.ckpt.index").read_bytes()
    (folder / "model.ckpt.index").write_bytes(index)
    (folder / "model.ckpt.data-00000-of-00001").write_bytes(data)
    return folder / "model.ckpt"


def test_what_the_reference_wrote(tmp_path: Path) -> None:
    source = TFCheckpoint(reference_checkpoint(tmp_path))
    expected = load("initial_weights")
    assert source.shapes == {name: value.shape for name, value in expected.items()}
    for name, value in expected.items():
        assert np.array_equal(source.tensor(name), value), name


def test_types_and_partitioned_variables() -> None:
    source = TFCheckpoint(find_checkpoint(GOLDEN / "tf_variables"))
    with np.load(GOLDEN / "tf_variables" / "expected.npz") as file:
        expected = {name: file[name] for name in file}
    assert set(source.shapes) == set(expected)
    assert len(expected) == 19
    for name, value in expected.items():
        read = source.tensor(name)
        assert read.dtype == value.dtype, name
        assert read.shape == source.shapes[name] == value.shape
        assert np.array_equal(read, value), name


@pytest.mark.parametrize("keys_a_block", [1, 3, 1000])
def test_blocks(tmp_path: Path, keys_a_block: int) -> None:
    rng = np.random.default_rng(0)
    variables = {
        f"layer_{i}/{'x' * (i % 300)}kernel": rng.normal(size=(2, i % 4)).astype(np.float32)
        for i in range(200)
    }
    prefix = write_bundle(tmp_path / "m", variables, keys_a_block=keys_a_block)
    source = TFCheckpoint(prefix)
    assert set(source.shapes) == set(variables)
    assert all(np.array_equal(source.tensor(name), v) for name, v in variables.items())


def test_where_a_checkpoint_is_found(tmp_path: Path) -> None:
    for step in (5, 10):
        write_bundle(tmp_path / f"model.ckpt-{step}", {"a": np.zeros(1, np.float32)})
    five = tmp_path / "model.ckpt-5"
    for name in ("model.ckpt-5", "model.ckpt-5.index", "model.ckpt-5.data-00000-of-00001"):
        assert find_checkpoint(tmp_path / name) == five
    with pytest.raises(DataError, match=r"several.*give one: model\.ckpt-10, model\.ckpt-5"):
        find_checkpoint(tmp_path)
    state = tmp_path / "checkpoint"
    state.write_text(
        'model_checkpoint_path: "/gone/model.ckpt-5"\n'
        'all_model_checkpoint_paths: "/gone/model.ckpt-10"\n'
    )
    assert find_checkpoint(tmp_path) == five
    state.write_text('model_checkpoint_path: "model.ckpt-7"\n')
    with pytest.raises(DataError, match=r"checkpoint names it, but .*model\.ckpt-7\.index is not"):
        find_checkpoint(tmp_path)
    with pytest.raises(DataError, match=r"no TensorFlow checkpoint .*x: .*x\.index is not there"):
        find_checkpoint(tmp_path / "x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"neither a file `checkpoint` nor an .index"):
        find_checkpoint(tmp_path / "empty")


def test_torn_and_missing_data(tmp_path: Path) -> None:
    prefix = reference_checkpoint(tmp_path)
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1])
    source = TFCheckpoint(prefix)
    source.tensor("electra/embeddings/word_embeddings")
    with pytest.raises(DataError, match=r"00001 is torn: .*output_bias ends at byte 2,074,148"):
        source.tensor("generator_predictions/output_bias")
    data.unlink()
    with pytest.raises(DataError, match="00001 is missing"):
        source.tensor("generator_predictions/output_bias")


def test_damaged_index(tmp_path: Path) -> None:
    prefix = reference_checkpoint(tmp_path)
    index = tmp_path / "model.ckpt.index"
    whole = index.read_bytes()
    shapes = TFCheckpoint(prefix).shapes
    rng = np.random.default_rng(0)
    for damaged in (b"", b"hello", whole[:-1], whole[:1000], whole[1000:]):
        index.write_bytes(damaged)
        with pytest.raises(DataError, match=r"model\.ckpt\.index is damaged"):
            TFCheckpoint(prefix)
    # every block has a checksum, and the footer says where they are; what it has left is padding
    blocks = len(whole) - 48
    last = range(blocks - 60, blocks)  # the two blocks that say where the others are
    for place in [*rng.integers(blocks, size=60).tolist(), *last]:
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        index.write_bytes(changed)
        with pytest.raises(DataError, match=r"model\.ckpt\.index is damaged"):
            TFCheckpoint(prefix)
    for place in range(blocks, len(whole)):  # an error of ours, or names and shapes
        changed = bytearray(whole)
        changed[place] = rng.integers(256)
        index.write_bytes(changed)
        try:
            source = TFCheckpoint(prefix)
        except DataError:
            continue
        assert source.shapes == shapes


def test_a_name_that_was_changed_is_seen(tmp_path: Path) -> None:
    prefix = reference_checkpoint(tmp_path)
    index = tmp_path / "model.ckpt.index"
    whole = index.read_bytes()
    assert whole.count(b"electra/embeddings/LayerNorm/beta") == 1
    index.write_bytes(whole.replace(b"LayerNorm/beta", b"LayerNorm/zeta", 1))
    with pytest.raises(DataError, match=r"damaged, .*checksum of a block is not that of its bytes"):
        TFCheckpoint(prefix)


def test_checkpoint_of_another_kind(tmp_path: Path) -> None:
    name = "model/dense/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    prefix = write_bundle(tmp_path / "ckpt-1", {name: np.zeros((2, 2), np.float32)})
    with pytest.raises(DataError, match="object-based checkpoint of TensorFlow 2"):
        TFCheckpoint(prefix)
