"""The manifest: versioned, with a published schema, old versions readable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edgeconv.errors import UsageError
from edgeconv.execution.manifest import Manifest, json_schema, read_manifest, write_manifest

PUBLISHED = Path(__file__).parents[2] / "docs" / "manifest.schema.json"


def document() -> dict[str, Any]:
    return {
        "schema": 1,
        "source": {"path": "/m.keras", "format": "keras", "sha256": "0" * 64, "contract": None},
        "tools": {"tensorflow": "2.21.0"},
        "host": {"machine": "x86_64"},
        "artifacts": [
            {
                "id": "tflite.int8",
                "format": "tflite",
                "precision": "int8",
                "path": "m.int8.tflite",
                "sha256": "1" * 64,
                "bytes": 10,
                "from": "tflite.fp32",
                "conversion": "tflite_from_tflite",
                "contract": {},
                "seconds": 0.5,
                "peak_rss_bytes": 1000,
                "cached": False,
                "gate": {
                    "verdict": "fail",
                    "reference": "tflite.fp32",
                    "inputs": ["uniform"],
                    "outputs": [
                        {
                            "name": "y",
                            "reference_name": "y",
                            "verdict": "fail",
                            "reason": "far",
                            "max_abs": 1.0,
                        }
                    ],
                },
            }
        ],
        "failures": [],
    }


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    manifest = Manifest.model_validate(document())
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert manifest.artifact("tflite.int8").from_ == "tflite.fp32"
    assert not manifest.passed


def test_the_published_schema_is_that_of_the_code_and_accepts_what_is_written(tmp_path: Path) -> None:
    published = json.loads(PUBLISHED.read_text())
    assert published == json_schema()
    write_manifest(tmp_path, Manifest.model_validate(document()))
    written = json.loads((tmp_path / "manifest.json").read_text())
    jsonschema.validate(written, published)
    assert written["artifacts"][0]["from"] == "tflite.fp32"
    written["artifacts"][0]["gate"]["verdict"] = "perfect"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(written, published)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no JSON"),
        ("[]", "no manifest"),
        ('{"schema": 99}', "schema 99, newer"),
        ('{"schema": 1, "source": {"path": 3}}', "broken at source"),
    ],
)
def test_what_is_no_manifest_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UsageError, match=said):
        read_manifest(tmp_path)
    with pytest.raises(UsageError, match="no manifest here"):
        read_manifest(tmp_path / "elsewhere")
