"""``CombinedNonMaxSuppression`` as one suppression a class, which TFLite and ONNX have.

Before::

    boxes [b, n, q, 4], scores [b, n, c] ─▶ CombinedNonMaxSuppression ─▶ boxes, scores, classes, count

After, for each image and each class::

    boxes [n, 4], scores [n] ─▶ NonMaxSuppressionV4 ─▶ rows, count ─▶ Gather
                                  all classes ─▶ ConcatV2 ─▶ TopKV2 ─▶ Gather ─▶ mask, clip, pad ─▶ Pack

Semantics as the op's documentation has them: what scores above the threshold takes part; in each class boxes
that overlap more than the threshold with a better one are dropped, until there are
``max_output_size_per_class``; the best ``max_total_size`` of all classes are given, the other rows are zero.
"""

from __future__ import annotations

from typing import Any

from edgeconv.surgery.changes import Change
from edgeconv.surgery.graph import Graph, full, short

NAME = "combined_nms"
MOST = 1024
"""Images times classes that are written out; each takes about ten nodes."""
_LOWEST = -3.0e38


def rewrite(graph: Graph) -> list[Change]:
    """Replace every ``CombinedNonMaxSuppression`` whose numbers are known; others are left and said."""
    found = [graph.nodes[n] for n in graph.on_path() if graph.nodes[n].op == "CombinedNonMaxSuppression"]
    return [_one(graph, node) for node in found]


def _one(graph: Graph, node: Any) -> Change:
    boxes, scores, most, total, iou, threshold = graph.data_inputs(node)
    shapes = _shapes(graph, (boxes, scores))
    sizes = [int(size) for reference in (most, total) if (size := graph.constant(reference)) is not None]
    if shapes is None or len(sizes) < 2:
        return Change(
            NAME,
            f"'{node.name}' (CombinedNonMaxSuppression) was left as it is: the number of images, boxes or "
            "classes is not known; pin the batch with --shape",
            warning=True,
        )
    (images, rows, shared, _), (_, _, classes) = shapes
    if images * classes > MOST:
        return Change(
            NAME,
            f"'{node.name}' (CombinedNonMaxSuppression) was left as it is: {classes} classes of {images} "
            f"images are more than {MOST} suppressions; cut in front of it: "
            f"--outputs {short(boxes)},{short(scores)}",
            warning=True,
        )
    each = min(sizes[0], rows)
    kept = min(sizes[1], each * classes)
    padded = min(sizes[1], sizes[0] * classes) if node.attr["pad_per_class"].b else sizes[1]
    writer = _Writer(graph, node.name, (iou, threshold))
    clip = node.attr["clip_boxes"].b if "clip_boxes" in node.attr else True
    parts: list[list[str]] = [[], [], [], []]
    for image in range(images):
        made = writer.image(boxes, scores, image, (rows, classes, shared > 1), (each, kept, padded), clip)
        for part, reference in zip(parts, made, strict=True):
            part.append(reference)
    for port, references in enumerate(parts):
        graph.redirect(full(node.name) if port == 0 else f"{node.name}:{port}", writer.pack(references, port))
    graph.remove([node.name])
    return Change(NAME, f"'{node.name}' (CombinedNonMaxSuppression) is one suppression for each class now")


def _shapes(graph: Graph, references: tuple[str, ...]) -> list[list[int]] | None:
    """Static shapes of tensors, as TensorFlow infers them; ``None`` if one is open."""
    import tensorflow as tf

    with tf.Graph().as_default() as inferred:
        tf.import_graph_def(graph.graph_def, name="")
        found = [inferred.get_tensor_by_name(full(reference)).shape for reference in references]
    if any(not shape.is_fully_defined() for shape in found):
        return None
    return [shape.as_list() for shape in found]


