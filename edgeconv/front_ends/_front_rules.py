"""How the ops that only front ends have are written: files, audio, strings, tables, sparse tensors."""

from __future__ import annotations

from typing import Any

from edgeconv.front_ends._rules import Rule, array_inputs, attribute, dtype_of, dtypes_of
from edgeconv.front_ends.generate import FORWARDING, HINT, NotSuppliedError, Scope


def _decode_wav(scope: Scope, node: Any) -> None:
    wanted = {name: int(attribute(node, name, "i", -1)) for name in ("desired_channels", "desired_samples")}
    scope.assign_many(node, scope.writer.call("decode_wav", *array_inputs(scope, node), **wanted), 2)


def _spectrogram(scope: Scope, node: Any) -> None:
    options = {
        "window_size": int(node.attr["window_size"].i),
        "stride": int(node.attr["stride"].i),
        "magnitude_squared": attribute(node, "magnitude_squared", "b", False),
    }
    scope.assign(node, [scope.writer.call("audio_spectrogram", *array_inputs(scope, node), **options)])


def _mfcc(scope: Scope, node: Any) -> None:
    options: dict[str, Any] = {
        "upper_frequency_limit": float(attribute(node, "upper_frequency_limit", "f", 4000.0)),
        "lower_frequency_limit": float(attribute(node, "lower_frequency_limit", "f", 20.0)),
        "filterbank_channel_count": int(attribute(node, "filterbank_channel_count", "i", 40)),
        "dct_coefficient_count": int(attribute(node, "dct_coefficient_count", "i", 13)),
    }
    scope.assign(node, [scope.writer.call("mfcc", *array_inputs(scope, node), **options)])


def _image(scope: Scope, node: Any) -> None:
    if int(attribute(node, "ratio", "i", 1)) != 1:
        raise NotSuppliedError(f"{node.op} ('{node.name}') that scales down is not known here", hint=HINT)
    channels = int(attribute(node, "channels", "i", 0))
    image = array_inputs(scope, node)[0]
    if node.op == "DecodeBmp":
        made = scope.writer.call("decode_bmp", image, channels=channels)
    elif node.op == "DecodeGif":
        made = scope.writer.call("decode_gif", image)
    else:
        dtype = dtype_of(node, "dtype", "uint8")
        moving = node.op == "DecodeImage" and attribute(node, "expand_animations", "b", True)
        made = scope.writer.call(
            "decode_image",
            image,
            channels=channels,
            dtype=dtype,
            expand_animations=moving,
            accurate=attribute(node, "dct_method", "s", b"") == b"INTEGER_ACCURATE",
            fancy=attribute(node, "fancy_upscaling", "b", True),
        )
    scope.assign(node, [made])


def _decode_raw(scope: Scope, node: Any) -> None:
    options = {
        "dtype": dtype_of(node, "out_type"),
        "little_endian": attribute(node, "little_endian", "b", True),
    }
    scope.assign(node, [scope.writer.call("decode_raw", *array_inputs(scope, node)[:1], **options)])


def _decode_compressed(scope: Scope, node: Any) -> None:
    kind = attribute(node, "compression_type", "s", b"").decode("ascii", "replace")
    scope.assign(node, [scope.writer.call("decode_compressed", *array_inputs(scope, node), kind=kind)])


def _decode_csv(scope: Scope, node: Any) -> None:
    records, *defaults = array_inputs(scope, node)
    dtypes = dtypes_of(node, "OUT_TYPE")
    made = scope.writer.call(
        "decode_csv",
        records,
        f"[{', '.join(defaults)}]",
        dtypes=dtypes,
        delimiter=attribute(node, "field_delim", "s", b",").decode("latin-1"),
        missing=attribute(node, "na_value", "s", b""),
        columns=[int(i) for i in node.attr["select_cols"].list.i],
    )
    scope.assign_many(node, made, len(dtypes))


