"""The written function computes what TensorFlow's own ops compute, op by op."""

from __future__ import annotations

import io
import struct
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from front_ends.written import both, graph_of, text
from PIL import Image

from edgeconv.errors import ConversionError
from edgeconv.front_ends.generate import NotSuppliedError

v1 = tf.compat.v1
raw = tf.raw_ops


def _same(wanted: list[dict[str, Any]], given: list[dict[str, Any]], rel: float = 0.0) -> None:
    for one, two in zip(wanted, given, strict=True):
        assert one.keys() == two.keys()
        for name, value in one.items():
            assert two[name].dtype == value.dtype
            assert two[name].shape == value.shape
            scale = float(np.abs(value).max()) if value.size and value.dtype.kind == "f" else 1.0
            np.testing.assert_allclose(two[name], value, rtol=0, atol=rel * scale, err_msg=name)


WORDS = text(
    b"",
    b"a",
    b"edge",
    b"a longer one",
    b"x" * 16,
    b"y" * 33,
    b"\x00\xff" * 40,
    "gr\u00fcn".encode(),
    b" pad ",
)

ON_WORDS: dict[str, Callable[[Any], Any]] = {
    "fast hash": lambda s: tf.strings.to_hash_bucket_fast(s, 1000),
    "strong hash": lambda s: tf.strings.to_hash_bucket_strong(s, 12345, [7, -9]),
    "old hash": lambda s: v1.string_to_hash_bucket(s, 977),
    "length": tf.strings.length,
    "length of UTF-8": lambda s: tf.strings.length(s, unit="UTF8_CHAR"),
    "hash of lower case": lambda s: tf.strings.to_hash_bucket_fast(tf.strings.lower(s), 99),
    "hash of upper case in UTF-8": lambda s: tf.strings.to_hash_bucket_fast(
        tf.strings.upper(s, "utf-8"), 10**9
    ),
    "hash of stripped": lambda s: tf.strings.to_hash_bucket_fast(tf.strings.strip(s), 10**9),
    "hash of a part": lambda s: tf.strings.to_hash_bucket_fast(tf.strings.substr(s, 0, 3), 10**9),
    "hash of replaced": lambda s: tf.strings.to_hash_bucket_fast(
        tf.strings.regex_replace(s, "([a-e])(.)", r"\2-\1"), 10**9
    ),
    "full match": lambda s: tf.cast(tf.strings.regex_full_match(s, "[a-z]+"), tf.int32),
    "hash of joined": lambda s: tf.strings.to_hash_bucket_fast(tf.strings.join([s, s], "/"), 10**9),
    "hash of added": lambda s: tf.strings.to_hash_bucket_fast(s + "!", 10**9),
    "hash of reduced": lambda s: tf.strings.to_hash_bucket_fast(
        tf.strings.reduce_join(s, 0, separator=","), 10**9
    ),
    "equal": lambda s: tf.cast(tf.equal(s, "edge"), tf.int32),
    "not equal": lambda s: tf.cast(tf.not_equal(s, "edge"), tf.int32),
    "hash of encoded": lambda s: tf.strings.to_hash_bucket_fast(tf.io.encode_base64(s), 10**9),
    "split": lambda s: tf.sparse.to_dense(
        tf.SparseTensor(
            *(lambda p: (p[0], tf.strings.to_hash_bucket_fast(p[1], 10**9), p[2]))(
                raw.StringSplitV2(input=s, sep="", maxsplit=-1)
            )
        )
    ),
    "old split": lambda s: tf.sparse.to_dense(
        tf.SparseTensor(
            *(lambda p: (p[0], tf.strings.to_hash_bucket_fast(p[1], 10**9), p[2]))(
                raw.StringSplit(input=s, delimiter=" e", skip_empty=True)
            )
        )
    ),
}


