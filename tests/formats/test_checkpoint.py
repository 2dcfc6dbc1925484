"""Checkpoints of TF1 (V1, V2) and TF2 are listed from their own tables, and what is missing is named."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeconv.errors import InvalidModelError, UsageError
from edgeconv.formats._snappy import SnappyError, decompress
from edgeconv.formats._sstable import crc32c, read_table
from edgeconv.formats._tensorflow_protos import tensorflow_protos
from edgeconv.formats.checkpoint import FORMAT, list_variables

MAGIC = 0xDB4775248B80FB57


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """One block of a table with shared key prefixes and a checksum."""
    out, last = bytearray(), b""
    for key, value in entries:
        shared = next(
            (i for i, (a, b) in enumerate(zip(key, last, strict=False)) if a != b), min(len(key), len(last))
        )
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    out += struct.pack("<II", 0, 1) + b"\0"
    crc = crc32c(bytes(out))
    return bytes(out) + struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def table(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A sorted string table of one block, as its specification says; written here to be read there."""
    data, meta = block(entries), block([])
    index = block([(entries[-1][0] if entries else b"", varint(0) + varint(len(data) - 5))])
    footer = varint(len(data)) + varint(len(meta) - 5)
    footer += varint(len(data) + len(meta)) + varint(len(index) - 5)
    return data + meta + index + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def write_checkpoint(prefix: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    protos = tensorflow_protos()
    header = protos.BundleHeaderProto(num_shards=1)
    header.version.producer = 1
    entries, offset = [(b"", header.SerializeToString())], 0
    for name in sorted(shapes):
        entry = protos.BundleEntryProto(dtype=1, offset=offset)
        count = 1
        for size in shapes[name]:
            entry.shape.dim.add(size=size)
            count *= size
        entry.size = 4 * count
        offset += entry.size
        entries.append((name.encode(), entry.SerializeToString()))
    prefix.with_name(f"{prefix.name}.index").write_bytes(table(entries))
    prefix.with_name(f"{prefix.name}.data-00000-of-00001").write_bytes(bytes(offset))


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    prefix = tmp_path / "cp.ckpt"
    write_checkpoint(prefix, {"dense/kernel": (4, 3), "dense/bias": (3,), "dense/kernel/Adam": (4, 3)})
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/somewhere/else/cp.ckpt"\n')
    return prefix


@given(st.dictionaries(st.binary(min_size=0, max_size=12), st.binary(max_size=40), min_size=1, max_size=30))
def test_a_table_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, items: dict[bytes, bytes]
) -> None:
    path = tmp_path_factory.getbasetemp() / "table"
    path.write_bytes(table(sorted(items.items())))
    assert list(read_table(path)) == sorted(items.items())


def test_the_checksum_is_castagnoli() -> None:
    # Check values of RFC 3720, appendix B.4.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_snappy_literals_and_overlapping_copies() -> None:
    # 10 bytes: the literal "ab", then a copy of 8 from 2 back.
    assert decompress(bytes([10, 1 << 2]) + b"ab" + bytes([(8 - 4) << 2 | 1, 2]), 100) == b"ababababab"
    with pytest.raises(SnappyError):
        decompress(bytes([10, 1 << 2]) + b"ab" + bytes([(8 - 4) << 2 | 1, 3]), 100)


@given(st.binary(max_size=200))
def test_snappy_never_crashes_and_keeps_its_bound(data: bytes) -> None:
    with contextlib.suppress(SnappyError):
        assert len(decompress(data, 10_000)) <= 10_000


@pytest.mark.parametrize(
    "name", ["cp.ckpt", "cp.ckpt.index", "cp.ckpt.data-00000-of-00001", "checkpoint", "."]
)
def test_each_name_of_a_checkpoint_leads_to_it(prefix: Path, name: str) -> None:
    path = prefix.parent / name
    description = FORMAT.describe(path)
    assert description.metadata["prefix"] == "cp.ckpt"
    assert description.metadata["kind"] == "tf1-v2"
    assert (list_variables(path)[0].name, list_variables(path)[0].shape) == ("dense/bias", (3,))
    assert FORMAT.recognise(path, path.read_bytes()[:4096] if path.is_file() else b"") > 0


def test_parameters_are_the_models_and_not_the_optimisers(prefix: Path) -> None:
    assert FORMAT.describe(prefix).parameters == 4 * 3 + 3


def test_without_its_graph_the_way_out_is_named(prefix: Path) -> None:
    (finding,) = FORMAT.describe(prefix).findings
    assert finding.code == "no-graph"
    assert "--model-builder" in (finding.hint or "")


def test_a_missing_or_short_shard_is_named(prefix: Path) -> None:
    shard = prefix.parent / "cp.ckpt.data-00000-of-00001"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(InvalidModelError, match="bytes where the index needs"):
        FORMAT.describe(prefix)
    shard.unlink()
    with pytest.raises(InvalidModelError, match=r"cp\.ckpt\.data-00000-of-00001"):
        FORMAT.describe(prefix)


