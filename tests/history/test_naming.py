"""Baselines and references keep their files, and give them back byte by byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from history_examples import onnx_model
from sqlalchemy import update

from edgeconv.errors import UsageError
from edgeconv.history import baseline_artifact, naming, reference_artifact, tables
from edgeconv.history.store import open_store


def test_a_baseline_comes_back_after_its_file_is_gone(place: str, tmp_path: Path) -> None:
    model = onnx_model(tmp_path / "add.fp32.onnx")
    content = model.read_bytes()
    with open_store(place) as store:
        (named,) = naming.set_baseline(store, "main", [model])
    assert (named.format, named.precision, named.bytes) == ("onnx", "fp32", len(content))
    model.unlink()
    back = baseline_artifact("main", store=place)
    assert back.name == "add.fp32.onnx"
    assert back.read_bytes() == content


def test_the_latest_artifact_of_a_name_holds_and_the_others_are_remembered(
    place: str, tmp_path: Path
) -> None:
    model = tmp_path / "add.onnx"
    with open_store(place) as store:
        for value in (1.0, 2.0, 1.0):  # back to the first one at the end
            naming.set_baseline(store, "main", [onnx_model(model, value)])
        assert len(naming.baselines(store)) == 1
        assert len(naming.baselines(store, all_times=True)) == 3
    assert baseline_artifact("main", store=place).read_bytes() == model.read_bytes()


def test_a_name_can_stand_for_several_models_told_apart_by_file_name(place: str, tmp_path: Path) -> None:
    first, second = onnx_model(tmp_path / "a.onnx", 1), onnx_model(tmp_path / "b.onnx", 2)
    with open_store(place) as store:
        naming.set_baseline(store, "main", [first, second])
    assert baseline_artifact("main", "b.onnx", store=place).read_bytes() == second.read_bytes()
    with pytest.raises(UsageError, match="2 artifacts"):
        baseline_artifact("main", "c.onnx", store=place)
    (tmp_path / "other").mkdir()
    same_name = onnx_model(tmp_path / "other" / "a.onnx", 3)
    with open_store(place) as store, pytest.raises(UsageError, match="are called"):
        naming.set_baseline(store, "main", [first, same_name])


def test_a_model_of_several_files_comes_back_whole(place: str, tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    folder = tmp_path / "model"
    folder.mkdir()
    model = onnx.load(str(onnx_model(folder / "big.onnx")))
    import numpy as np

    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones(2000, np.float32), "c"))
    onnx.save(model, str(folder / "big.onnx"), save_as_external_data=True, location="big.data")
    with open_store(place) as store:
        naming.set_baseline(store, "main", [folder / "big.onnx"])
    back = baseline_artifact("main", store=place)
    for name in ("big.onnx", "big.data"):
        assert back.with_name(name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.slow
def test_a_model_that_is_a_folder_comes_back_whole(place: str, digits: Path) -> None:
    from edgeconv.formats.registry import identify, sha256_of

    source = next(path for path in digits.iterdir() if (path / "saved_model.pb").is_file())
    with open_store(place) as store:
        (named,) = naming.set_baseline(store, "main", [source])
    back = baseline_artifact("main", store=place)
    assert back.is_dir()
    assert sha256_of(back, identify(back)) == named.sha256


def test_a_baseline_that_is_none_is_told_with_those_that_are(place: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none was set") as error:
        baseline_artifact("main", store=place)
    assert "set-baseline main" in str(error.value.hint)
    with open_store(place) as store:
        naming.set_baseline(store, "release-1", [onnx_model(tmp_path / "a.onnx")])
    with pytest.raises(UsageError, match="release-1"):
        baseline_artifact("main", store=place)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 201, "\x1b[2J"])
def test_a_name_that_would_garble_a_terminal_is_refused(name: str, tmp_path: Path) -> None:
    with open_store() as store, pytest.raises(UsageError):
        naming.set_baseline(store, name, [onnx_model(tmp_path / "a.onnx")])


def test_a_kept_file_that_was_changed_is_not_given_out(tmp_path: Path) -> None:
    with open_store() as store:
        (named,) = naming.set_baseline(store, "main", [onnx_model(tmp_path / "a.onnx")])
        assert store.location.files is not None
        (store.location.files / named.sha256[:2] / named.sha256).write_bytes(b"something else")
    with pytest.raises(UsageError, match="was changed"):
        baseline_artifact("main")


def test_a_copy_in_the_cache_that_was_changed_is_written_anew(tmp_path: Path) -> None:
    model = onnx_model(tmp_path / "a.onnx")
    with open_store() as store:
        naming.set_baseline(store, "main", [model])
    baseline_artifact("main").write_bytes(b"changed")
    assert baseline_artifact("main").read_bytes() == model.read_bytes()


@pytest.mark.parametrize("path", ["../outside", "/outside", "a/../../outside"])
def test_no_name_in_a_store_leads_out_of_its_folder(path: str, tmp_path: Path) -> None:
    with open_store() as store:
        naming.set_baseline(store, "main", [onnx_model(tmp_path / "a.onnx")])
        with store.writing() as session:
            session.execute(update(tables.ArtifactFile).values(path=path))
    with pytest.raises(UsageError, match="out of its folder"):
        baseline_artifact("main")


def test_a_reference_is_of_its_format_until_another_is_set_or_it_is_taken_back(
    place: str, tmp_path: Path
) -> None:
    assert reference_artifact("onnx", store=place) is None
    first, second = onnx_model(tmp_path / "a.onnx", 1), onnx_model(tmp_path / "b.onnx", 2)
    with open_store(place) as store:
        naming.set_reference(store, first)
        naming.set_reference(store, second)
        found = reference_artifact("onnx", store=place)
        assert found is not None
        assert found.read_bytes() == second.read_bytes()
        assert len(naming.reference_hashes(store)) == 2
        assert naming.clear_reference(store, "onnx")
        assert not naming.clear_reference(store, "onnx")
    assert reference_artifact("onnx", store=place) is None
    assert reference_artifact("tflite", store=place) is None


def test_files_can_lie_in_a_folder_that_a_variable_names(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECONV_HISTORY_FILES", str(tmp_path / "shared"))
    model = onnx_model(tmp_path / "a.onnx")
    with open_store(place) as store:
        (named,) = naming.set_baseline(store, "main", [model])
    assert (tmp_path / "shared" / named.sha256[:2] / named.sha256).read_bytes() == model.read_bytes()
    assert baseline_artifact("main", store=place).read_bytes() == model.read_bytes()
