"""Models that begin with strings: cut by themselves, the cut-off part beside, all proven."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from front_ends.written import graph_of, text

import edgeconv
from edgeconv.execution.manifest import Manifest

pytestmark = pytest.mark.slow
v1 = tf.compat.v1
raw = tf.raw_ops


def _frozen(path: Path, build: Callable[..., Any], **inputs: Any) -> Path:
    graph_def, _ = graph_of(build, **inputs)
    path.write_bytes(graph_def.SerializeToString())
    return path


def _function(folder: Path, manifest: Manifest) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    assert manifest.front_end is not None
    assert manifest.front_end.path is not None
    spec = importlib.util.spec_from_file_location("front_end_of_a_test", folder / manifest.front_end.path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[[Mapping[str, Any]], dict[str, Any]] = module.front_end
    return function


def _proven(manifest: Manifest, *formats: str) -> None:
    assert manifest.passed, [(a.id, a.gate.reason) for a in manifest.artifacts] + [
        f.reason for f in manifest.failures
    ]
    assert {a.format for a in manifest.artifacts} == set(formats)
    for artifact in manifest.artifacts:
        assert artifact.gate.end_to_end is not None
        assert artifact.gate.end_to_end.verdict == "pass"


def _spoken(wav: Any) -> Any:
    audio, rate = raw.DecodeWav(contents=wav, desired_channels=1, desired_samples=4000)
    spectrum = raw.AudioSpectrogram(input=audio, window_size=400, stride=200, magnitude_squared=True)
    features = raw.Mfcc(spectrogram=spectrum, sample_rate=rate, dct_coefficient_count=10, name="features")
    weights = tf.constant(np.random.default_rng(0).normal(0, 0.05, (190, 4)), tf.float32)
    return tf.nn.softmax(tf.reshape(features, [1, -1]) @ weights, name="scores")


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spoken")
    return _frozen(folder / "spoken.pb", _spoken, wav=("string", []))


def test_recordings_to_every_format(spoken: Path, tmp_path: Path) -> None:
    manifest = edgeconv.convert(spoken, ["frozen_graph", "tflite", "onnx", "tflite:int8"], output=tmp_path)
    _proven(manifest, "frozen_graph", "tflite", "onnx")
    front_end = manifest.front_end
    assert front_end is not None
    assert (front_end.supplied, front_end.gate.verdict) == (True, "pass")
    assert front_end.notes[0].startswith("cut at 'features:0'")
    assert manifest.source.contract is not None
    assert [spec["name"] for spec in manifest.source.contract["inputs"]] == ["wav"]
    assert [spec["name"] for spec in manifest.artifact("tflite.fp32").contract["inputs"]] == ["features"]


def test_the_function_and_an_artifact_are_chained_as_the_docs_say(spoken: Path, tmp_path: Path) -> None:
    manifest = edgeconv.convert(spoken, "tflite", output=tmp_path)
    recording = _recording(tmp_path / "tone.wav")
    with edgeconv.load(tmp_path / "spoken.fp32.tflite") as session:
        assert [spec.name for spec in session.inputs] == ["features"]
        features = _function(tmp_path, manifest)({"wav": recording})
        scores = session(features)["out0"]
    with edgeconv.load(spoken, trust=False) as session:
        wanted = session({"wav": np.array(recording, dtype=object)})["out0"]
    np.testing.assert_allclose(scores, wanted, atol=1e-6)


def _recording(path: Path) -> bytes:
    import wave

    tone = (8000 * np.sin(np.arange(4000) / 7)).astype("<i2")
    with wave.open(str(path), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16000)
        writer.writeframes(tone.tobytes())
    return path.read_bytes()


def test_samples_of_the_users_are_the_bytes_of_files(spoken: Path, tmp_path: Path) -> None:
    recording = np.frombuffer(_recording(tmp_path / "tone.wav"), np.uint8)
    np.savez(tmp_path / "tones.npz", wav=np.stack([recording, recording]))
    manifest = edgeconv.convert(spoken, "frozen_graph", output=tmp_path / "out", data=tmp_path / "tones.npz")
    _proven(manifest, "frozen_graph")
    assert manifest.artifact("frozen_graph.fp32").gate.inputs == ["sample 0", "sample 1"]


def test_an_input_that_the_user_names_is_where_the_model_begins(spoken: Path, tmp_path: Path) -> None:
    manifest = edgeconv.convert(
        spoken, "frozen_graph", output=tmp_path, inputs=["features"], shapes={"features": (1, 19, 10)}
    )
    assert manifest.front_end is None
    assert manifest.passed


class _Preprocessed(tf.Module):
    """As Keras preprocessing layers export: a vocabulary in a file, a function in a function."""

    def __init__(self, vocabulary: Path) -> None:
        super().__init__()
        self.weights = tf.Variable(np.random.default_rng(1).normal(0, 1, (6, 3)).astype(np.float32))
        self.table = tf.lookup.StaticVocabularyTable(
            tf.lookup.TextFileInitializer(
                str(vocabulary),
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            num_oov_buckets=2,
        )

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="colour")])
    def serve(self, colour: Any) -> dict[str, Any]:
        ids = self.table.lookup(tf.strings.lower(colour))
        return {"scores": tf.one_hot(ids, 6) @ self.weights, "echo": colour}


def test_a_vocabulary_file_of_a_saved_model(tmp_path: Path) -> None:
    (tmp_path / "colours.txt").write_text("red\ngreen\nblue\nviolet\n")
    model = _Preprocessed(tmp_path / "colours.txt")
    tf.saved_model.save(model, str(tmp_path / "model"), signatures=model.serve)
    manifest = edgeconv.convert(tmp_path / "model", ["frozen_graph", "tflite"], output=tmp_path / "out")
    _proven(manifest, "frozen_graph", "tflite")
    given = _function(tmp_path / "out", manifest)({"colour": text(b"Blue", b"red", b"mauve")})
    ids = next(iter(given.values()))
    assert ids[:2].tolist() == [2, 0]
    assert ids[2] in (4, 5), "words that are not in the vocabulary go to the buckets behind it"
    assert manifest.front_end is not None
    assert any("'echo' is text" in note for note in manifest.front_end.notes)


def test_where_the_function_cannot_be_written_the_rest_is_proven_from_the_cut_on(tmp_path: Path) -> None:
    model = _frozen(
        tmp_path / "scripts.pb",
        lambda s: tf.cast(tf.strings.unicode_script(tf.strings.length(s), name="script"), tf.float32) * 2.0,
        s=("string", [None]),
    )
    manifest = edgeconv.convert(model, "frozen_graph", output=tmp_path / "out", outputs=["out0"])
    assert manifest.front_end is not None
    assert not manifest.front_end.supplied
    assert "UnicodeScript" in (manifest.front_end.reason or "")
    gate = manifest.artifact("frozen_graph.fp32").gate
    assert (gate.verdict, gate.end_to_end) == ("pass", None)
    assert not list((tmp_path / "out").glob("*.front_end.py"))


def test_a_model_that_is_all_front_end_is_not_cut_and_gets_valid_strings(tmp_path: Path) -> None:
    """ONNX Runtime reads numbers; there would be nothing left to convert behind the cut."""
    model = _frozen(tmp_path / "text.pb", lambda s: tf.strings.to_number(s), s=("string", [None]))
    manifest = edgeconv.convert(model, ["frozen_graph", "onnx"], output=tmp_path / "out", outputs=["out0"])
    assert manifest.passed, [a.gate.reason for a in manifest.artifacts]
    assert manifest.front_end is None
    assert [spec["dtype"] for spec in manifest.artifact("onnx.fp32").contract["inputs"]] == ["string"]


def test_texts_of_a_table_that_the_freezing_lost_do_not_keep_the_rest_from_being_proven(
    tmp_path: Path,
) -> None:
    """A classifier whose labels come from a table; nothing is before the model, so there is no front end."""

    def build(x: Any) -> list[Any]:
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer([0, 1], ["cat", "dog"], tf.int64, tf.string), "?"
        )
        scores = tf.nn.softmax(x)
        return [scores, table.lookup(tf.argmax(scores, 1))]

    model = _frozen(tmp_path / "labelled.pb", build, x=("float32", [None, 2]))
    manifest = edgeconv.convert(
        model, ["frozen_graph", "tflite"], output=tmp_path / "out", outputs=["out0", "out1"]
    )
    assert manifest.passed, [a.gate.reason for a in manifest.artifacts]
    assert manifest.front_end is None
    made = manifest.artifact("tflite.fp32")
    assert [spec["name"] for spec in made.contract["outputs"]] == ["out0"]
    assert any("'out1' is text" in note for note in manifest.source.notes)


def test_the_command_line_says_where_it_was_cut(spoken: Path, edgeconv: Any, tmp_path: Path) -> None:
    ran = edgeconv("convert", spoken, "--to", "frozen_graph", "-o", "out")
    assert ran.code == 0, ran.all
    assert "cut at 'features:0'" in ran.out
    assert "front end: spoken.front_end.py" in ran.out
    described = edgeconv("inspect", spoken, "--json").json
    cuts = [f["message"] for f in described["findings"] if f["code"] == "front-end-op"]
    assert any("cut at 'features:0'" in cut for cut in cuts)


def test_the_written_file_needs_neither_us_nor_tensorflow(spoken: Path, tmp_path: Path) -> None:
    import edgeconv as package

    package.convert(spoken, "frozen_graph", output=tmp_path / "out")
    _recording(tmp_path / "tone.wav")
    program = (
        "import json, sys; sys.modules['edgeconv'] = sys.modules['tensorflow'] = None\n"
        "import importlib.util as u; s = u.spec_from_file_location('f', 'out/spoken.front_end.py')\n"
        "m = u.module_from_spec(s); s.loader.exec_module(m)\n"
        "print(json.dumps(m.front_end({'wav': open('tone.wav', 'rb').read()})['features'].shape))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, env={**os.environ}
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == [1, 19, 10]
