"""What ``edgeconv convert --target`` says of the targets: where each artifact runs, and why not."""

from __future__ import annotations

from rich.console import Console

from edgeconv.cli.tables import print_wrapped, problem
from edgeconv.execution.manifest import ArtifactRecord, CheckRecord, Manifest


def print_target_checks(console: Console, manifest: Manifest, *, quiet: bool) -> None:
    """A line for each target and artifact that runs there; what does not, or is not known, with reasons."""
    for record in manifest.artifacts:
        for target in dict.fromkeys(check.target for check in record.checks):
            _print_one(console, record, target, quiet=quiet)


def _print_one(console: Console, record: ArtifactRecord, target: str, *, quiet: bool) -> None:
    checks = [check for check in record.checks if check.target == target]
    good = [_runtime(check) for check in checks if check.verdict == "runs"]
    if good:
        if not quiet:
            print_wrapped(console, f"{record.id}: runs on {target} with {', '.join(good)}")
        return
    said = "nobody can say whether it runs on" if any(c.verdict == "unknown" for c in checks) else "not for"
    reasons, hints = [], []
    for check in checks:
        for each in check.problems:
            if each.severity != "note":
                reasons.append(each.what)
                hints.append(each.hint)
    hint = next((hint for hint in hints if hint), None)
    text = problem(console, f"{record.id}: {said} {target}", "\n".join(dict.fromkeys(reasons)), hint)
    console.print(text, soft_wrap=True)


def _runtime(check: CheckRecord) -> str:
    return f"{check.runtime} {check.version}"
