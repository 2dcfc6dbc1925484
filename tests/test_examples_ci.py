"""The workflow of ``examples/ci``: valid YAML whose commands edgeconv has."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import yaml

from edgeconv.cli.regress import command

FOLDER = Path(__file__).parents[1] / "examples" / "ci"


def test_the_workflow_is_one_and_its_command_has_the_flags_it_is_given() -> None:
    workflow = yaml.safe_load((FOLDER / "regress.yml").read_text())
    steps = workflow["jobs"]["regress"]["steps"]
    scripts = "\n".join(step.get("run", "") for step in steps).replace("\\\n", " ")
    lines = re.findall(r"edgeconv regress[^|`\n]*", scripts + (FOLDER / "README.md").read_text())
    known = {flag for option in command.params for flag in option.opts}
    assert len(lines) >= 3
    for line in lines:
        for word in shlex.split(line):
            if word.startswith("--"):
                assert word.partition("=")[0] in known, line


def test_the_workflow_tells_inconclusive_from_regressed() -> None:
    text = (FOLDER / "regress.yml").read_text()
    assert "3) echo" in text
    assert "*) exit" in text