@pytest.mark.parametrize("name", ON_WORDS)
def test_words(name: str, tmp_path: Path) -> None:
    graph_def, contract = graph_of(
        lambda s: tf.cast(ON_WORDS[name](s), tf.float32) * 2.0, s=("string", [None])
    )
    _, _, wanted, given = both(tmp_path, graph_def, contract, [{"s": WORDS}])
    _same(wanted, given)
    assert next(iter(wanted[0].values())).size > 0


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_numbers_in_texts(dtype: str, tmp_path: Path) -> None:
    graph_def, contract = graph_of(
        lambda s: tf.cast(tf.strings.to_number(s, dtype), tf.float32) + 1.0, s=("string", [None])
    )
    _, _, wanted, given = both(tmp_path, graph_def, contract, [{"s": text(b"12", b"-3", b"0")}])
    _same(wanted, given)


def test_numbers_as_texts(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        texts = [
            tf.strings.as_string(x, precision=3),
            tf.strings.as_string(x, scientific=True),
            tf.strings.as_string(x, shortest=True),
            tf.strings.as_string(tf.cast(x, tf.int32), width=6, fill="0"),
            tf.strings.as_string(x > 0.0),
        ]
        return [tf.cast(tf.strings.to_hash_bucket_fast(each, 10**9), tf.float32) * 2.0 for each in texts]

    graph_def, contract = graph_of(build, x=("float32", [None]))
    _, _, wanted, given = both(tmp_path, graph_def, contract, [{"x": np.float32([0.5, -1.25, 1234.5678])}])
    _same(wanted, given)


@pytest.mark.parametrize(("dtype", "little"), [("uint8", True), ("int16", True), ("float32", False)])
def test_raw_bytes(dtype: str, little: bool, tmp_path: Path) -> None:
    graph_def, contract = graph_of(
        lambda s: tf.cast(tf.io.decode_raw(s, dtype, little_endian=little), tf.float32) * 2.0,
        s=("string", [None]),
    )
    _, _, wanted, given = both(
        tmp_path, graph_def, contract, [{"s": text(b"\x00\x01\x02\x3f", b"\x40\x11\x22\x33")}]
    )
    _same(wanted, given)


def test_comma_separated_records(tmp_path: Path) -> None:
    def build(s: Any) -> Any:
        number, whole, word = v1.decode_csv(s, [[0.5], [7], ["none"]], na_value="?")
        return number * 2.0, tf.cast(whole, tf.float32) * 2.0, tf.strings.length(word) * 2

    graph_def, contract = graph_of(build, s=("string", [None]))
    records = text(b"1.5,2,abc", b",,", b'-3,?,"a,b"')
    _, _, wanted, given = both(tmp_path, graph_def, contract, [{"s": records}])
    _same(wanted, given)


def _wav(samples: np.ndarray, rate: int = 16000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(samples.shape[1])
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


@pytest.mark.parametrize(("channels", "length"), [(-1, -1), (1, 700), (2, 300), (1, -1)])
@pytest.mark.parametrize("recorded", [1, 2])
def test_recordings(channels: int, length: int, recorded: int, tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32767, (500, recorded), endpoint=True)
    graph_def, contract = graph_of(
        lambda s: tf.audio.decode_wav(s, channels, length).audio * 2.0, s=("string", [])
    )
    feed = {"s": np.array(_wav(samples), dtype=object)}
    _, _, wanted, given = both(tmp_path, graph_def, contract, [feed])
    _same(wanted, given)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize(("window", "stride"), [(640, 320), (256, 100), (300, 7)])
def test_spectrograms(squared: bool, window: int, stride: int, tmp_path: Path) -> None:
    graph_def, contract = graph_of(
        lambda audio: (
            raw.AudioSpectrogram(input=audio, window_size=window, stride=stride, magnitude_squared=squared)
            * 2.0
        ),
        audio=("float32", [1000, 2]),
    )
    audio = np.random.default_rng(1).normal(0, 0.3, (1000, 2)).astype(np.float32)
    front_end, _, wanted, given = both(tmp_path, graph_def, contract, [{"audio": audio}])
    assert front_end.cut[0].shape == wanted[0][front_end.cut[0].name].shape
    _same(wanted, given, 1e-6)


@pytest.mark.parametrize(
    ("rate", "low", "high", "bands", "count"), [(16000, 20, 4000, 40, 13), (8000, 100, 3900, 26, 10)]
)
def test_mel_features(rate: int, low: float, high: float, bands: int, count: int, tmp_path: Path) -> None:
    def build(audio: Any) -> Any:
        spectrum = raw.AudioSpectrogram(input=audio, window_size=400, stride=200, magnitude_squared=True)
        return 2.0 * raw.Mfcc(
            spectrogram=spectrum,
            sample_rate=rate,
            lower_frequency_limit=low,
            upper_frequency_limit=high,
            filterbank_channel_count=bands,
            dct_coefficient_count=count,
        )

    graph_def, contract = graph_of(build, audio=("float32", [2000, 1]))
    audio = np.random.default_rng(2).normal(0, 0.3, (2000, 1)).astype(np.float32)
    audio[:600] = 0  # silence is below the smallest value that has a logarithm
    _, _, wanted, given = both(tmp_path, graph_def, contract, [{"audio": audio}])
    _same(wanted, given, 1e-6)


def _picture(kind: str, mode: str = "RGB", size: tuple[int, int] = (37, 29), **options: Any) -> bytes:
    depth = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}[mode]
    pixels = np.random.default_rng(3).integers(0, 256, (size[1], size[0], depth), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if depth == 1 else pixels).save(file, kind, **options)
    return file.getvalue()


PICTURES = {
    **{f"JPEG {s}": _picture("JPEG", quality=80, subsampling=s) for s in ("4:4:4", "4:2:2", "4:2:0")},
    "progressive JPEG": _picture("JPEG", progressive=True),
    "grey JPEG": _picture("JPEG", "L"),
    "tiny JPEG": _picture("JPEG", size=(3, 2)),
    "PNG": _picture("PNG"),
    "grey PNG": _picture("PNG", "L"),
    "PNG with alpha": _picture("PNG", "RGBA"),
}


# Not the luminance of a coloured PNG, which TensorFlow computes with weights of its own.
AS_CHANNELS = [(n, c) for n in PICTURES for c in (0, 1, 3) if c != 1 or n not in ("PNG", "PNG with alpha")]


@pytest.mark.parametrize("method", ["", "INTEGER_ACCURATE"])
@pytest.mark.parametrize(("name", "channels"), AS_CHANNELS)
def test_pictures_to_the_bit(name: str, channels: int, method: str, tmp_path: Path) -> None:
    """Pillow brings the same decoder; TensorFlow's quick transform is had with the planes as they are."""

    def build(s: Any) -> Any:
        return tf.cast(raw.DecodeJpeg(contents=s, channels=channels, dct_method=method), tf.float32) * 2.0

    graph_def, contract = graph_of(build, s=("string", []))
    feed = {"s": np.array(PICTURES[name], dtype=object)}
    _, file, wanted, given = both(tmp_path, graph_def, contract, [feed])
    assert file.requires == ("Pillow",)
    _same(wanted, given)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_bitmaps_without_pillow(mode: str, tmp_path: Path) -> None:
    graph_def, contract = graph_of(
        lambda s: tf.cast(tf.image.decode_bmp(s), tf.float32) * 2.0, s=("string", [])
    )
    data = _picture("BMP", mode)
    if mode == "L":  # Pillow writes a palette, which TensorFlow takes for pixels as well
        assert struct.unpack("<H", data[28:30])[0] == 8
    _, _, wanted, given = both(tmp_path, graph_def, contract, [{"s": np.array(data, dtype=object)}])
    _same(wanted, given)


@pytest.mark.parametrize(("align", "centres"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("op", ["ResizeBilinear", "ResizeNearestNeighbor"])
def test_a_decoded_picture_is_resized_in_a_map(op: str, centres: bool, align: bool, tmp_path: Path) -> None:
    def one(s: Any) -> Any:
        image = tf.expand_dims(tf.image.decode_jpeg(s, channels=3), 0)
        made = getattr(raw, op)(images=image, size=[16, 20], align_corners=align, half_pixel_centers=centres)
        return tf.cast(tf.squeeze(made, [0]), tf.float32)

    graph_def, contract = graph_of(
        lambda s: v1.map_fn(one, tf.io.decode_base64(s), dtype=tf.float32) / 255.0, s=("string", [None])
    )
    import base64

    encoded = text(*(base64.urlsafe_b64encode(PICTURES[name]) for name in ("JPEG 4:2:0", "tiny JPEG")))
    front_end, file, wanted, given = both(tmp_path, graph_def, contract, [{"s": encoded}])
    assert "Exit" in {node.op for node in graph_def.node}
    assert "while True:" in file.text
    assert front_end.cut[0].shape in ((None, 16, 20, 3), (None, None, None, 3))
    _same(wanted, given, 1e-6)


def test_the_same_map_with_control_flow_of_tf2(tmp_path: Path) -> None:
    def one(s: Any) -> Any:
        return tf.image.resize(tf.image.decode_jpeg(s, channels=3), [16, 20])

    def build(s: Any) -> Any:
        v1.enable_control_flow_v2()
        try:
            return tf.map_fn(one, s, fn_output_signature=tf.float32) / 255.0
        finally:
            v1.disable_control_flow_v2()

    graph_def, contract = graph_of(build, s=("string", [None]))
    assert {node.op for node in graph_def.node} & {"While", "StatelessWhile"}
    feed = {"s": text(PICTURES["JPEG 4:2:0"], PICTURES["tiny JPEG"])}
    _, _, wanted, given = both(tmp_path, graph_def, contract, [feed])
    _same(wanted, given, 1e-6)


def _example(**features: Any) -> bytes:
    made = {}
    for name, values in features.items():
        if isinstance(values[0], bytes):
            made[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        elif isinstance(values[0], float):
            made[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        else:
            made[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()


RECORDS = text(
    _example(x=[1.5, -2.0], n=[-3], words=[b"red", b"blue"], many=[1, 2, 3]),
    _example(x=[0.25, 4.0], many=[2**40]),
)


@pytest.mark.parametrize("version", ["ParseExample", "ParseExampleV2"])
def test_records(version: str, tmp_path: Path) -> None:
    def build(s: Any) -> Any:
        if version == "ParseExample":
            parsed = raw.ParseExample(
                serialized=s,
                names=[],
                sparse_keys=["many", "words"],
                dense_keys=["n", "x"],
                dense_defaults=[tf.constant([5], tf.int64), tf.constant([], tf.float32)],
                sparse_types=[tf.int64, tf.string],
                dense_shapes=[[1], [2]],
            )
        else:
            parsed = raw.ParseExampleV2(
                serialized=s,
                names=[],
                sparse_keys=["many", "words"],
                dense_keys=["n", "x"],
                ragged_keys=[],
                dense_defaults=[tf.constant([5], tf.int64), tf.constant([], tf.float32)],
                num_sparse=2,
                sparse_types=[tf.int64, tf.string],
                ragged_value_types=[],
                ragged_split_types=[],
                dense_shapes=[[1], [2]],
            )
        hashed = tf.strings.to_hash_bucket_fast(parsed.sparse_values[1], 50)
        dense = tf.sparse.to_dense(tf.SparseTensor(parsed.sparse_indices[1], hashed, parsed.sparse_shapes[1]))
        many = tf.sparse.to_dense(
            tf.SparseTensor(parsed.sparse_indices[0], parsed.sparse_values[0], parsed.sparse_shapes[0])
        )
        n, x = parsed.dense_values
        return (
            x * 2.0,
            tf.cast(n, tf.float32) * 2.0,
            tf.cast(dense, tf.float32) * 2.0,
            tf.cast(many, tf.float32) * 2,
        )

    graph_def, contract = graph_of(build, s=("string", [None]))
    front_end, _, wanted, given = both(tmp_path, graph_def, contract, [{"s": RECORDS}])
    assert {spec.dtype for spec in front_end.cut} == {"float32", "int64"}
    _same(wanted, given)


def test_one_record(tmp_path: Path) -> None:
    def build(s: Any) -> Any:
        parsed = tf.io.parse_single_example(
            s, {"x": tf.io.FixedLenFeature([2], tf.float32), "n": tf.io.FixedLenFeature([1], tf.int64, [5])}
        )
        return parsed["x"] * 2.0, tf.cast(parsed["n"], tf.float32)

    graph_def, contract = graph_of(build, s=("string", []))
    _, _, wanted, given = both(tmp_path, graph_def, contract, [{"s": np.array(r, object)} for r in RECORDS])
    _same(wanted, given)


@pytest.mark.parametrize("combiner", ["sum", "mean", "sqrtn"])
def test_words_of_a_record_to_the_sum_of_their_embeddings(combiner: str, tmp_path: Path) -> None:
    def build(s: Any) -> Any:
        parsed = v1.parse_example(s, {"words": tf.io.VarLenFeature(tf.string)})["words"]
        ids = tf.SparseTensor(
            parsed.indices, tf.strings.to_hash_bucket_fast(parsed.values, 10), parsed.dense_shape
        )
        table = tf.constant(np.random.default_rng(4).normal(0, 1, (10, 3)), tf.float32)
        return v1.nn.safe_embedding_lookup_sparse(table, ids, combiner=combiner) @ tf.ones([3, 2])

    graph_def, contract = graph_of(build, s=("string", [None]))
    front_end, _, wanted, given = both(tmp_path, graph_def, contract, [{"s": RECORDS}])
    assert len(front_end.cut) == 1, "the parts of the sparse tensor are merged before the cut"
    _same(wanted, given, 1e-6)


def test_a_table_of_words(tmp_path: Path) -> None:
    def build(s: Any) -> Any:
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(["red", "blue"], tf.constant([4, 2], tf.int64)), -1
        )
        return tf.one_hot(table.lookup(s), 5) @ tf.ones([5, 2])

    graph_def, contract = graph_of(build, s=("string", [None]))
    front_end, _, wanted, given = both(tmp_path, graph_def, contract, [{"s": text(b"red", b"?", b"blue")}])
    assert [spec.dtype for spec in front_end.cut] == ["int64"]
    assert next(iter(given[0].values())).tolist() == [4, -1, 2]
    _same(wanted, given)


def test_a_large_vocabulary_lies_in_the_file_beside(tmp_path: Path) -> None:
    words = [f"word {number}".encode() for number in range(300)]

    def build(s: Any) -> Any:
        initial = tf.lookup.KeyValueTensorInitializer(words, tf.range(300, dtype=tf.int64))
        return tf.cast(tf.lookup.StaticHashTable(initial, -1).lookup(s), tf.float32) * 2.0

    graph_def, contract = graph_of(build, s=("string", [None]))
    _, file, wanted, given = both(
        tmp_path, graph_def, contract, [{"s": text(b"word 17", b"word 299", b"none")}]
    )
    assert file.arrays
    assert b"word 100" not in file.text.encode()
    _same(wanted, given)


@pytest.mark.parametrize(
    "hostile", ['x"""\nimport os\nos.abort()\n"""', "a'b\\", "inputs", "while", "0", "é/ü"]
)
def test_names_of_a_model_are_only_names(hostile: str, tmp_path: Path) -> None:
    """A model's author chooses names; none of them becomes code."""
    from edgeconv.formats.base import Contract, TensorSpec

    graph_def, contract = graph_of(
        lambda s: tf.cast(tf.strings.length(s), tf.float32) * 2.0, s=("string", [None])
    )
    renamed = Contract((TensorSpec(hostile, "string", (None,), "s:0"),), contract.outputs)
    _, file, wanted, given = both(tmp_path, graph_def, renamed, [{hostile: WORDS}])
    compile(file.text, "front_end.py", "exec")
    _same(wanted, given)


def test_what_is_not_known_is_named(tmp_path: Path) -> None:
    graph_def, contract = graph_of(
        lambda s: tf.cast(tf.strings.unicode_script(tf.strings.length(s)), tf.float32) * 2.0,
        s=("string", [None]),
    )
    with pytest.raises(NotSuppliedError, match="UnicodeScript") as caught:
        both(tmp_path, graph_def, contract, [{"s": WORDS}])
    assert isinstance(caught.value, ConversionError)
