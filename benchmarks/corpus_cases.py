"""Which models of the corpus are tried, what a person has to say of each, and what is known of its outputs.

The models are found by looking; only what the model itself does not tell is listed here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeconv.errors import EdgeconvError
from edgeconv.formats.registry import identify

OPERATIONS = "dl4j-opgraphs"
"""The folder of small graphs, one a folder, with recorded inputs and outputs as text."""
_SOURCES = ("saved_model", "frozen_graph", "keras", "checkpoint", "tflite", "onnx", "ort")
_LIKELY_SUFFIXES = (".pb", ".pbtxt", ".h5", ".hdf5", ".keras", ".tflite", ".onnx", ".ort", ".index", ".meta")
_NO_MODELS = ("keras_metadata.pb", "fingerprint.pb", "tfhub_module.pb", "saved_model_config.pb")
QUANTIZED = ("tflite:int8", "onnx:int8")


@dataclass(frozen=True, slots=True)
class Case:
    """One call of ``edgeconv convert``.

    Attributes:
        model: path inside the corpus.
        said: what is said beside the model, as on the command line.
        part: tells two cases of one model apart.
        quantized: whether int8 is asked for too.
        golden: ``.npz`` of known inputs and outputs inside the corpus, or a folder of recorded ones.
        plain: what plain tools made of it, by target.
    """

    model: str
    said: tuple[str, ...] = ()
    part: str = ""
    quantized: bool = False
    golden: str | None = None
    plain: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model's path, with the part."""
        return f"{self.model} ({self.part})" if self.part else self.model


_LSTM = ("--shape", "X=1,784", "--shape", "keep_prob=")
SAID: dict[str, tuple[str, ...]] = {
    "fz-t2onnx-tests/models/gru/frozen.pb": _LSTM,
    "fz-t2onnx-tests/models/lstm/frozen.pb": ("--shape", "keep_prob="),
    "fz-t2onnx-tests/models/regression/graphdef/frozen.pb": ("--shape", "X="),
    "fz-t2onnx-tests/models/regression/saved_model": ("--shape", "X="),
    "fz-edgeai-mnist/frozen_model.pb": ("--shape", "netin=1,784"),
    "fz-openpose/mobilenet_v2_small/graph_opt.pb": ("--shape", "image=1,368,432,3"),
    "fz-openpose/mobilenet_thin/graph.pb": ("--shape", "image=1,368,432,3"),
    "mlnet-cifar/cifar_model/frozen_model_variadic_input_shape.pb": ("--shape", "Input=1,32,32,3"),
    "sm-serving/saved_model_half_plus_two_mlmd/00000123": ("--shape", "x=2,1"),
    "sm-serving/saved_model_counter/00000123": ("--signature", "get_counter"),
    "sm-modelmaker/hub_module_v1_mini_train": ("--shape", "default=2,3"),
    "sm-modelmaker/saved_model_v2_mini": ("--shape", "x=2,3"),
    "sm-tf-java/saved_model_using_python/model": (
        *("--signature", "add"),
        *("--shape", "a=2,3"),
        *("--shape", "b=2,3"),
    ),
    "sm-tf-rust/regression-model": ("--shape", "x=4", "--shape", "y=4"),
    "sm-tf-rust/regression_checkpoint/model.pb": (
        *("--outputs", "Mean"),
        *("--shape", "x=4"),
        *("--shape", "y=4"),
    ),
    "sm-tf-rust/regression_savedmodel": ("--signature", "w"),
    "mlnet-ragged-small/model_primitive_input_test": ("--shape", "input1=", "--shape", "input2="),
    "ckpt1-mediapipe-v1/testdata/tf_graph_def.pb": (
        *("--outputs", "multiplied"),
        *("--checkpoint", "ckpt1-mediapipe-v1/testdata/model.chkpt-0"),
    ),
    "ckpt1-mediapipe-v1/testdata/model.chkpt-0": ("--outputs", "multiplied"),
    "ckpt1-har-v1format/HAR_v4_3/model.ckpt": ("--outputs", "add_4"),
    "ckpt1-har-v1format/models/model.ckpt": ("--outputs", "add_3"),
    "ckpt1-session-bundle/bad_half_plus_two/00000123/export": ("--shape", "Placeholder=2"),
    "ckpt1-session-bundle/half_plus_two/00000123": ("--signature", "predict"),
    "fz-t2onnx-tests/models/regression/checkpoint/model": ("--outputs", "pred", "--shape", "X="),
    "fz-kws-armmcu/DS_CNN_L.pb": ("--shape", "wav_data=", "--data", "golden/kws-DS_CNN_S.npz"),
    "sm-analytics-zoo/tfnet_string/frozen_inference_graph.pb": ("--shape", "Placeholder=1"),
}
"""What the model does not say and a person does."""

MORE: tuple[Case, ...] = (
    Case("fz-t2onnx-tests/models/gru/frozen.pb", part="nothing said"),
    Case("fz-openpose/mobilenet_v2_small/graph_opt.pb", part="nothing said"),
    Case("sm-serving/saved_model_counter/00000123", part="nothing said"),
    Case("sm-tf-rust/regression_savedmodel", ("--signature", "train"), "a training step"),
    Case("sm-tf-rust/regression_checkpoint/model.pb", part="nothing said"),
    Case("sm-serving/saved_model_counter/00000123", ("--signature", "incr_counter"), "a step"),
    Case(
        "sm-serving/saved_model_half_plus_two_tf2_cpu/00000123",
        ("--signature", "regress_x_to_y"),
        "serialised examples",
    ),
    Case("sm-tfjs-node/saved_model/module_with_multiple_signatures", ("--signature", "timestwo"), "timestwo"),
    Case(
        "sm-tf-java/saved_model_using_python/model",
        ("--signature", "get_const_matrix", "--shape", "input="),
        "a constant",
    ),
)
"""Other calls on the same models."""

