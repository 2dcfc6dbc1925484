"""SavedModels of TensorFlow 1 and 2 run by TensorFlow.

All of them go through the session loader: it takes what ``tf.saved_model.load`` cannot (models that a
compiled Keras 2 model wrote, one tensor under two names of a signature, reference dtypes), builds no
training functions, and its number of threads belongs to the session instead of the process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeconv.errors import InvalidModelError
from edgeconv.formats._saved_model_files import find_saved_model
from edgeconv.formats._saved_model_functions import MADE, REBOUND
from edgeconv.formats.base import Contract
from edgeconv.formats.graph_reading import split_reference
from edgeconv.runtimes._inference_reference import Reference, as_reference, replaced_in
from edgeconv.runtimes._object_values import with_values
from edgeconv.runtimes._saved_model_reading import choose_graph, contract_in, nodes_run, read_saved_model
from edgeconv.runtimes._tensorflow import (
    GraphSession,
    as_conversion_error,
    bound,
    refuse_untrusted,
    session_config,
)
from edgeconv.surgery.changes import Replaced


class TensorFlowSavedModelRuntime:
    """Runs one signature of a SavedModel in a session of its own."""

    name = "tensorflow_saved_model"
    formats = ("saved_model",)
    preload = ("tensorflow",)
    tools = ("tensorflow",)

    def open(
        self,
        path: Path,
        contract: Contract | None,
        *,
        threads: int = 1,
        options: Mapping[str, Any] | None = None,
    ) -> GraphSession:
        """See :meth:`edgeconv.runtimes.base.Runtime.open`."""
        import tensorflow as tf

        options = options or {}
        if options.get("checkpoint"):
            with tempfile.TemporaryDirectory() as place:
                completed = Path(place) / "completed"
                with_values(path, Path(str(options["checkpoint"])), options, completed)
                rest = {name: value for name, value in options.items() if name != "checkpoint"}
                return self.open(completed, contract, threads=threads, options=rest)
        folder = str(find_saved_model(path).folder)
        proto = read_saved_model(path)
        graph_def = choose_graph(proto, contract, options, str(path))
        contract = contract_in(graph_def, contract, options, str(path))
        refuse_untrusted(nodes_run(graph_def, contract), str(path), options)
        config = session_config(threads, nodes_run(graph_def, contract))
        tags = list(graph_def.meta_info_def.tags)
        reference = temporary = None
        if replaced := replaced_in(options):
            reference = _as_reference(graph_def, contract, replaced, str(path))
            contract = reference.contract
            temporary = _beside_its_variables(graph_def, folder)
            folder = temporary.name
        elif _is_function(graph_def, contract) or REBOUND in graph_def.collection_def:
            temporary = _beside_its_variables(graph_def, folder)
            folder = temporary.name
        del proto, graph_def
        graph = tf.Graph()
        session = tf.compat.v1.Session(graph=graph, config=config)
        try:
            with graph.as_default():
                tf.compat.v1.saved_model.load(session, tags, folder)
            inputs, outputs = bound(graph, contract)
        except tf.errors.NotFoundError as error:
            session.close()
            if "Op type not registered" in str(error):
                raise as_conversion_error(
                    error,
                    "the model uses a custom op that this TensorFlow does not have",
                    str(path),
                    "export the model without it; no edge format has it either",
                ) from error
            raise InvalidModelError(
                "a part of the SavedModel is missing",
                where=str(path),
                why=" ".join(str(error).split())[:200],
                hint="copy the whole folder again",
            ) from error
        except (tf.errors.OpError, ValueError, KeyError, RuntimeError, OSError) as error:
            session.close()
            raise as_conversion_error(error, "TensorFlow cannot load the SavedModel", str(path)) from error
        finally:
            if temporary is not None:
                temporary.cleanup()
        if reference is not None:
            return reference.session(session, inputs, outputs, str(path))
        return GraphSession(session, inputs, outputs, str(path))


def _is_function(meta_graph: Any, contract: Contract) -> bool:
    """Whether the signature is one that the file on disk does not have."""
    name = contract.signature or ""
    return name in meta_graph.signature_def and meta_graph.signature_def[name].method_name == MADE


def _as_reference(meta_graph: Any, contract: Contract, replaced: Sequence[Replaced], path: str) -> Reference:
    """The graph of ``meta_graph`` as the reference of an inference graph; it takes the place of its own."""
    signatures = dict(meta_graph.signature_def)
    loads = [meta_graph.saver_def.restore_op_name]
    for key in ("saved_model_main_op", "legacy_init_op"):
        if key in meta_graph.collection_def:
            loads += meta_graph.collection_def[key].node_list.value
    if "__saved_model_init_op" in signatures:
        loads += [info.name for info in signatures.pop("__saved_model_init_op").outputs.values()]
    keep = [meta_graph.saver_def.filename_tensor_name, meta_graph.saver_def.save_tensor_name]
    keep += [asset.tensor_info.name for asset in meta_graph.asset_file_def]
    for each in signatures.values():
        keep += [info.name for info in (*each.inputs.values(), *each.outputs.values())]
    reference = as_reference(
        meta_graph.graph_def,
        contract,
        replaced,
        path,
        loads=[split_reference(name)[0] for name in loads],
        keep=[split_reference(name)[0] for name in keep],
    )
    if reference.graph_def is not meta_graph.graph_def:
        meta_graph.graph_def.CopyFrom(reference.graph_def)
    return reference


def _beside_its_variables(meta_graph: Any, folder: str) -> tempfile.TemporaryDirectory[str]:
    """A SavedModel of ``meta_graph`` alone, with the variables and assets of the one in ``folder``."""
    from tensorflow.core.protobuf import saved_model_pb2

    temporary = tempfile.TemporaryDirectory(prefix="edgeconv-")
    proto = saved_model_pb2.SavedModel(saved_model_schema_version=1, meta_graphs=[meta_graph])
    home = Path(temporary.name)
    (home / "saved_model.pb").write_bytes(proto.SerializeToString())
    for each in Path(folder).absolute().iterdir():
        if each.name not in ("saved_model.pb", "saved_model.pbtxt"):
            (home / each.name).symlink_to(each)
    return temporary


RUNTIME = TensorFlowSavedModelRuntime()
