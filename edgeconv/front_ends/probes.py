"""Valid made-up strings for the inputs of a front end: recordings, images, records, words.

What a string has to be is what the first op that takes it says; where it goes through ``DecodeBase64``, it is
that encoded. Nothing here is run: only the graph is looked at.
"""

from __future__ import annotations

import base64
import io
import struct
import wave
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from edgeconv.formats._graph_front_ends import IMAGE_OPS, FrontEnd, inside
from edgeconv.formats._graph_view import GraphView, tensor_node
from edgeconv.formats._tensor_types import dtype_name
from edgeconv.formats.base import Contract, Shape, TensorSpec

Maker = Callable[[np.random.Generator, int], bytes]
"""One string, of a stream of randomness and the number of the probe."""
_IMAGE_SIDES = (96, 120)
_RATE = 16000
_WORDS = (b"edge device model", b"hello world again", b"one/two three", b"A b,C d", b"0", b"42", b"zz top")
_ONE_STRING = IMAGE_OPS | {"DecodeWav", "ParseSingleExample"}
_WORD_OPS = frozenset(
    {"LookupTableFind", "LookupTableFindV2", "StringToNumber", "DecodeRaw", "DecodeCSV"}
    | {"StringSplit", "StringSplitV2", "ParseExample", "ParseExampleV2", "ParseSingleExample"}
)


def with_text_shapes(graph_def: Any, contract: Contract, front_end: FrontEnd) -> Contract:
    """The contract with a shape for each string input that has none: what takes it tells its rank."""
    import dataclasses

    finder = _Finder(graph_def, front_end)

    def stated(spec: TensorSpec) -> TensorSpec:
        if spec.dtype != "string" or spec.shape is not None:
            return spec
        shape: Shape = () if finder.takes_one(spec) else (None,)
        return dataclasses.replace(spec, shape=shape)

    return dataclasses.replace(contract, inputs=tuple(map(stated, contract.inputs)))


def text_makers(graph_def: Any, front_end: FrontEnd, vocabulary: Sequence[bytes] = ()) -> dict[str, Maker]:
    """What makes valid strings for each string input, by its name.

    Args:
        graph_def: with its calls looked through.
        front_end: the front end that was found in it.
        vocabulary: words of the files that the model's tables are read from.
    """
    finder = _Finder(graph_def, front_end, vocabulary)
    return {spec.name: finder.maker(spec) for spec in front_end.inputs if spec.dtype == "string"}


