"""The table of what became of every model, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

GOLDEN_RELATIVE = {"fp32": 1e-4, "int8": 0.1}
"""How far a known output may be missed, relative to the largest known magnitude."""
_TARGETS = ("frozen_graph.fp32", "tflite.fp32", "onnx.fp32", "tflite.int8", "onnx.int8")
_WORDS = 400


def table(results: Sequence[Mapping[str, Any]], seconds: float, warm: bool = False) -> str:
    """The whole page; ``seconds`` the run took, and whether all models shared ``warm`` workers."""
    command = "python benchmarks/corpus.py" + (" --warm" if warm else "")
    lines = [
        "# Every model of the corpus",
        "",
        "Real models that others wrote, taken through `edgeconv convert`. Made by",
        f"`{command}` in {seconds / 60:.0f} minutes on two cores, which others used too;",
        "the raw results are in `benchmarks/results/corpus.json`.",
        "",
        "An artifact *passes* when its gate does; the number is the largest difference its gate saw, in the",
        "output's own unit. *known outputs given* says that it also gives the outputs that are recorded with",
        "the model. Where an artifact cannot be had, the diagnosis is as edgeconv says it.",
        "",
        *_totals(results),
        "",
        "## Model by model",
        "",
    ]
    for result in results:
        lines += _row(result)
    return "\n".join(lines).rstrip("\n") + "\n"


def golden_passes(target: str, golden: Mapping[str, Any]) -> bool:
    """Whether known outputs are reproduced within what the precision allows."""
    if "error" in golden:
        return False
    limit = GOLDEN_RELATIVE[target.rpartition(".")[2]] * max(float(golden["scale"]), 1e-3)
    return bool(golden["max_abs"] <= limit)


def _totals(results: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| target | asked for | pass | known outputs given | gate fails | not proven | diagnosis |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for target in _TARGETS:
        outcomes = [r["targets"][target] for r in results if target in r["targets"]]
        if not outcomes:
            continue
        count = Counter(o["outcome"] for o in outcomes)
        golden = [o["golden"] for o in outcomes if "golden" in o]
        right = sum(golden_passes(target, g) for g in golden)
        diagnosed = count["failed"] + count["refused"]
        lines.append(
            f"| {target} | {len(outcomes)} | {count['pass']} | {right} of {len(golden)} | {count['fail']} "
            f"| {count['skipped']} | {diagnosed} |"
        )
    return lines + _against_plain(results)


def _against_plain(results: Sequence[Mapping[str, Any]]) -> list[str]:
    known = [r for r in results if r["plain"] and r["format"] != "checkpoint"]
    lines = [
        "",
        f"Of the {len(known)} cases here for which it is known what the plain tools make of them:",
        "",
    ]
    for target in ("tflite", "onnx"):
        plain = {r["name"] for r in known if r["plain"][target].startswith("ok")}
        ours = {r["name"] for r in known if r["targets"][f"{target}.fp32"]["outcome"] == "pass"}
        lines.append(
            f"- {target}: plain tools {len(plain)}, edgeconv {len(ours)}"
            + (f"; only edgeconv: {', '.join(sorted(ours - plain))}" if ours - plain else "")
            + (f"; only the plain tools: {', '.join(sorted(plain - ours))}" if plain - ours else "")
        )
    defects = [r["name"] for r in results if r["exit"] == 70]
    lines += ["", f"Defects (exit 70): {', '.join(defects) or 'none'}."]
    return lines


def _row(result: Mapping[str, Any]) -> list[str]:
    said = " ".join(result["said"]) or "nothing"
    lines = [f"**{result['name']}** — {result['format']}; said: `{said}`; exit {result['exit']}", ""]
    if all(o["outcome"] == "refused" for o in result["targets"].values()):
        return [*lines, f"- refused: {_short(_one_line(result['message']))}", ""]
    lines += [f"- {target}: {_cell(target, outcome)}" for target, outcome in result["targets"].items()]
    return [*lines, ""]


def _cell(target: str, outcome: Mapping[str, Any]) -> str:
    if outcome["outcome"] == "pass":
        text = "pass" if outcome["max_abs"] is None else f"pass, {outcome['max_abs']:.1e}"
    elif outcome["outcome"] == "failed":
        last = outcome["failures"][-1] if outcome["failures"] else {"reason": "not tried", "hint": ""}
        text = "diagnosis: " + _short(last["reason"]) + (f" → {_short(last['hint'])}" if last["hint"] else "")
    else:
        word = {"fail": "**gate fails**", "skipped": "not proven"}.get(outcome["outcome"], outcome["outcome"])
        text = f"{word}: {_short(outcome['reason'] or '')}"
        text += f" → {_short(outcome['hint'])}" if outcome.get("hint") else ""
    golden = outcome.get("golden")
    if golden is None:
        return text
    if "error" in golden:
        return f"{text}; **known outputs: {_short(golden['error'])}**"
    verdict = "known outputs given" if golden_passes(target, golden) else "**known outputs missed**"
    return f"{text}; {verdict}, {golden['max_abs']:.1e}"


def _short(text: str) -> str:
    text = _one_line(text)
    return text if len(text) <= _WORDS else f"{text[: _WORDS - 1]}…"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
