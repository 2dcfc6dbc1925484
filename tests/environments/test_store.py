"""Side environments on disk: made whole or not at all, checked, removed, never the user's own."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from edgeconv.environments import store
from edgeconv.environments.running import run_in
from edgeconv.environments.specs import Spec, find_spec
from edgeconv.errors import ConversionError, UnavailableError

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """A folder with one tiny distribution, which pip takes in place of an index."""
    folder = tmp_path_factory.mktemp("wheels")
    info = "tiny_thing-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_thing-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_thing.py", "import os\nVALUE = os.environ.get('TINY', 'unset')\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(
            f"{info}/RECORD", f"tiny_thing.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    return folder


@pytest.fixture
def offline(wheels, monkeypatch):
    # What a person without a network would set; also makes the tests independent of the index.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


TINY = Spec(
    name="tiny",
    version=None,
    about="for tests",
    pythons=(HERE,),
    pins={"tiny-thing": "1.0"},
    variables={"TINY": "set"},
    imports=("tiny_thing",),
    source=(),
)


@pytest.fixture(scope="module")
def whole(wheels, tmp_path_factory):
    """One environment that was made for real."""
    root = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(wheels))
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        made = store.create(TINY, root)
    return root, made


def test_one_that_was_made_is_found_and_whole(whole):
    root, made = whole
    assert store.required(TINY, root) == made
    assert store.check(made) == []
    assert made.folder == root / "tiny"
    assert store.size_of(made) > 1000
    # Nothing half-made, and no log where all went well.
    assert not [path for path in root.glob(".tiny.*") if path.is_dir()]
    assert not list((root / "logs").iterdir())


def test_scripts_name_the_place_where_it_lies(whole):
    _, made = whole
    assert str(made.folder) in (made.folder / "bin" / "pip").read_text().splitlines()[0]


def test_making_it_again_leaves_it_as_it_is(whole, offline):
    root, made = whole
    before = (made.folder / "edgeconv-environment.json").stat().st_mtime_ns
    assert store.create(TINY, root) == made
    assert (made.folder / "edgeconv-environment.json").stat().st_mtime_ns == before


def test_programs_run_in_it_with_its_variables_and_without_the_persons_own_packages(
    whole, tmp_path, monkeypatch
):
    _, made = whole
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "tiny_thing.py").write_text("VALUE = 'the wrong one'")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "own"))
    script = tmp_path / "script.py"
    script.write_text(
        "import json, sys, tiny_thing\n"
        "asked = json.load(open(sys.argv[1]))\n"
        "json.dump({'sum': sum(asked['numbers']), 'value': tiny_thing.VALUE, 'where': sys.prefix},"
        " open(sys.argv[2], 'w'))\n"
    )
    said = run_in(made, script, {"numbers": [1, 2]}, scratch=tmp_path, seconds=60)
    assert said == {"sum": 3, "value": "set", "where": str(made.folder)}


def test_what_tensorflow_2_sets_where_it_is_imported_does_not_reach_tensorflow_1(whole, monkeypatch):
    _, made = whole
    monkeypatch.setenv("TF2_BEHAVIOR", "1")
    assert "TF2_BEHAVIOR" not in made.variables()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import time; time.sleep(60)", "took too long"),
        ("x = bytearray(300 << 20)\nimport time; time.sleep(60)", "of memory"),
        ("raise RuntimeError('broken inside')", "ended with 1"),
        ("import json, sys; json.dump({'error': 'no such key'}, open(sys.argv[2], 'w'))", "no such key"),
    ],
)
def test_a_program_that_hangs_eats_or_fails_is_ended_and_said(whole, tmp_path, program, said):
    _, made = whole
    script = tmp_path / "script.py"
    script.write_text(program)
    seconds = 1.5 if said == "took too long" else 60
    with pytest.raises(ConversionError, match=said):
        run_in(made, script, {}, scratch=tmp_path, seconds=seconds, memory_bytes=150 << 20)


@pytest.mark.parametrize(
    ("variable", "folder"),
    [
        ("PYENV_ROOT", "versions/{version}/bin"),
        ("UV_PYTHON_INSTALL_DIR", "cpython-{version}-linux-x86_64-gnu/bin"),
        ("PATH", "."),
    ],
)
def test_a_fitting_python_is_found_where_people_keep_theirs(tmp_path, monkeypatch, variable, folder):
    spec = dataclasses.replace(TINY, pythons=("3.4",))
    for name in ("PYENV_ROOT", "UV_PYTHON_INSTALL_DIR", "PATH"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    with pytest.raises(UnavailableError, match=r"needs Python 3\.4, and none is here"):
        store._fitting_python(spec)
    place = tmp_path / "kept" / folder.format(version="3.4.9")
    place.mkdir(parents=True)
    program = place / "python3.4"
    program.write_text("#!/bin/sh\necho 3.4.9\n")
    program.chmod(0o755)
    monkeypatch.setenv(variable, str(place if variable == "PATH" else tmp_path / "kept"))
    assert store._fitting_python(spec) == (program, "3.4.9")


def test_a_program_of_that_name_that_is_no_python_is_passed_over(tmp_path, monkeypatch):
    # As pyenv's own shims are where another version is chosen.
    for name in ("PYENV_ROOT", "UV_PYTHON_INSTALL_DIR", "PATH"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    shim, kept = tmp_path / "shims" / "python3.4", tmp_path / "pyenv/versions/3.4.9/bin/python3.4"
    for program, text in ((shim, "exit 127"), (kept, "echo 3.4.9")):
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(shim.parent))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    assert store._fitting_python(dataclasses.replace(TINY, pythons=("3.4",))) == (kept, "3.4.9")


def test_one_that_this_release_does_not_know_is_passed_over(tmp_path):
    for folder, name in (("gone-1", "gone==1"), ("tensorflow-9", "tensorflow==9.0"), ("odd", "..")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "edgeconv-environment.json").write_text(json.dumps({"id": name}))
    assert store.installed(tmp_path) == []


def test_other_pins_make_it_outdated(whole):
    root, _ = whole
    newer = dataclasses.replace(TINY, pins={"tiny-thing": "1.1"})
    with pytest.raises(UnavailableError, match="another release") as outdated:
        store.required(newer, root)
    assert outdated.value.exit_code == 4
    assert "edgeconv environments create tiny" in outdated.value.hint


def test_one_that_was_damaged_is_not_used(whole, tmp_path):
    root, made = whole
    shutil.copytree(root / "tiny", tmp_path / "tiny", symlinks=True)
    (module,) = (tmp_path / "tiny").rglob("tiny_thing.py")
    module.write_text("import absent_module")
    with pytest.raises(UnavailableError, match="'tiny_thing' does not import"):
        store.required(TINY, tmp_path)
    assert made.folder.is_dir()
    for path in (tmp_path / "tiny").rglob("METADATA"):
        if "tiny" in path.parent.name:
            path.write_text(path.read_text().replace("Version: 1.0", "Version: 0.9"))
    with pytest.raises(UnavailableError, match=r"tiny-thing is 0\.9, pinned is 1\.0"):
        store.required(TINY, tmp_path)


def test_one_that_is_not_here_names_the_command(tmp_path):
    with pytest.raises(UnavailableError) as missing:
        store.required(find_spec("object-detection"), tmp_path)
    assert missing.value.exit_code == 4
    assert missing.value.hint == "make it: edgeconv environments create object-detection"


def test_what_the_index_lacks_is_named_and_the_log_kept(tmp_path, offline):
    spec = dataclasses.replace(TINY, pins={"tiny-thing": "9.9"})
    with pytest.raises(UnavailableError, match=r"there is no tiny-thing==9\.9") as refused:
        store.create(spec, tmp_path)
    assert refused.value.exit_code == 4
    assert (tmp_path / "logs" / "tiny.log").read_text()
    assert store.found(spec, tmp_path) is None
    assert not [path for path in tmp_path.glob(".tiny.*") if path.is_dir()]


def test_without_a_network_that_is_the_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(UnavailableError, match="the package index cannot be reached"):
        store.create(TINY, tmp_path)


def test_one_that_imports_nothing_useful_is_not_kept(tmp_path, offline):
    spec = dataclasses.replace(TINY, imports=("absent_module",))
    with pytest.raises(UnavailableError, match="installed and does not work"):
        store.create(spec, tmp_path)
    assert store.found(spec, tmp_path) is None


def test_a_python_that_is_not_here_is_named(tmp_path):
    spec = dataclasses.replace(TINY, pythons=("3.2",))
    with pytest.raises(UnavailableError, match=r"needs Python 3\.2"):
        store.create(spec, tmp_path)


def test_what_a_killed_run_left_is_removed(tmp_path, offline):
    left = tmp_path / ".tiny.abcdefgh"
    left.mkdir()
    (left / "half").write_text("")
    store.create(TINY, tmp_path)
    assert not left.exists()


def test_removing_takes_it_away_and_nothing_else(whole, tmp_path):
    root, _ = whole
    shutil.copytree(root / "tiny", tmp_path / "tiny", symlinks=True)
    (tmp_path / "tiny-other").mkdir()
    assert store.remove(TINY, tmp_path)
    assert not (tmp_path / "tiny").exists()
    assert (tmp_path / "tiny-other").is_dir()
    assert not store.remove(TINY, tmp_path)


def test_a_stamp_that_is_none_is_no_environment(tmp_path):
    folder = tmp_path / "tiny" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").write_text("")
    assert store.found(TINY, tmp_path) is None
    for text in ("", "[]", "{"):
        (tmp_path / "tiny" / "edgeconv-environment.json").write_text(text)
        assert store.found(TINY, tmp_path) is None
    (tmp_path / "tiny" / "edgeconv-environment.json").write_text(json.dumps({"id": "tiny"}))
    assert store.found(TINY, tmp_path) is not None
    assert not store.found(TINY, tmp_path).current


def doubling_model():
    import tensorflow as tf

    function = tf.function(lambda x: x * 2.0, input_signature=[tf.TensorSpec([2], tf.float32)])
    return tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()]).convert()


@pytest.mark.slow
def test_tensorflow_1_runs_a_graph_with_contrib(tmp_path):
    """Written for the time before Python 3.8: versions are asked by another module there."""
    try:
        made = store.create(find_spec("tensorflow==1.15.5"), tmp_path)
    except UnavailableError as error:
        pytest.skip(f"cannot be made here: {error}")
    script = tmp_path / "script.py"
    script.write_text(
        "import json, sys\n"
        "import tensorflow as tf\n"
        "from tensorflow.contrib import slim\n"
        "x = tf.compat.v1.placeholder(tf.float32, [1, 4])\n"
        "y = slim.fully_connected(x, 3, weights_initializer=tf.ones_initializer())\n"
        "with tf.compat.v1.Session() as session:\n"
        "    session.run(tf.compat.v1.global_variables_initializer())\n"
        "    given = session.run(y, {x: [[1, 2, 3, 4]]}).tolist()\n"
        "json.dump({'version': tf.__version__, 'given': given}, open(sys.argv[2], 'w'))\n"
    )
    said = run_in(made, script, {}, scratch=tmp_path, seconds=120)
    assert said == {"version": "1.15.5", "given": [[10.0, 10.0, 10.0]]}


@pytest.mark.slow
def test_the_old_runtimes_really_infer(tmp_path):
    """The case that a plain pip install fails: tflite-runtime 2.14 beside NumPy 2 dies at its first use."""
    try:
        made = store.create(find_spec("tflite-runtime"), tmp_path)
    except UnavailableError as error:
        pytest.skip(f"cannot be made here: {error}")
    model = tmp_path / "doubled.tflite"
    model.write_bytes(doubling_model())
    script = tmp_path / "script.py"
    script.write_text(
        "import json, sys, numpy\n"
        "from tflite_runtime.interpreter import Interpreter\n"
        "runner = Interpreter(json.load(open(sys.argv[1]))['model'])\n"
        "runner.allocate_tensors()\n"
        "runner.set_tensor(runner.get_input_details()[0]['index'], numpy.float32([1, 2]))\n"
        "runner.invoke()\n"
        "given = runner.get_tensor(runner.get_output_details()[0]['index'])\n"
        "json.dump({'numpy': numpy.__version__, 'given': given.tolist()}, open(sys.argv[2], 'w'))\n"
    )
    said = run_in(made, script, {"model": str(model)}, scratch=tmp_path, seconds=60)
    assert said == {"numpy": "1.26.4", "given": [2.0, 4.0]}


def test_a_full_disk_is_told_as_one_although_the_log_has_no_room_for_it(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], stderr=-3)
    if mounted.returncode != 0:
        pytest.skip("a small disk cannot be mounted here")
    try:
        command = [sys.executable, "-m", "edgeconv", "environments", "create", "onnxruntime==1.20.1"]
        said = subprocess.run(
            command,
            env=os.environ | {"EDGECONV_CACHE_DIR": str(folder / "c")},
            capture_output=True,
            text=True,
        )
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert said.returncode == 4
    assert "the disk is full" in said.stderr