_INT8 = re.compile(
    r"fz-facemask|kws_ref_model$|_S\.pb \(core|lenet5-tftrt/model/frozen|cifar_model/frozen_model\.pb|"
    r"cifar_saved_model|mnist_conv_model|face-emotion/.*mini|handgesture/.*hdf5|gru/frozen.pb$|lstm/frozen.pb$|"
    r"edgeai|template_application_model/1|openpose/mobilenet_v2_small/graph_opt.pb$|ae0|effdet|Net5_small"
)


def cases(corpus: Path) -> list[Case]:
    """All cases in the corpus, in alphabetical order, those of single operations last."""
    known = json.loads((corpus / "cases.json").read_text())
    found = [_with_known(Case(model, SAID.get(model, ())), known) for model in _models(corpus)]
    found += [_with_known(case, {}) for case in MORE if (corpus / case.model).exists()]
    found += _cut_speech_models(corpus, known)
    found += [_recorded(corpus, folder) for folder in operation_graphs(corpus)]
    found = [_calibrated(case) for case in found]
    return sorted(found, key=lambda case: (case.model.startswith(OPERATIONS), case.name))


def _calibrated(case: Case) -> Case:
    """With the known inputs as samples for quantization, where there are some."""
    if not case.quantized or case.golden is None:
        return case
    return replace(case, said=(*case.said, "--calibration", case.golden))


def operation_graphs(corpus: Path) -> list[Path]:
    """Folders of the small graphs with recorded outputs."""
    return sorted(file.parent for file in (corpus / OPERATIONS).rglob("frozen_model.pb"))


def _models(corpus: Path) -> list[str]:
    found: dict[str, None] = {}
    for file in sorted(corpus.rglob("*")):
        if not _is_likely(file) or OPERATIONS in file.parts or "assets" in file.parent.name:
            continue
        if file.name == "saved_model.pb" or (file.parent.name == "variables" and file.suffix == ".index"):
            model = file.parent if file.name == "saved_model.pb" else file.parent.parent
        elif file.suffix in (".index", ".meta"):
            model = file.with_suffix("")
            if not model.exists() and not file.with_suffix(".index").exists():
                model = file.parent  # an exported bundle is named by its folder
        else:
            model = file
        found[model.relative_to(corpus).as_posix()] = None
    return list(found)


def _is_likely(file: Path) -> bool:
    return file.is_file() and file.suffix in _LIKELY_SUFFIXES and file.name not in _NO_MODELS


def format_of(corpus: Path, case: Case) -> str:
    """The format that the model is recognised as, or what it is not."""
    try:
        return identify(corpus / case.model).name
    except EdgeconvError:
        return "none"


def _with_known(case: Case, known: Mapping[str, Any]) -> Case:
    for name, entry in known.items():
        file = entry["file"].removesuffix(".meta")
        if file == case.model and not name.endswith("-core"):
            outputs: tuple[str, ...] = ()
            if entry["outputs"] and not _holds_signatures(case):
                outputs = ("--outputs", ",".join(entry["outputs"]))
            data: tuple[str, ...] = ()
            if name.startswith("kws-"):
                data = ("--shape", "wav_data=", "--data", entry["golden"])
            return Case(
                case.model,
                (*case.said, *outputs, *data),
                case.part,
                _INT8.search(case.name) is not None,
                entry.get("golden"),
                entry["plain_tools"],
            )
    return Case(case.model, case.said, case.part, _INT8.search(case.name) is not None)


def _holds_signatures(case: Case) -> bool:
    """Whether it is the folder of a SavedModel, which says its outputs; a checkpoint's prefix is not."""
    return "." not in Path(case.model).name and not case.model.startswith("ckpt1-")


def _cut_speech_models(corpus: Path, known: Mapping[str, Any]) -> list[Case]:
    """The keyword spotters without their audio front end, which no edge format has."""
    made = []
    for file in sorted((corpus / "fz-kws-armmcu").glob("*.pb")):
        entry = known.get(f"kws-{file.stem}-core", {})
        shape = known_shape(corpus, entry.get("golden")) or _MFCC.get(file.stem, "1,49,10")
        said = ("--inputs", "Mfcc", "--outputs", "labels_softmax", "--shape", f"Mfcc={shape}")
        case = Case(f"fz-kws-armmcu/{file.name}", said, "core")
        quantized = _INT8.search(case.name) is not None
        made.append(
            replace(case, quantized=quantized, golden=entry.get("golden"), plain=entry.get("plain_tools", {}))
        )
    return made


_MFCC = {
    "Basic_LSTM_S": "1,49,10",
    "CNN_S": "1,49,10",
    "CRNN_S": "1,49,10",
    "DNN_S": "1,25,10",
    "DS_CNN_L": "1,49,10",
    "LSTM_S": "1,25,10",
}


def known_shape(corpus: Path, golden: str | None) -> str | None:
    """The shape of the one known input, as ``--shape`` takes it."""
    import numpy as np

    if golden is None:
        return None
    with np.load(corpus / golden) as arrays:
        (shape,) = (arrays[key].shape for key in arrays if key.startswith("in__"))
    return ",".join(map(str, shape))


def _recorded(corpus: Path, folder: Path) -> Case:
    from corpus_golden import recorded_inputs, recorded_outputs

    outputs = recorded_outputs(folder)
    said: list[str] = ["--outputs", ",".join(outputs)]
    for name, array in recorded_inputs(folder).items():
        said += ["--shape", f"{name}={','.join(map(str, array.shape))}"]
    inside = folder.relative_to(corpus).as_posix()
    return Case(f"{inside}/frozen_model.pb", tuple(said), golden=inside)