class _Finder:
    def __init__(self, graph_def: Any, front_end: FrontEnd, vocabulary: Sequence[bytes] = ()) -> None:
        self._view = GraphView(graph_def)
        self._front_end = front_end
        self._vocabulary = list(vocabulary)

    def takes_one(self, spec: TensorSpec) -> bool:
        """Whether the first op that says something of its rank takes a single string."""
        start, _ = tensor_node(spec.inner_name)
        return any(
            node.op in _ONE_STRING
            for node in self._takers(
                start, stop=frozenset({"TensorArrayScatterV3", "TensorListFromTensor", "While"})
            )
        )

    def maker(self, spec: TensorSpec) -> Maker:
        start, _ = tensor_node(spec.inner_name)
        nodes = list(self._takers(start))
        made = self._of_kind(nodes)
        if any(node.op == "DecodeBase64" for node in nodes):
            plain = made
            return lambda stream, index: base64.urlsafe_b64encode(plain(stream, index))
        return made

    def _takers(self, start: str, stop: frozenset[str] = frozenset()) -> Iterator[Any]:
        """The nodes that a string gets to, nearest first, those in the bodies of loops included."""
        seen = {start}
        todo = [start]
        while todo:
            name = todo.pop(0)
            for taker in self._view.consumers[name]:
                node = self._view.nodes[taker]
                if taker in seen or taker not in self._front_end.nodes or node.op in stop:
                    continue
                seen.add(taker)
                yield node
                yield from inside(node, self._view.functions)
                if node.op not in _ONE_STRING | _WORD_OPS:
                    todo.append(taker)
                    if node.op == "TensorArrayScatterV3":
                        todo.append(tensor_node(node.input[0])[0])

    def _of_kind(self, nodes: Sequence[Any]) -> Maker:
        for node in nodes:
            if node.op == "DecodeWav":
                return self._wav(node)
            if node.op in IMAGE_OPS:
                return self._image(node, nodes)
            if node.op in ("ParseExample", "ParseExampleV2", "ParseSingleExample"):
                return self._record(node)
            if node.op == "StringToNumber":
                whole = dtype_name(node.attr["out_type"].type).startswith("int")
                return lambda stream, index: _number(stream, whole)
            if node.op == "DecodeRaw":
                size = 16 * np.dtype(dtype_name(node.attr["out_type"].type)).itemsize
                return lambda stream, index: stream.integers(0, 100, size, dtype=np.uint8).tobytes()
            if node.op == "DecodeCSV":
                kinds = [dtype_name(number) for number in node.attr["OUT_TYPE"].list.type]
                mark = node.attr["field_delim"].s or b","
                return lambda stream, index: mark.join(_field(stream, kind) for kind in kinds)
        return self._words(nodes)

    def _wav(self, node: Any) -> Maker:
        samples = int(node.attr["desired_samples"].i) if "desired_samples" in node.attr else -1
        channels = int(node.attr["desired_channels"].i) if "desired_channels" in node.attr else -1
        length = samples if samples > 0 else _RATE
        return lambda stream, index: _recording(stream, index, length, max(1, channels))

    def _image(self, node: Any, nodes: Sequence[Any]) -> Maker:
        kind = {"DecodePng": "PNG", "DecodeBmp": "BMP", "DecodeGif": "GIF"}.get(node.op, "JPEG")
        channels = int(node.attr["channels"].i) or 3
        resized = any(each.op.startswith("Resize") for each in nodes) or any(
            self._view.nodes[name].op.startswith("Resize") for name in self._front_end.nodes
        )
        sides = _IMAGE_SIDES
        for spec in self._front_end.cut:
            shape = spec.shape or ()
            if not resized and len(shape) >= 3 and shape[-3] and shape[-2]:
                sides = (shape[-3], shape[-2])
        return lambda stream, index: _picture(stream, index, kind, sides, channels)

    def _record(self, node: Any) -> Maker:
        features = list(self._features(node))
        return lambda stream, index: _example(stream, features, self._vocabulary)

    def _features(self, node: Any) -> Iterator[tuple[bytes, str, int | None]]:
        """Name, dtype and number of values of each feature; ``None`` where the number is free."""
        sources = self._view.data_inputs(node.name) if node.name in self._view.nodes else []
        sparse = [dtype_name(number) for number in node.attr["sparse_types"].list.type]
        dense = [dtype_name(number) for number in node.attr["Tdense"].list.type]
        ragged = [dtype_name(number) for number in node.attr["ragged_value_types"].list.type]
        counts = [_elements(shape) for shape in node.attr["dense_shapes"].list.shape]
        if node.op == "ParseSingleExample":
            names = [list(node.attr[key].list.s) for key in ("sparse_keys", "dense_keys")]
            keys: list[list[bytes]] = [*names, []]
        elif node.op == "ParseExampleV2":
            keys = [self._texts(*source) for source in sources[2:5]]
        else:
            single = [self._texts(*source)[:1] for source in sources[2 : 2 + len(sparse) + len(dense)]]
            flat = [key for each in single for key in each]
            keys = [flat[: len(sparse)], flat[len(sparse) :], []]
        for key, dtype in zip(keys[0], sparse, strict=False):
            yield key, dtype, None
        for key, dtype, count in zip(keys[1], dense, counts, strict=False):
            yield key, dtype, count
        for key, dtype in zip(keys[2] if len(keys) > 2 else [], ragged, strict=False):
            yield key, dtype, None

    def _texts(self, name: str, port: int) -> list[bytes]:
        node = self._view.nodes[name]
        while node.op == "Identity":
            node = self._view.nodes[tensor_node(node.input[0])[0]]
        return [bytes(text) for text in node.attr["value"].tensor.string_val] if node.op == "Const" else []

    def _words(self, nodes: Sequence[Any]) -> Maker:
        words: list[bytes] = list(_WORDS)
        known: list[bytes] = list(self._vocabulary)
        looks_up = any(node.op in ("LookupTableFind", "LookupTableFindV2") for node in nodes)
        for node in self._view.nodes.values():
            if node.op in (
                "InitializeTable",
                "InitializeTableV2",
                "LookupTableImport",
                "LookupTableImportV2",
            ):
                known += self._texts(*self._view.data_inputs(node.name)[1])
        if looks_up and known:
            words = [*known[:200], words[0], words[-1]]

        def word(stream: np.random.Generator, index: int) -> bytes:
            return words[int(stream.integers(0, len(words)))]

        return word


