"""SavedModels without signatures: what their functions take and give, exact to the variable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.conversions.base import ConversionJob
from edgeconv.conversions.frozen_graph_from_saved_model import CONVERSION
from edgeconv.errors import UsageError
from edgeconv.formats.base import Artifact
from edgeconv.formats.saved_model import FORMAT
from edgeconv.recipe.contracts import source_contract
from edgeconv.runtimes.tensorflow_graph import RUNTIME as GRAPH
from edgeconv.runtimes.tensorflow_saved_model import RUNTIME


def saved(folder: Path, *functions: str, training: bool = True) -> Any:
    """A module whose variables share one name, traced for training and inference and for several shapes."""
    import tensorflow as tf

    class Module(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = tf.Variable([[1.0, 2.0], [3.0, 4.0]], name="same")
            self.bias = tf.Variable([1.0, -1.0], name="same")
            self.scale = tf.Variable([5.0, 7.0], name="same")
            self.shift = tf.constant([0.5, 0.25])

    module = Module()

    @tf.function
    def call(x: Any, training: bool = False) -> Any:
        y = (x @ module.weight + module.bias) * module.scale + module.shift
        return {"y": y * 100.0 if training else y, "a": tf.nn.relu(y)}

    for name in functions:
        setattr(module, name, call if name == functions[0] else tf.function(lambda x: x * module.scale))
    if functions:
        call(tf.zeros((1, 2)))
        call(tf.zeros((4, 2)), training=training)
        call.get_concrete_function(tf.TensorSpec((None, 2), name="x"))
        call.get_concrete_function(tf.TensorSpec((None, 2), name="x"), training=training)
    for name in functions[1:]:
        getattr(module, name).get_concrete_function(tf.TensorSpec((None, 2), name="x"))
    tf.saved_model.save(module, str(folder))
    return module


def test_the_trace_for_inference_that_takes_most_is_the_signature(tmp_path: Path) -> None:
    saved(tmp_path / "m", "infer")
    found = FORMAT.describe(tmp_path / "m")
    (signature,) = found.signatures
    assert signature.name == "infer"
    assert [(spec.name, spec.shape) for spec in signature.inputs] == [("x", (None, 2))]
    assert [spec.name for spec in signature.outputs] == ["a", "y"]
    assert "function-signature" in {finding.code for finding in found.findings}
    assert found.parameters == 4 + 2 + 2 + 2


def test_it_gives_what_the_function_gives_and_freezes_to_the_same(tmp_path: Path) -> None:
    module = saved(tmp_path / "m", "infer")
    contract = source_contract(FORMAT, FORMAT.describe(tmp_path / "m"))
    x = np.array([[1.0, 2.0], [-3.0, 0.5]], "float32")
    wanted = {name: value.numpy() for name, value in module.infer(x).items()}
    with RUNTIME.open(tmp_path / "m", contract) as session:
        run = session.infer({"x": x})
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    source = Artifact(tmp_path / "m", "saved_model", "fp32", "", contract)
    frozen = CONVERSION.convert(ConversionJob(source, tmp_path / "f.pb", "fp32", scratch, None, {}))
    with GRAPH.open(tmp_path / "f.pb", frozen.contract) as session:
        from_frozen = session.infer({"x": x})
    for name, value in wanted.items():
        np.testing.assert_allclose(run[name], value, rtol=1e-6)
        np.testing.assert_allclose(from_frozen[name], value, rtol=1e-6)


def test_several_functions_are_candidates_to_choose_from(tmp_path: Path) -> None:
    saved(tmp_path / "m", "embed", "score")
    description = FORMAT.describe(tmp_path / "m")
    assert {signature.name for signature in description.signatures} == {"embed", "score"}
    with pytest.raises(UsageError, match="several signatures") as caught:
        source_contract(FORMAT, description)
    assert "--signature: embed, score" in (caught.value.hint or "")
    chosen = source_contract(FORMAT, description, signature="score")
    with RUNTIME.open(tmp_path / "m", chosen) as session:
        (found,) = session.infer({"x": np.ones((1, 2), "float32")}).values()
    assert found.tolist() == [[5.0, 7.0]]


def test_a_model_without_functions_still_has_no_signature(tmp_path: Path) -> None:
    saved(tmp_path / "m")
    found = FORMAT.describe(tmp_path / "m")
    assert found.signatures == ()
    assert "no-signature" in {finding.code for finding in found.findings}


def test_of_the_graphs_of_a_hub_module_that_without_tags_is_for_inference(tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    builder = v1.saved_model.Builder(str(tmp_path / "hub"))
    for number, tags in enumerate((["train"], [])):
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float32, (None, 2), name="x")
            weight = v1.get_variable("weight", initializer=[1.0, 2.0])
            y = tf.identity(x * weight + float(number), name="y")
            session.run(v1.global_variables_initializer())
            signature = {"default": v1.saved_model.predict_signature_def({"x": x}, {"y": y})}
            if number:
                builder.add_meta_graph(tags, signature_def_map=signature)
            else:
                builder.add_meta_graph_and_variables(session, tags, signature_def_map=signature)
    builder.save()
    description = FORMAT.describe(tmp_path / "hub")
    assert description.metadata["tags"] == []
    with RUNTIME.open(tmp_path / "hub", source_contract(FORMAT, description)) as session:
        assert session.infer({"x": np.ones((1, 2), "float32")})["y"].tolist() == [[2.0, 3.0]]
