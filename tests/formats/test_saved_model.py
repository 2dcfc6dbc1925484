"""SavedModels are described from their folder alone: tags, signatures, weights, assets, dangers."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeconv.errors import InvalidModelError, UsageError
from edgeconv.formats._tensorflow_protos import tensorflow_protos
from edgeconv.formats.saved_model import FORMAT, choose_meta_graph, describe_saved_model

FLOAT, FLOAT_REF, STRING = 1, 101, 7


def add_graph(saved_model: Any, tags: list[str], op: str = "Relu") -> Any:
    """A metagraph ``x -> OP -> y`` with the signature serving_default."""
    meta = saved_model.meta_graphs.add()
    meta.meta_info_def.tags.extend(tags)
    meta.meta_info_def.tensorflow_version = "2.21.0"
    placeholder = meta.graph_def.node.add(name="x", op="Placeholder")
    placeholder.attr["dtype"].type = FLOAT
    meta.graph_def.node.add(name="y", op=op, input=["x"]).attr["T"].type = FLOAT
    signature = meta.signature_def["serving_default"]
    for specs, key, name in ((signature.inputs, "image", "x:0"), (signature.outputs, "scores", "y:0")):
        specs[key].name = name
        specs[key].dtype = FLOAT_REF
        specs[key].tensor_shape.dim.add(size=-1)
        specs[key].tensor_shape.dim.add(size=4)
    hidden = meta.signature_def["__saved_model_init_op"]
    hidden.outputs["__saved_model_init_op"].name = "y:0"
    return meta


def model(*tag_sets: list[str]) -> Any:
    saved_model = tensorflow_protos().SavedModel(saved_model_schema_version=1)
    for tags in tag_sets or (["serve"],):
        add_graph(saved_model, tags)
    return saved_model


def write(folder: Path, saved_model: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "saved_model.pb").write_bytes(saved_model.SerializeToString(deterministic=True))
    return folder


def test_shapes_that_the_exporter_left_out_are_those_of_the_graph(tmp_path: Path) -> None:
    saved_model = model()
    meta = saved_model.meta_graphs[0]
    known = meta.graph_def.node[1].attr["_output_shapes"].list.shape.add()
    for size in (-1, 4):
        meta.graph_def.node[0].attr["shape"].shape.dim.add(size=size)
        known.dim.add(size=size)
    signature = meta.signature_def["serving_default"]
    for specs, key in ((signature.inputs, "image"), (signature.outputs, "scores")):
        del specs[key].tensor_shape.dim[:]
    (described,) = FORMAT.describe(write(tmp_path, saved_model)).signatures
    assert described.inputs[0].shape == (None, 4)
    assert described.outputs[0].shape == (None, 4)


def test_signatures_keep_their_keys_and_the_hidden_ones_are_left_out(tmp_path: Path) -> None:
    description = FORMAT.describe(write(tmp_path, model()))
    (signature,) = description.signatures
    assert signature.name == "serving_default"
    (image,), (scores,) = signature.inputs, signature.outputs
    assert (image.name, image.tensor, image.dtype, image.shape) == ("image", "x:0", "float32", (None, 4))
    assert (scores.name, scores.tensor) == ("scores", "y:0")
    assert description.producer == "TensorFlow 2.21.0"
    assert description.ops == {"Placeholder": 1, "Relu": 1}


def test_the_proto_by_itself_and_the_text_form_are_the_model_too(tmp_path: Path) -> None:
    from google.protobuf import text_format

    folder = write(tmp_path / "binary", model())
    proto = folder / "saved_model.pb"
    assert FORMAT.recognise(proto, proto.read_bytes()[:4096]) > 0.5
    assert FORMAT.describe(proto).signatures == FORMAT.describe(folder).signatures
    text = tmp_path / "text"
    text.mkdir()
    (text / "saved_model.pbtxt").write_text(text_format.MessageToString(model()))
    assert FORMAT.recognise(text, b"") == 1.0
    assert FORMAT.describe(text).signatures == FORMAT.describe(folder).signatures


def test_the_graph_is_chosen_by_its_tags() -> None:
    several = model(["serve", "gpu"], ["serve"], ["train"], [])
    assert list(choose_meta_graph(several).meta_info_def.tags) == ["serve"]
    assert list(choose_meta_graph(several, ("gpu", "serve")).meta_info_def.tags) == ["serve", "gpu"]
    assert list(choose_meta_graph(several, ()).meta_info_def.tags) == []
    assert list(choose_meta_graph(model(["train", "serve"])).meta_info_def.tags) == ["train", "serve"]
    with pytest.raises(UsageError, match="its tag sets are") as caught:
        choose_meta_graph(several, ("tpu",))
    assert "--tags" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="not clear") as caught:
        choose_meta_graph(model(["train"], ["eval"]))
    assert "--tags train" in (caught.value.hint or "")


def test_a_folder_of_one_version_is_that_version_and_of_several_is_ambiguous(tmp_path: Path) -> None:
    write(tmp_path / "00000123", model())
    assert FORMAT.recognise(tmp_path, b"") > 0
    assert FORMAT.describe(tmp_path).metadata["version_folder"] == "00000123"
    write(tmp_path / "7", model())
    with pytest.raises(UsageError, match="7, 00000123"):
        FORMAT.describe(tmp_path)


def test_variables_without_their_values_make_the_model_invalid(tmp_path: Path) -> None:
    saved_model = model()
    meta = saved_model.meta_graphs[0]
    meta.graph_def.node.add(name="w", op="VarHandleOp")
    meta.graph_def.node[1].input.append("w")
    with pytest.raises(InvalidModelError) as caught:
        FORMAT.describe(write(tmp_path, saved_model))
    assert "variables.index" in str(caught.value)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b"])
def test_assets_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    saved_model = model()
    saved_model.meta_graphs[0].asset_file_def.add(filename=name)
    with pytest.raises(InvalidModelError, match="outside"):
        FORMAT.describe(write(tmp_path, saved_model))


def test_a_linked_asset_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    saved_model = model()
    saved_model.meta_graphs[0].asset_file_def.add(filename="vocabulary.txt")
    folder = write(tmp_path / "model", saved_model)
    (folder / "assets").mkdir()
    (folder / "assets" / "vocabulary.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(InvalidModelError, match="leads out"):
        FORMAT.describe(folder)


def test_dangers_count_in_signatures_and_at_loading_but_not_in_the_saver(tmp_path: Path) -> None:
    saved_model = model()
    meta = saved_model.meta_graphs[0]
    meta.graph_def.node.add(name="save/SaveV2", op="SaveV2", input=["y"])
    assert not FORMAT.describe(write(tmp_path / "a", saved_model)).findings
    meta.graph_def.node.add(name="init", op="WriteFile")
    meta.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "init"
    (finding,) = FORMAT.describe(write(tmp_path / "b", saved_model)).findings
    assert (finding.code, finding.where) == ("untrusted-op", "init")
    called = model()
    called.meta_graphs[0].graph_def.node[1].op = "EagerPyFunc"
    assert {f.code for f in FORMAT.describe(write(tmp_path / "c", called)).findings} == {"untrusted-op"}


def test_a_signature_that_does_not_exist_is_answered_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it has serving_default"):
        describe_saved_model(write(tmp_path, model()), signature="predict")


def test_a_schema_from_the_future_is_refused(tmp_path: Path) -> None:
    saved_model = model()
    saved_model.saved_model_schema_version = 9
    with pytest.raises(InvalidModelError, match="schema version 9"):
        FORMAT.describe(write(tmp_path, saved_model))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cut=st.integers(0, 300), flips=st.lists(st.tuples(st.integers(0, 300), st.integers(1, 255)), max_size=4)
)
def test_damaged_models_are_described_or_refused_and_never_crash(
    tmp_path: Path, cut: int, flips: list[tuple[int, int]]
) -> None:
    data = bytearray(model().SerializeToString(deterministic=True))
    for place, mask in flips:
        data[place % len(data)] ^= mask
    path = tmp_path / "saved_model.pb"
    path.write_bytes(data[: len(data) - cut % len(data)])
    FORMAT.recognise(path, path.read_bytes()[:4096])
    with contextlib.suppress(InvalidModelError, UsageError):
        FORMAT.describe(tmp_path)


@pytest.mark.slow
def test_an_export_of_tensorflow_is_described_as_it_is(tmp_path: Path) -> None:
    import tensorflow as tf

    class Net(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(tf.ones([3, 3, 2, 5]))
            self.frozen = tf.Variable(tf.ones([5]), trainable=False)

        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 2], tf.float32, name="image")])  # type: ignore[misc]
        def __call__(self, image: Any) -> dict[str, Any]:
            return {"features": tf.nn.conv2d(image, self.kernel, 1, "SAME") + self.frozen}

    net = Net()
    tf.saved_model.save(net, str(tmp_path / "model"), signatures=net.__call__)
    description = FORMAT.describe(tmp_path / "model")
    (signature,) = description.signatures
    assert [spec.name for spec in signature.inputs] == ["image"]
    assert signature.outputs[0].shape == (None, 8, 8, 5)
    assert description.parameters == 3 * 3 * 2 * 5 + 5
    assert description.metadata["trainable_parameters"] == 3 * 3 * 2 * 5
    assert description.macs == 8 * 8 * 5 * 3 * 3 * 2
    assert description.ops["Conv2D"] == 1
    assert description.metadata["generation"] == "TF2"
    assert description.metadata["fingerprint"]["uuid"]
    assert not description.findings
    (tmp_path / "model" / "variables" / "variables.data-00000-of-00001").unlink()
    with pytest.raises(InvalidModelError, match="data-00000-of-00001"):
        FORMAT.describe(tmp_path / "model")


@pytest.mark.corpus
def test_every_real_model_is_described_or_refused_for_its_reason(corpus: Path) -> None:
    folders = sorted(path.parent for path in corpus.rglob("saved_model.pb"))
    assert folders
    for folder in folders:
        if folder.is_relative_to(corpus / "neg-lfs-pointers"):
            with pytest.raises(InvalidModelError, match="Git LFS pointer"):
                FORMAT.describe(folder)
            continue
        description = FORMAT.describe(folder)
        assert description.signatures, folder
        assert description.producer, folder
        for signature in description.signatures:
            for spec in (*signature.inputs, *signature.outputs):
                assert not spec.dtype.startswith("dtype"), folder


@pytest.mark.corpus
def test_facts_of_real_models(corpus: Path) -> None:
    kws = FORMAT.describe(corpus / "sm-mlperftiny/kws/kws_ref_model")
    assert (kws.parameters, kws.macs, kws.metadata["keras_version"]) == (24_908, 2_656_768, "2.4.0")
    assert kws.metadata["trainable_parameters"] == 23_756
    forest = FORMAT.describe(corpus / "sm-tfdf-adult/saved_model_adult_rf")
    assert any(op.startswith("SimpleML") for op in forest.ops)
    assert "header.pb" in forest.metadata["assets"]
    training = FORMAT.describe(corpus / "sm-tf-rust/regression-model")
    assert training.metadata["tag_sets"] == [["serve", "train"]]
    mnist = {f.code for f in FORMAT.describe(corpus / "mlnet-mnist/mnist_conv_model").findings}
    assert {"live-dropout", "training-switch"} <= mnist
    with pytest.raises(UsageError, match="00000123, 00000124"):
        FORMAT.describe(corpus / "sm-serving/saved_model_half_plus_two_2_versions")
    with pytest.raises(InvalidModelError, match=r"saved_model\.pb"):
        FORMAT.describe(corpus / "odapi-tf2-ckptonly/inference_graph/saved_model")