def _recording(stream: np.random.Generator, index: int, length: int, channels: int) -> bytes:
    """A 16-bit WAV file of three tones over noise, louder from probe to probe."""
    time = np.arange(length) / _RATE
    tones = sum(
        np.sin(2 * np.pi * f * time + p)
        for f, p in zip(stream.uniform(100, 3500, 3), stream.uniform(0, 6, 3), strict=True)
    )
    signal = (0.1 + 0.2 * (index % 3)) * np.asarray(tones) / 3 + stream.normal(0, 0.02, (channels, length))
    samples = np.clip(np.rint(signal.T * 32767), -32768, 32767).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(_RATE)
        writer.writeframes(samples.tobytes())
    return file.getvalue()


def _picture(
    stream: np.random.Generator, index: int, kind: str, sides: tuple[int, int], channels: int
) -> bytes:
    """An image file: smooth colours, a shape with edges, some noise."""
    from PIL import Image

    height, width = sides
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [
        np.sin(rows / stream.uniform(4, 20) + columns / stream.uniform(4, 20) + stream.uniform(0, 6))
        for _ in range(channels)
    ]
    pixels = 128 + 90 * np.stack(waves, 2) + stream.normal(0, 6, (height, width, channels))
    pixels[height // 4 : height // 2, width // 3 : width // 2] = stream.uniform(0, 255, channels)
    image = np.clip(pixels, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    if kind == "GIF":
        Image.fromarray(image[:, :, :3] if channels >= 3 else image[:, :, 0]).save(file, "GIF")
    else:
        shown = image[:, :, :3] if kind == "JPEG" and channels > 3 else image
        Image.fromarray(shown[:, :, 0] if shown.shape[2] == 1 else shown).save(file, kind)
    return file.getvalue()


def _example(
    stream: np.random.Generator, features: Sequence[tuple[bytes, str, int | None]], words: Sequence[bytes]
) -> bytes:
    """A serialized ``tf.train.Example`` with these features."""
    body = b""
    for name, dtype, count in features:
        number = int(stream.integers(1, 4)) if count is None else count
        if dtype == "string":
            pool = [*words[:50], *_WORDS] if words else _WORDS
            chosen = [pool[int(i)] for i in stream.integers(0, len(pool), number)]
            kind, values = 1, b"".join(_field_of(1, word) for word in chosen)
        elif dtype == "float32":
            kind, values = 2, _field_of(1, struct.pack(f"<{number}f", *stream.normal(0, 1, number)))
        else:
            kind, values = 3, _field_of(1, b"".join(_varint(int(i)) for i in stream.integers(0, 10, number)))
        body += _field_of(1, _field_of(1, name) + _field_of(2, _field_of(kind, values)))
    return _field_of(1, body)


def _field_of(number: int, data: bytes) -> bytes:
    """A length-delimited field of a protocol buffer message."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _number(stream: np.random.Generator, whole: bool) -> bytes:
    return str(int(stream.integers(-50, 50))).encode() if whole else f"{stream.normal(0, 10):.3f}".encode()


def _field(stream: np.random.Generator, kind: str) -> bytes:
    if kind == "string":
        return _WORDS[int(stream.integers(0, 3))]
    return _number(stream, kind.startswith("int"))


def _elements(shape: Any) -> int | None:
    sizes = [int(dim.size) for dim in shape.dim]
    return None if any(size < 0 for size in sizes) else int(np.prod(sizes, dtype=int))
