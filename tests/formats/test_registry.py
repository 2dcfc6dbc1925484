"""A path is told by its content; what is no model gets one line that says what it is instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeconv.errors import InvalidModelError, UsageError
from edgeconv.formats.registry import format_named, formats, identify, sha256_of

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 42\n"


def test_the_formats_of_tensorflow_are_registered() -> None:
    assert {"saved_model", "frozen_graph", "keras", "checkpoint"} <= set(formats())


def test_a_misspelt_format_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        format_named("saved-model")
    assert "saved_model" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "name", ["model.pb", "model.h5", "model.keras", "model.ckpt.index", "model.tflite", "m.onnx"]
)
def test_a_git_lfs_pointer_is_told_as_one(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(POINTER)
    with pytest.raises(InvalidModelError, match="Git LFS pointer"):
        identify(path)


def test_a_pointer_inside_a_folder_is_told_as_one(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(POINTER)
    with pytest.raises(InvalidModelError, match="Git LFS pointer") as caught:
        identify(tmp_path).describe(tmp_path)
    assert "git lfs pull" in (caught.value.hint or "")


def test_empty_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pb"
    empty.touch()
    with pytest.raises(InvalidModelError, match="empty"):
        identify(empty)
    with pytest.raises(UsageError, match="no such file"):
        identify(tmp_path / "nothing.pb")
    text = tmp_path / "notes.pb"
    text.write_text("dear diary")
    with pytest.raises(InvalidModelError, match="dear diary"):
        identify(text)
    with pytest.raises(InvalidModelError, match="a folder with"):
        identify(tmp_path)


def test_a_folder_around_a_model_is_answered_with_the_model(tmp_path: Path) -> None:
    """Exporters leave ``saved_model/`` beside other things, and people name the folder around it."""
    import tensorflow as tf

    tf.saved_model.save(tf.Module(), str(tmp_path / "exported" / "saved_model"))
    (tmp_path / "exported" / "LICENSE").write_text("free")
    with pytest.raises(InvalidModelError, match="a folder with") as refused:
        identify(tmp_path / "exported")
    assert str(tmp_path / "exported" / "saved_model") in (refused.value.hint or "")


@pytest.mark.corpus
def test_each_real_model_is_told_as_what_it_is(corpus: Path) -> None:
    expected = {
        "fz-openpose/mobilenet_thin/graph.pb": "frozen_graph",
        "fz-kws-armmcu/CNN_S.pb": "frozen_graph",
        "sm-mlperftiny/kws/kws_ref_model": "saved_model",
        "sm-mlperftiny/kws/kws_ref_model/saved_model.pb": "saved_model",
        "sm-serving/saved_model_counter": "saved_model",
        "k-handgesture/model/keypoint_classifier/keypoint_classifier.hdf5": "keras",
        "k-keras3-nested/pre_pr22362_nested_container.keras": "keras",
        "ckpt2-basecaller/training_10": "checkpoint",
        "ckpt2-basecaller/training_10/cp.ckpt": "checkpoint",
        "ckpt2-basecaller/training_10/cp.ckpt.index": "checkpoint",
        "ckpt1-har-v1format/HAR_v4_2/model.ckpt": "checkpoint",
        "mlnet-cifar/cifar_model/model.ckpt.meta": "checkpoint",
        "neg-missing-data/pretrained_model": "checkpoint",
    }
    for path, name in expected.items():
        assert identify(corpus / path).name == name, path


@pytest.mark.corpus
def test_what_only_looks_like_a_graph_is_refused(corpus: Path) -> None:
    for path in (
        "sm-tfdf-adult/saved_model_adult_rf/assets/data_spec.pb",
        "sm-tfdf-adult/saved_model_adult_rf/assets/header.pb",
        "sm-modelmaker/hub_module_v1_mini_train/tfhub_module.pb",
        "sm-tfdf-adult/saved_model_adult_rf/keras_metadata.pb",
    ):
        with pytest.raises(InvalidModelError):
            identify(corpus / path)


@pytest.mark.corpus
def test_the_hash_covers_all_files_and_not_the_name(corpus: Path, tmp_path: Path) -> None:
    import shutil

    source = corpus / "sm-tfjs-node/saved_model/times_three_float"
    copy = tmp_path / "other-name"
    shutil.copytree(source, copy)
    part = identify(source)
    assert sha256_of(source, part) == sha256_of(copy, part)
    data = copy / "variables" / "variables.data-00000-of-00001"
    data.chmod(0o644)
    data.write_bytes(data.read_bytes() + b"x")
    assert sha256_of(source, part) != sha256_of(copy, part)
