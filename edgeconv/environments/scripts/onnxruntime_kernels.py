"""Writes down which kernels and which ops of its own the ONNX Runtime of this environment has.

    python onnxruntime_kernels.py PAYLOAD.json ANSWER.json

The payload: ``save``, ``{ONNX file: ORT file}`` to write in the ORT format of this release. The answer:
``version``; ``providers``, built in; ``every_provider``, known by name; ``kernels``, one ``[provider, domain,
op, first version, last version, {type parameter: [types]}]`` each; ``schemas``, those of ONNX included, one
``[domain, op, since, inputs, outputs, attributes, types]`` each.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Answer one payload."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    asked = json.loads(Path(sys.argv[1]).read_text())
    for source, destination in asked.get("save", {}).items():
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = destination
        options.add_session_config_entry("session.save_model_format", "ORT")
        onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    answer = {
        "version": onnxruntime.__version__,
        "providers": native.get_available_providers(),
        "every_provider": native.get_all_providers(),
        "kernels": [
            [
                kernel.provider,
                kernel.domain,
                kernel.op_name,
                *kernel.version_range,
                {name: sorted(types) for name, types in kernel.type_constraints.items()},
            ]
            for kernel in native.get_all_opkernel_def()
        ],
        "schemas": [_schema(schema) for schema in native.get_all_operator_schema() if not schema.deprecated],
    }
    Path(sys.argv[2]).write_text(json.dumps(answer))


def _schema(schema: Any) -> list[Any]:
    """``typeStr`` is the name of a type parameter, or a type itself."""
    return [
        schema.domain,
        schema.name,
        schema.since_version,
        [_parameter(each) for each in schema.inputs],
        [_parameter(each) for each in schema.outputs],
        {name: bool(attribute.required) for name, attribute in sorted(schema.attributes.items())},
        {each.type_param_str: sorted(each.allowed_type_strs) for each in schema.type_constraints},
    ]


def _parameter(parameter: Any) -> list[Any]:
    """Its type, and how often it occurs: ``single``, ``optional``, ``variadic``."""
    option = str(parameter.option).rpartition(".")[2].partition(":")[0].lower()
    return [parameter.typeStr, option]


if __name__ == "__main__":
    main()