class _Writer:
    """Adds the nodes that take the place of one op."""

    def __init__(self, graph: Graph, name: str, thresholds: tuple[str, str]) -> None:
        self._graph = graph
        self._name = name
        self._thresholds = thresholds

    def image(
        self,
        boxes: str,
        scores: str,
        image: int,
        sizes: tuple[int, int, bool],
        most: tuple[int, int, int],
        clip: bool,
    ) -> tuple[str, str, str, str]:
        """One image: boxes ``[padded, 4]``, scores and classes ``[padded]``, and a count.

        Args:
            boxes, scores: of all images.
            image: its number.
            sizes: boxes, classes, and whether each class has boxes of its own.
            most: rows a class, rows kept, rows of the output.
            clip: whether boxes are clipped to 0 … 1.
        """
        import numpy as np
        import tensorflow as tf

        rows, classes, own = sizes
        each, kept, padded = most
        chosen_boxes, chosen_scores = [], []
        for number in range(classes):
            column = self._slice(boxes, [image, 0, number if own else 0, 0], [1, rows, 1, 4], [rows, 4])
            values = self._slice(scores, [image, 0, number], [1, rows, 1], [rows])
            picked = self._add(
                "NonMaxSuppressionV4",
                [column, values, self._number(np.int32(each)), *self._thresholds],
                T=tf.float32,
                T_threshold=tf.float32,
                pad_to_max_output_size=True,
            )
            there = self._add(
                "Less", [self._number(np.arange(each, dtype=np.int32)), f"{picked}:1"], T=tf.int32
            )
            score = self._gather(values, picked, tf.float32)
            low = self._number(np.full(each, _LOWEST, np.float32))
            chosen_scores.append(self._add("SelectV2", [there, score, low], T=tf.float32))
            chosen_boxes.append(self._gather(column, picked, tf.float32))
        labels = self._number(np.repeat(np.arange(classes, dtype=np.float32), each))
        best = self._add(
            "TopKV2",
            [self._concat(chosen_scores), self._number(np.int32(kept))],
            T=tf.float32,
            sorted=True,
            index_type=tf.int32,
        )
        there = self._add("Greater", [best, self._number(np.float32(_LOWEST / 2))], T=tf.float32)
        count = self._add(
            "Sum",
            [
                self._add("Cast", [there], SrcT=tf.bool, DstT=tf.int32, Truncate=False),
                self._number(np.array([0], np.int32)),
            ],
            T=tf.int32,
            Tidx=tf.int32,
            keep_dims=False,
        )
        order = f"{best}:1"
        found = self._gather(self._concat(chosen_boxes), order, tf.float32)
        if clip:
            limits = self._number(np.float32(1)), self._number(np.float32(0))
            found = self._add("Minimum", [found, limits[0]], T=tf.float32)
            found = self._add("Maximum", [found, limits[1]], T=tf.float32)
        zeros = self._number(np.zeros(kept, np.float32))
        given = [
            self._add(
                "SelectV2",
                [
                    self._add("ExpandDims", [there, self._number(np.int32(1))], T=tf.bool, Tdim=tf.int32),
                    found,
                    self._number(np.zeros((kept, 4), np.float32)),
                ],
                T=tf.float32,
            ),
            self._add("SelectV2", [there, best, zeros], T=tf.float32),
            self._add("SelectV2", [there, self._gather(labels, order, tf.float32), zeros], T=tf.float32),
        ]
        if padded > kept:
            given = [
                self._add(
                    "Pad",
                    [reference, self._number(np.array([[0, padded - kept], *extra], np.int32))],
                    T=tf.float32,
                    Tpaddings=tf.int32,
                )
                for reference, extra in zip(given, ([[0, 0]], [], []), strict=True)
            ]
        return given[0], given[1], given[2], count

    def pack(self, references: list[str], port: int) -> str:
        """The images as one batch."""
        import tensorflow as tf

        dtype = tf.int32 if port == 3 else tf.float32
        return self._add("Pack", references, N=len(references), T=dtype, axis=0)

    def _slice(self, reference: str, begin: list[int], size: list[int], shape: list[int]) -> str:
        import numpy as np
        import tensorflow as tf

        part = self._add(
            "Slice",
            [reference, self._number(np.array(begin, np.int32)), self._number(np.array(size, np.int32))],
            T=tf.float32,
            Index=tf.int32,
        )
        return self._add(
            "Reshape", [part, self._number(np.array(shape, np.int32))], T=tf.float32, Tshape=tf.int32
        )

    def _gather(self, reference: str, rows: str, dtype: Any) -> str:
        import numpy as np
        import tensorflow as tf

        return self._add(
            "GatherV2",
            [reference, rows, self._number(np.int32(0))],
            Tparams=dtype,
            Tindices=tf.int32,
            Taxis=tf.int32,
            batch_dims=0,
        )

    def _concat(self, references: list[str]) -> str:
        import numpy as np
        import tensorflow as tf

        if len(references) == 1:
            return references[0]
        return self._add(
            "ConcatV2",
            [*references, self._number(np.int32(0))],
            N=len(references),
            T=tf.float32,
            Tidx=tf.int32,
        )

    def _number(self, value: Any) -> str:
        return self._graph.add_constant(f"{self._name}/constant", value)

    def _add(self, op: str, inputs: list[str], **attributes: Any) -> str:
        return self._graph.add(op, f"{self._name}/{op}", inputs, **attributes)