def test_a_folder_with_several_checkpoints_and_no_state_file_is_ambiguous(prefix: Path) -> None:
    write_checkpoint(prefix.parent / "other", {"a": (1,)})
    (prefix.parent / "checkpoint").unlink()
    with pytest.raises(UsageError, match=r"cp\.ckpt, other"):
        FORMAT.describe(prefix.parent)


def test_a_state_file_cannot_lead_out_of_its_folder(prefix: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "checkpoint").write_text('model_checkpoint_path: "../cp.ckpt"\n')
    with pytest.raises(InvalidModelError, match=r"no checkpoint 'cp\.ckpt'"):
        FORMAT.describe(inner)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cut=st.integers(0, 300), flips=st.lists(st.tuples(st.integers(0, 300), st.integers(1, 255)), max_size=3)
)
def test_a_damaged_index_is_refused_or_read_and_never_crashes(
    prefix: Path, tmp_path: Path, cut: int, flips: list[tuple[int, int]]
) -> None:
    data = bytearray((prefix.parent / "cp.ckpt.index").read_bytes())
    for place, mask in flips:
        data[place % len(data)] ^= mask
    damaged = tmp_path / "damaged"
    damaged.mkdir(exist_ok=True)
    path = damaged / "cp.ckpt.index"
    path.write_bytes(data[: len(data) - cut % len(data)])
    FORMAT.recognise(path, path.read_bytes()[:4096])
    with pytest.raises(InvalidModelError):
        FORMAT.describe(path)


@pytest.mark.slow
def test_tensorflow_lists_the_same_variables(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.kernel = tf.Variable(tf.zeros([4, 3]), name="kernel")
    module.steps = tf.Variable(tf.constant(7, tf.int64))
    prefix = tf.train.Checkpoint(model=module).save(str(tmp_path / "cp"))
    theirs = {
        name: tuple(shape)
        for name, shape in tf.train.list_variables(prefix)
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
    }
    assert {v.name: v.shape for v in list_variables(Path(prefix))} == theirs
    description = FORMAT.describe(Path(prefix))
    assert description.metadata["kind"] == "tf2-object"
    assert description.metadata["objects"] == ["model", "save_counter"]
    assert description.parameters == 12


@pytest.mark.slow
@pytest.mark.corpus
def test_tensorflow_lists_the_same_variables_of_real_checkpoints(corpus: Path) -> None:
    import tensorflow as tf

    for name in (
        "ckpt1-har-v1format/HAR_v4_2/model.ckpt",
        "ckpt1-mediapipe-v1/testdata/model.chkpt-0",
        "ckpt1-nometa-t2t/transformer_test_ckpt/model.ckpt-1",
        "ckpt2-basecaller/training_10/cp.ckpt",
        "odapi-mediapipe-ssdlite-random-weights/model.ckpt",
    ):
        theirs = {
            n: tuple(shape)
            for n, shape in tf.train.list_variables(str(corpus / name))
            if n != "_CHECKPOINTABLE_OBJECT_GRAPH"
        }
        assert {v.name: v.shape for v in list_variables(corpus / name)} == theirs, name


@pytest.mark.corpus
def test_real_checkpoints_are_described(corpus: Path) -> None:
    def described(path: str) -> tuple[str, int, str | None]:
        description = FORMAT.describe(corpus / path)
        return description.metadata["kind"], len(description.metadata["variables"]), description.producer

    assert described("ckpt1-har-v1format/HAR_v4_2")[:2] == ("tf1-v1", 56)
    assert described("ckpt1-session-bundle/half_plus_two/00000123/export.meta")[0] == "tf1-v1"
    assert described("ckpt1-nometa-t2t/transformer_test_ckpt") == ("tf1-v2", 250, None)
    assert described("ckpt2-basecaller/training_10") == ("tf2-object", 13, None)
    assert described("mlnet-cifar/cifar_model")[2] == "TensorFlow 1.10.0 (v1.10.0-rc1-19-g656e7a2b34)"


@pytest.mark.corpus
def test_real_broken_checkpoints_say_what_is_missing(corpus: Path) -> None:
    for path, missing in {
        "neg-missing-data/pretrained_model": "MobileFaceNet_TF.ckpt.data-00000-of-00001",
        "odapi-tf2-ckptonly/inference_graph/checkpoint": "ckpt-0.data-00000-of-00001",
        "neg-lfs-pointers/ds_cnn_large_source/weights": "Git LFS pointer",
        "ckpt1-lenet5-tftrt/model": "model1",
        "ckpt1-mediapipe-v1/testdata/bundle/00000000": "treated as text",
    }.items():
        with pytest.raises(InvalidModelError) as caught:
            FORMAT.describe(corpus / path)
        assert missing in str(caught.value)


@pytest.mark.corpus
def test_the_output_of_a_real_training_graph_ranks_first(corpus: Path) -> None:
    description = FORMAT.describe(corpus / "ckpt1-har-v1format/HAR_v4_2")
    outputs = [c for c in description.candidates if c.role == "output"]
    assert outputs[0].tensor.name == "add_6"
