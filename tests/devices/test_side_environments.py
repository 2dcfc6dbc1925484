"""Old runtimes in their real versions, in side environments of this machine, against those of today."""

from __future__ import annotations

from pathlib import Path

import made_once
import pytest

import edgeconv
from edgeconv.cli.gate_tables import how_exact
from edgeconv.errors import ConversionError

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("environments")]
OLD_TFLITE, OLD_ONNX = "tflite-runtime==2.14.0", "onnxruntime==1.16.3"


@pytest.fixture(scope="module")
def environments() -> Path:
    """A cache folder with the environments."""
    for name in (OLD_TFLITE, OLD_ONNX):
        made_once.environment(name)
    return made_once.cache()


@pytest.fixture(autouse=True)
def _cache(environments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECONV_CACHE_DIR", str(environments))


@pytest.mark.parametrize(
    ("name", "runtime"),
    [
        ("fp32.tflite", OLD_TFLITE),
        ("int8.tflite", OLD_TFLITE),
        ("fp32.onnx", OLD_ONNX),
        ("fp16.onnx", OLD_ONNX),
        ("fp32.ort", OLD_ONNX),
    ],
)
def test_what_was_made_here_computes_the_same_in_an_old_runtime(
    artifacts: Path, name: str, runtime: str
) -> None:
    path = artifacts / f"digits.{name}"
    found = edgeconv.compare(path, path, runtime=runtime)
    (one,) = found.devices
    assert found.passed, one.to_json()
    assert one.ran is not None
    assert f"{one.ran.runtime}=={one.ran.version}" == runtime
    (output,) = found.gate.outputs
    assert output.max_abs is not None
    if name.startswith("int8"):
        extra = output.model_extra or {}
        assert extra["most_steps"] <= 1, how_exact(output)
    elif name.startswith("fp32"):
        assert output.max_abs < 1e-5


def test_a_session_there_has_the_names_and_types_of_one_here(artifacts: Path) -> None:
    path = artifacts / "digits.int8.tflite"
    with edgeconv.load(path) as here, edgeconv.load(path, runtime=OLD_TFLITE) as there:
        assert (here.inputs, here.outputs) == (there.inputs, there.outputs)
        import numpy as np

        image = np.zeros((1, 8, 8, 1), here.inputs[0].dtype)
        assert (there.time({"image": image}, 20) > 0).all()


def test_what_an_old_runtime_lacks_is_named(artifacts: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(artifacts / "digits.fp32.onnx")
    model.ir_version = 13
    onnx.save(model, tmp_path / "new.onnx")
    with pytest.raises(ConversionError, match="IR version"):
        edgeconv.load(tmp_path / "new.onnx", runtime=OLD_ONNX)


CORPUS = {
    "sm-mlperftiny": OLD_TFLITE,
    "k-handgesture": OLD_TFLITE,
    "fz-facemask-ssd": OLD_TFLITE,
}


@pytest.mark.corpus
@pytest.mark.parametrize("folder", sorted(CORPUS))
def test_files_that_others_made_compute_there_what_they_do_here(corpus: Path, folder: str) -> None:
    files = sorted((corpus / folder).rglob("*.tflite"))
    assert files
    for path in files:
        found = edgeconv.compare(path, path, runtime=CORPUS[folder])
        assert found.passed, found.devices[0].to_json()
        for output in found.gate.outputs:
            # Kernels of int8 round otherwise in other releases: one step in a layer is several at the end.
            assert ((output.model_extra or {}).get("most_steps") or 0) <= 16, how_exact(output)


@pytest.mark.corpus
@pytest.mark.parametrize("model", ["fz-t2onnx-tests", "mlnet-cifar"])
def test_graphs_of_others_become_onnx_that_an_old_runtime_computes_alike(
    corpus: Path, model: str, tmp_path: Path
) -> None:
    source = next(
        path
        for path in sorted((corpus / model).rglob("*.pb"))
        if "frozen" in path.name and "variadic" not in path.name
    )
    edgeconv.convert(source, to="onnx", output=tmp_path / "out")
    (made,) = (tmp_path / "out").glob("*.onnx")
    found = edgeconv.compare(made, made, runtime=OLD_ONNX)
    assert found.passed, found.devices[0].to_json()
