"""The surgery commands from end to end: files, manifests, verdicts, exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calling import Ran
from surgery_models import network, recommender

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recommender(network(tmp_path_factory.mktemp("surgery")))


def record(manifest: dict[str, Any], number: int = 0) -> dict[str, Any]:
    artifact: dict[str, Any] = manifest["artifacts"][number]
    assert artifact["gate"]["verdict"] == "pass", artifact["gate"]
    return artifact


def test_freeze_writes_one_file_with_its_manifest_beside_it(
    edgeconv: Callable[..., Ran], models: Path, tmp_path: Path
) -> None:
    ran = edgeconv("freeze", models / "net_model", "-o", tmp_path / "frozen.pb", "--json")
    assert ran.code == 0, ran.all
    assert record(ran.json)["path"] == "frozen.pb"
    written = json.loads((tmp_path / "frozen.pb.manifest.json").read_text())
    assert written["artifacts"] == ran.json["artifacts"]
    assert edgeconv("inspect", tmp_path / "frozen.pb", "--json").json["format"] == "frozen_graph"


@pytest.mark.parametrize("source", ["net_model", "ckpt/net"])
def test_freeze_keeps_what_matches_trainable_and_proves_it_by_a_training_step(
    edgeconv: Callable[..., Ran], models: Path, tmp_path: Path, source: str
) -> None:
    import tensorflow as tf

    ran = edgeconv(
        "freeze", models / source, "--keep-trainable", "logits/*", "-o", tmp_path / "kept", "--json"
    )
    assert ran.code == 0, ran.all
    artifact = record(ran.json)
    assert artifact["training"]["moved"] == ["logits/kernel", "logits/bias"]
    assert artifact["training"]["changed"] > 0
    assert ran.json["steps"][0]["gate"]["verdict"] == "pass"
    loaded = tf.saved_model.load(str(tmp_path / "kept"))
    assert [v.name for v in loaded.variables] == ["logits/kernel:0", "logits/bias:0"]
    with tf.GradientTape() as tape:
        scores = loaded(tf.ones([1, 8, 8, 3]))["scores"]
        loss = -tf.math.log(scores[0, 0])
    before = scores.numpy()[0, 0]
    for variable, gradient in zip(loaded.variables, tape.gradient(loss, loaded.variables), strict=True):
        variable.assign_sub(0.01 * gradient)
    assert loaded(tf.ones([1, 8, 8, 3]))["scores"].numpy()[0, 0] > before


def test_a_pattern_without_a_match_writes_nothing(
    edgeconv: Callable[..., Ran], models: Path, tmp_path: Path
) -> None:
    ran = edgeconv("freeze", models / "net_model", "--keep-trainable", "dense/*", "-o", tmp_path / "kept")
    assert ran.code == 2
    assert "'dense/*' matches no variable" in ran.err
    assert not (tmp_path / "kept").exists()


def test_thaw_gives_variables_that_the_next_conversion_takes(
    edgeconv: Callable[..., Ran], models: Path, tmp_path: Path
) -> None:
    ran = edgeconv("thaw", models / "net.pb", "-o", tmp_path / "thawed", "--json")
    assert ran.code == 0, ran.all
    assert len([v for v in record(ran.json)["variables"] if v["trainable"]]) == 9
    assert (tmp_path / "thawed" / "checkpoint" / "variables.index").is_file()
    layers = edgeconv("inspect", tmp_path / "thawed", "--layers", "--json").json["layers"]
    assert {layer["name"] for layer in layers} == {"conv1", "bn1", "conv2", "bn2", "logits"}
    again = edgeconv("convert", tmp_path / "thawed", "--to", "tflite", "-o", tmp_path / "out", "--json")
    assert again.code == 0, again.all


def test_extract_from_a_saved_model_by_a_name_inside(
    edgeconv: Callable[..., Ran], models: Path, tmp_path: Path
) -> None:
    call = ("extract", models / "net_model", "--inputs", "relu1", "--outputs", "features", "-o")
    ran = edgeconv(*call, tmp_path / "part.pb", "--json")
    assert ran.code == 0, ran.all
    part = record(ran.json)
    assert [s["name"] for s in part["contract"]["inputs"]] == ["relu1"]
    assert part["gate"]["outputs"][0]["max_abs"] == 0
    assert edgeconv(*call, tmp_path / "part", "--json").json["artifacts"][0]["format"] == "saved_model"


def test_a_recommender_is_split_its_items_computed_before_and_its_scores_are_those_of_the_whole(
    edgeconv: Callable[..., Ran], models: Path, tmp_path: Path
) -> None:
    import tensorflow as tf

    import edgeconv as api

    ran = edgeconv(
        "split", models / "recommender.pb", "--at", "item_tower/embedding", "-o", tmp_path / "parts", "--json"
    )
    assert ran.code == 0, ran.all
    head, tail = record(ran.json), record(ran.json, 1)
    assert any("what the whole model gives: pass" in note for note in tail["gate"]["notes"])
    items = np.random.default_rng(5).standard_normal((100, 6)).astype("f")
    np.savez(tmp_path / "items.npz", item=items)
    head_file = tmp_path / "parts" / head["path"]
    done = edgeconv(
        "precompute", head_file, "--data", tmp_path / "items.npz", "-o", tmp_path / "items.npy", "--batch", 32
    )
    assert done.code == 0, done.all
    embeddings = np.load(tmp_path / "items.npy", mmap_mode="r")
    assert embeddings.shape == (100, 8)
    users = np.full(100, 7, np.int32)
    with api.load(
        tmp_path / "parts" / tail["path"], inputs=["item_tower/embedding", "user_id"], outputs=["score"]
    ) as online:
        scores = online({"item_tower/embedding": np.asarray(embeddings), "user_id": users})["score"]
    graph = tf.Graph()
    with graph.as_default():
        whole = tf.compat.v1.GraphDef.FromString((models / "recommender.pb").read_bytes())
        tf.graph_util.import_graph_def(whole, name="")
        with tf.compat.v1.Session() as session:
            expected = session.run("score:0", {"user_id:0": users, "item:0": items})
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


def test_a_cut_that_does_not_separate_exits_with_2_and_names_the_way(
    edgeconv: Callable[..., Ran], models: Path, tmp_path: Path
) -> None:
    ran = edgeconv(
        "split", models / "goes_round.pb", "--at", "item_tower/embedding", "-o", tmp_path / "parts"
    )
    assert ran.code == 2
    assert "item → popularity" in ran.err
    assert not (tmp_path / "parts").exists()


def test_a_folder_with_other_things_is_not_replaced(
    edgeconv: Callable[..., Ran], models: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("…")
    ran = edgeconv("thaw", models / "net.pb", "-o", tmp_path / "mine")
    assert ran.code == 2
    assert "holds other things" in ran.err
    assert (tmp_path / "mine" / "thesis.tex").exists()


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_layers_are_frozen_in_the_file_and_nothing_else_changes(
    edgeconv: Callable[..., Ran], digits: Path, tmp_path: Path, suffix: str
) -> None:
    source = next(iter(sorted(digits.glob(f"*{suffix}"))), None)
    if source is None:
        pytest.skip(f"no {suffix} among the models")
    ran = edgeconv("layers", source, "--first", 2, "-o", tmp_path / f"out{suffix}", "--json")
    assert ran.code == 0, ran.all
    assert record(ran.json)["gate"]["outputs"][0]["max_abs"] == 0
    told = edgeconv("layers", tmp_path / f"out{suffix}", "--json").json["layers"]
    assert [layer["trainable"] for layer in told[:3]] == [False, False, True]


def test_inspect_lists_nodes_and_draws_the_neighbourhood_of_one(
    edgeconv: Callable[..., Ran], models: Path, tmp_path: Path
) -> None:
    ran = edgeconv("inspect", models / "net.pb", "--ops", "-v")
    assert ran.code == 0, ran.all
    assert "conv2/BiasAdd" in ran.out
    ran = edgeconv(
        "inspect", models / "net.pb", "--graph", tmp_path / "part.svg", "--around", "features", "-q"
    )
    assert ran.code == 0, ran.all
    assert "bn2/batchnorm/add_1" in (tmp_path / "part.svg").read_text()
    assert edgeconv("inspect", models / "net.pb", "--around", "features").code == 2