def _parse_example(scope: Scope, node: Any) -> None:
    inputs = scope.inputs(node)
    shapes = [[int(d.size) for d in s.dim] for s in node.attr["dense_shapes"].list.shape]
    dense_types = dtypes_of(node, "Tdense")
    sparse_types = dtypes_of(node, "sparse_types")
    ragged: list[tuple[bytes, str, str]] = []
    if node.op == "ParseSingleExample":
        sparse_keys = [bytes(key) for key in node.attr["sparse_keys"].list.s]
        dense_keys = [bytes(key) for key in node.attr["dense_keys"].list.s]
        defaults = inputs[1:]
    elif node.op == "ParseExample":
        middle = 2 + len(sparse_types)
        sparse_keys = [_word(scope, node, reference) for reference in inputs[2:middle]]
        dense_keys = [
            _word(scope, node, reference) for reference in inputs[middle : middle + len(dense_types)]
        ]
        defaults = inputs[middle + len(dense_types) :]
    else:
        sparse_keys, dense_keys, ragged_keys = (_words(scope, node, reference) for reference in inputs[2:5])
        pairs = zip(dtypes_of(node, "ragged_value_types"), dtypes_of(node, "ragged_split_types"), strict=True)
        ragged = [(key, *types) for key, types in zip(ragged_keys, pairs, strict=True)]
        defaults = inputs[5:]
    dense = [
        f"({key!r}, {dtype!r}, {shape!r}, {scope.value(default)})"
        for key, dtype, shape, default in zip(dense_keys, dense_types, shapes, defaults, strict=True)
    ]
    sparse = list(zip(sparse_keys, sparse_types, strict=True))
    arguments = [scope.value(inputs[0]), repr(sparse), f"[{', '.join(dense)}]"]
    if ragged:
        arguments.append(repr(ragged))
    made = scope.writer.call("parse_examples", *arguments)
    scope.assign_many(node, made, 3 * len(sparse) + len(dense) + 2 * len(ragged))


def _words(scope: Scope, node: Any, reference: str) -> list[bytes]:
    value = scope.constant(reference)
    if value is None:
        raise NotSuppliedError(f"the features of '{node.name}' are not constants", hint=HINT)
    return [bytes(word) for word in value.reshape(-1).tolist()]


def _word(scope: Scope, node: Any, reference: str) -> bytes:
    return _words(scope, node, reference)[0]


def _hash(scope: Scope, node: Any) -> None:
    buckets = repr(int(node.attr["num_buckets"].i))
    strings = array_inputs(scope, node)[0]
    if node.op == "StringToHashBucketStrong":
        key = tuple(int(part) for part in node.attr["key"].list.i)
        scope.writer.used.add("siphash")
        function = f"lambda word: siphash(word, {key!r})"
    else:
        function = "farmhash_fingerprint" if node.op == "StringToHashBucketFast" else "murmur_hash"
        scope.writer.used.add(function)
    if node.op == "StringToHashBucket" and dtype_of(node, "string_tensor", "object") != "object":
        raise NotSuppliedError(f"{node.op} of numbers ('{node.name}') is not known here", hint=HINT)
    scope.assign(node, [scope.writer.call("hash_buckets", strings, buckets, function)])


def _to_number(scope: Scope, node: Any) -> None:
    dtype = dtype_of(node, "out_type", "float32")
    scope.assign(node, [scope.writer.call("string_to_number", *array_inputs(scope, node), dtype=dtype)])


def _as_string(scope: Scope, node: Any) -> None:
    options = {
        "precision": int(attribute(node, "precision", "i", -1)),
        "scientific": attribute(node, "scientific", "b", False),
        "shortest": attribute(node, "shortest", "b", False),
        "width": int(attribute(node, "width", "i", -1)),
        "fill": attribute(node, "fill", "s", b"").decode("latin-1"),
    }
    scope.assign(node, [scope.writer.call("as_string", *array_inputs(scope, node), **options)])


def _string_split(scope: Scope, node: Any) -> None:
    if node.op == "StringSplit":
        options: dict[str, Any] = {"skip_empty": attribute(node, "skip_empty", "b", True)}
        made = scope.writer.call("string_split", *array_inputs(scope, node), **options)
    else:
        options = {"maxsplit": int(attribute(node, "maxsplit", "i", -1))}
        made = scope.writer.call("string_split_v2", *array_inputs(scope, node), **options)
    scope.assign_many(node, made, 3)


def _string_join(scope: Scope, node: Any) -> None:
    separator = attribute(node, "separator", "s", b"")
    scope.assign(
        node, [scope.writer.call("string_join", f"[{', '.join(array_inputs(scope, node))}]", repr(separator))]
    )


def _unit(scope: Scope, node: Any) -> None:
    function = "substrings" if node.op == "Substr" else "string_lengths"
    unit = attribute(node, "unit", "s", b"BYTE").decode("ascii", "replace")
    scope.assign(node, [scope.writer.call(function, *array_inputs(scope, node), unit=unit)])


def _static_regex(scope: Scope, node: Any) -> None:
    pattern = repr(bytes(node.attr["pattern"].s))
    strings = array_inputs(scope, node)[0]
    if node.op == "StaticRegexFullMatch":
        scope.assign(node, [scope.writer.call("regex_matches", strings, pattern)])
        return
    rewrite, everywhere = repr(bytes(node.attr["rewrite"].s)), attribute(node, "replace_global", "b", True)
    scope.assign(node, [scope.writer.call("regex_replace", strings, pattern, rewrite, repr(everywhere))])


def _case(scope: Scope, node: Any) -> None:
    encoding = attribute(node, "encoding", "s", b"").decode("ascii", "replace")
    lower = node.op == "StringLower"
    scope.assign(
        node, [scope.writer.call("change_case", *array_inputs(scope, node), lower=lower, encoding=encoding)]
    )


