"""Real models that others wrote end in proven artifacts, or in a diagnosis that names the way out."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

pytestmark = [pytest.mark.corpus, pytest.mark.slow, pytest.mark.xdist_group("corpus")]

PASS = "pass"
OPERATIONS = "dl4j-opgraphs"
EXPECTED: dict[str, dict[str, str]] = {
    "fz-edgeai-mnist/frozen_model.pb": {"tflite.fp32": PASS, "onnx.fp32": PASS},
    "fz-t2onnx-tests/models/gru/frozen.pb": {"tflite.fp32": PASS, "onnx.fp32": PASS},
    "fz-t2onnx-tests/models/gru/frozen.pb (nothing said)": {"onnx.fp32": r"shape of X.*--shape X"},
    "fz-kws-armmcu/GRU_S.pb (core)": {"tflite.fp32": PASS, "onnx.fp32": PASS},
    "fz-kws-armmcu/DNN_S.pb": {"tflite.fp32": PASS, "onnx.fp32": PASS},
    "sm-simple-serving/deep_image_model/1": {"tflite.fp32": PASS, "onnx.fp32": PASS},
    "sm-simple-serving/tensorflow_estimator_model/1533527330": {"tflite.fp32": PASS, "onnx.fp32": PASS},
    "fz-openpose/mobilenet_thin/graph.pb": {"onnx.fp32": "not frozen.*MobilenetV1/Conv2d_0"},
    "mlnet-cifar/cifar_saved_model": {"frozen_graph.fp32": PASS, "tflite.fp32": PASS, "onnx.fp32": PASS},
    "sm-simple-serving/tensorflow_template_application_model/1": {"tflite.fp32": PASS, "onnx.fp32": PASS},
    "sm-serving/saved_model_half_plus_three/00000123": {"frozen_graph.fp32": PASS, "onnx.fp32": PASS},
    "sm-serving/saved_model_counter/00000123 (a step)": {
        "frozen_graph.fp32": "AssignAdd.*changes a variable"
    },
    "sm-tfdf-adult/saved_model_adult_rf": {"tflite.fp32": "custom ops.*SimpleML"},
    "sm-mlperftiny/kws/kws_ref_model.tflite": {"onnx.fp32": "convert the float model"},
    "ckpt1-lenet5-tftrt/model/tensorflow/small/model_small": {"tflite.fp32": PASS, "onnx.fp32": PASS},
    "ckpt1-har-v1format/HAR_v4_2/model.ckpt": {"tflite.fp32": PASS, "onnx.fp32": PASS},
    "ckpt1-mediapipe-v1/testdata/tf_graph_def.pb": {"tflite.fp32": PASS, "onnx.fp32": PASS},
    "ckpt1-nometa-t2t/transformer_test_ckpt/model.ckpt-1": {"onnx.fp32": "graph .* is missing.*--graph FILE"},
    "mlnet-cifar/cifar_model/model.ckpt": {"tflite.fp32": PASS, "onnx.fp32": PASS},
    "ckpt2-basecaller/training_10/cp.ckpt": {
        "frozen_graph.fp32": PASS,
        "tflite.fp32": PASS,
        "onnx.fp32": PASS,
    },
    "k-keras3-nested/pre_pr22362_nested_container.keras": {"tflite.fp32": "NestedDenseModel"},
    "neg-lfs-pointers/dnn_s.tflite": {"onnx.fp32": "Git LFS pointer.*git lfs pull"},
    "neg-missing-data/pretrained_model/MobileFaceNet_TF.ckpt": {
        "onnx.fp32": "data-00000-of-00001' is missing"
    },
    f"{OPERATIONS}/cnn2d_layers/channels_first_b1_k12_s12_d1_SAME/frozen_model.pb": {
        "tflite.fp32": PASS,
        "onnx.fp32": PASS,
    },
    f"{OPERATIONS}/while1/iter_3/frozen_model.pb": {"tflite.fp32": PASS, "onnx.fp32": PASS},
    f"{OPERATIONS}/matmul/emptyArrayTest/rank2/frozen_model.pb": {"tflite.fp32": PASS, "onnx.fp32": PASS},
    f"{OPERATIONS}/mlp_00/frozen_model.pb": {"tflite.fp32": PASS, "onnx.fp32": PASS},
}


@pytest.fixture(scope="module")
def results(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What became of the models above, all made in one pool of workers."""
    from corpus import cases, run_all

    chosen = [case for case in cases(corpus) if case.name in EXPECTED]
    assert len(chosen) == len(EXPECTED), "the corpus lacks a model that is named here"
    found = asyncio.run(run_all([], chosen, tmp_path_factory.mktemp("corpus"), 2))
    return {result["name"]: result for result in found}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_real_model_ends_as_it_should(results: dict[str, dict[str, Any]], name: str) -> None:
    from corpus_table import golden_passes

    result = results[name]
    assert result["exit"] != 70, result["message"]
    for target, wanted in EXPECTED[name].items():
        outcome = result["targets"][target]
        if wanted == PASS:
            assert outcome["outcome"] == PASS, outcome
            if "golden" in outcome:
                assert golden_passes(target, outcome["golden"]), outcome["golden"]
            continue
        said = [result["message"]]
        said += [f"{failure['reason']} {failure['hint']}" for failure in outcome.get("failures", ())]
        assert any(re.search(wanted, text, re.DOTALL) for text in said), said