def _strip(scope: Scope, node: Any) -> None:
    scope.assign(node, [scope.writer.call("each", "bytes.strip", *array_inputs(scope, node))])


def _table(scope: Scope, handle: str) -> str:
    """The name of the dictionary behind a handle."""
    name, _ = scope.resolve(handle)
    while name in scope.nodes and scope.nodes[name].op in (*FORWARDING, "Enter"):
        name, _ = scope.resolve(scope.inputs(scope.nodes[name])[0])
    try:
        return scope.writer.table(name)
    except KeyError:
        raise NotSuppliedError(
            f"what the table '{name}' holds is not known without running the model", hint=HINT
        ) from None


def _table_size(scope: Scope, node: Any) -> None:
    scope.assign(node, [f"np.int64(len({_table(scope, scope.inputs(node)[0])}))"])


def _look_up(scope: Scope, node: Any) -> None:
    handle, keys, default = scope.inputs(node)
    table = _table(scope, handle)
    made = scope.writer.call(
        "look_up", table, scope.value(keys), scope.value(default), repr(dtype_of(node, "Tout", "int64"))
    )
    scope.assign(node, [made])


def _handle(scope: Scope, node: Any) -> None:
    scope.give(node, 0, "None")  # tables are named where they are looked into


def _sparse_reshape(scope: Scope, node: Any) -> None:
    scope.assign_many(node, scope.writer.call("sparse_reshape", *array_inputs(scope, node)), 2)


def _fill_empty(scope: Scope, node: Any) -> None:
    scope.assign_many(node, scope.writer.call("fill_empty_rows", *array_inputs(scope, node)), 4)


def _segments(scope: Scope, node: Any) -> None:
    kind = node.op.removeprefix("SparseSegment").removesuffix("WithNumSegments").lower()
    data, indices, ids, *count = array_inputs(scope, node)
    more = [f"int({count[0]})"] if count else []
    scope.assign(node, [scope.writer.call("sparse_segments", data, indices, ids, repr(kind), *more)])


def _unique(scope: Scope, node: Any) -> None:
    made = scope.writer.call("unique", array_inputs(scope, node)[0], dtype=dtype_of(node, "out_idx", "int32"))
    scope.assign_many(node, made, 2)


def _ragged(scope: Scope, node: Any) -> None:
    kinds = [bytes(kind) for kind in node.attr["row_partition_types"].list.s]
    arrays = array_inputs(scope, node)
    splits = arrays[3:]
    if (kinds and kinds[0] == b"FIRST_DIM_SIZE") or any(kind != b"ROW_SPLITS" for kind in kinds):
        raise NotSuppliedError(f"{node.op} ('{node.name}') of {kinds} is not known here", hint=HINT)
    made = scope.writer.call("ragged_to_dense", *arrays[:3], f"[{', '.join(splits)}]")
    scope.assign(node, [made])


FRONT_RULES: dict[str, Rule] = {
    "DecodeWav": _decode_wav,
    "AudioSpectrogram": _spectrogram,
    "Mfcc": _mfcc,
    **dict.fromkeys(("DecodeJpeg", "DecodePng", "DecodeBmp", "DecodeGif", "DecodeImage"), _image),
    "DecodeRaw": _decode_raw,
    "DecodeCompressed": _decode_compressed,
    "DecodeCSV": _decode_csv,
    **dict.fromkeys(("ParseExample", "ParseExampleV2", "ParseSingleExample"), _parse_example),
    **dict.fromkeys(("StringToHashBucket", "StringToHashBucketFast", "StringToHashBucketStrong"), _hash),
    "StringToNumber": _to_number,
    "AsString": _as_string,
    "StringSplit": _string_split,
    "StringSplitV2": _string_split,
    "StringJoin": _string_join,
    "Substr": _unit,
    "StringLength": _unit,
    "StaticRegexReplace": _static_regex,
    "StaticRegexFullMatch": _static_regex,
    "StringLower": _case,
    "StringUpper": _case,
    "StringStrip": _strip,
    "LookupTableFind": _look_up,
    "LookupTableFindV2": _look_up,
    "LookupTableSize": _table_size,
    "LookupTableSizeV2": _table_size,
    **dict.fromkeys(("HashTable", "HashTableV2", "MutableHashTable", "MutableHashTableV2"), _handle),
    "SparseReshape": _sparse_reshape,
    "SparseFillEmptyRows": _fill_empty,
    **dict.fromkeys(
        (
            f"SparseSegment{kind}{more}"
            for kind in ("Sum", "Mean", "SqrtN")
            for more in ("", "WithNumSegments")
        ),
        _segments,
    ),
    "Unique": _unique,
    "RaggedTensorToTensor": _ragged,
}
