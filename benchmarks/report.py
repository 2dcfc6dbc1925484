"""Writes ``docs/benchmarks.md`` from the raw numbers of ``speed.py``."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]

_HEAD = """# Benchmarks

How quick and how lean edgeconv is. Both sides of every ratio ran in turns in one run on one machine, which others
used at the same time: trust ratios, not seconds. The raw numbers are in `benchmarks/results/`, each section says the
command that makes them, and `python benchmarks/speed.py report` writes this page from them.
"""


def write_report(results: Path, page: Path) -> None:
    """Write the page; a section whose numbers are not there is left out."""
    sections = [_HEAD]
    for name, write in _SECTIONS.items():
        path = results / f"{name}.json"
        if path.exists():
            data = json.loads(path.read_text())
            sections.append(f"{write(data['rows'])}\n`python benchmarks/speed.py {name}`, {_where(data)}.\n")
    page.write_text("\n".join(sections))


def _where(data: dict[str, Any]) -> str:
    machine = data["machine"]
    return f"{machine['cores']} cores, {machine['machine']}, Python {machine['python']}"


def _matrix(rows: Rows) -> str:
    table = []
    for model, mine in _by(rows, "model"):
        first = mine[0]
        table.append(
            [
                model,
                _median(mine, "edgeconv_s", "{:.1f} s"),
                _median(mine, "by_hand_s", "{:.1f} s"),
                _median(mine, "ratio", "**{:.0%}**"),
                f"{max(first['peaks'].values()) / 1e6:,.0f} MB",
                f"{first['by_hand_steps']['peak_rss_bytes'] / 1e6:,.0f} MB",
                _verdicts(first["gates"]),
            ]
        )
    steps = [
        [model, *(f"{mine[0]['steps'].get(step, 0):.1f}" for step in mine[0]["steps"])]
        for model, mine in _by(rows, "model")
    ]
    hand = [
        [model, *(f"{value:.1f}" for value in mine[0]["by_hand_steps"]["seconds"].values())]
        for model, mine in _by(rows, "model")
    ]
    return f"""## The whole matrix, with all gates

Frozen graph, TFLite fp32, fp16, dynamic and int8, ONNX fp32 and int8, both int8 with 100 samples, from a SavedModel
of `keras.applications` with random weights. By hand: `tf.saved_model.load` and `convert_variables_to_constants_v2`,
`TFLiteConverter.from_saved_model` for each precision, `tf2onnx.convert.from_graph_def`, and `quantize_static` (QDQ, per
channel), one after another in one process, no gates (`benchmarks/by_hand.py`). edgeconv: the command, cold, with an
empty cache, every artifact gated. Medians of {len(_by(rows, "model")[0][1])} runs in turns.

{_table(["model", "edgeconv", "by hand", "ratio", "peak of a worker", "peak by hand", "gates"], table)}

Seconds of each conversion in its worker (two run at a time), and of each step by hand, in the first run:

{_table(["edgeconv", *rows[0]["steps"]], steps)}

{_table(["by hand", *rows[0]["by_hand_steps"]["seconds"]], hand)}
"""


def _memory(rows: Rows) -> str:
    table = [
        [
            model,
            f"{(mine[0]['bound'] - 1e9) / 6e6:,.0f} MB",
            f"{mine[0]['bound'] / 1e6:,.0f} MB",
            *_highest(mine),
        ]
        for model, mine in _by(rows, "model")
    ]
    every = [
        [f"{row['artifact']}, {row['step']}", model, f"{row['peak'] / 1e6:,.0f} MB"]
        for model, mine in _by(rows, "model")
        for row in sorted(mine, key=lambda r: -r["peak"])[:5]
    ]
    return f"""## Memory

Highest resident memory of any worker, converting and gating, over frozen graph, TFLite fp32, fp16, dynamic, int8 and
int16x8, ONNX fp32, fp16 and int8, and ORT; the bound is 1 GB and six times the weights.

{_table(["model", "weights", "bound", "highest", "where"], table)}

The five highest:

{_table(["step", "model", "peak"], every)}
"""


def _cold(rows: Rows) -> str:
    table = [
        [source, _median(mine, "edgeconv_s", "{:.1f} s"), _median(mine, "import_s", "{:.1f} s")]
        + [_median(mine, "more_s", "**{:+.1f} s**")]
        for source, mine in _by(rows, "source")
    ]
    return f"""## One small model to one TFLite file, cold

From the shell, with an empty cache, gates included; beside it a bare `python -c "import tensorflow"`.

{_table(["source", "edgeconv", "import tensorflow", "difference"], table)}
"""


def _rerun(rows: Rows) -> str:
    table = [
        [model, _median(mine, "wall_s", "**{:.2f} s**"), _median(mine, "cpu_s", "{:.2f} s")]
        for model, mine in _by(rows, "model")
    ]
    return f"""## The same command again, nothing changed

The whole matrix; every artifact verified by its hash, TensorFlow not imported.

{_table(["model", "wall", "CPU"], table)}
"""


def _start(rows: Rows) -> str:
    table = [
        ["`edgeconv " + " ".join(Path(word).name for word in row["command"]) + "`"]
        + [f"**{statistics.median(row['wall_s']):.2f} s**"]
        for row in rows
    ]
    return f"""## Commands that answer at once

{_table(["command", "median"], table)}
"""


_SECTIONS: dict[str, Callable[[Rows], str]] = {
    "matrix": _matrix,
    "memory": _memory,
    "cold": _cold,
    "rerun": _rerun,
    "start": _start,
}


def _by(rows: Rows, key: str) -> list[tuple[str, Rows]]:
    names = list(dict.fromkeys(row[key] for row in rows))
    return [(name, [row for row in rows if row[key] == name]) for name in names]


def _median(rows: Rows, key: str, form: str) -> str:
    return form.format(statistics.median(row[key] for row in rows))


def _highest(rows: Rows) -> list[str]:
    top = max(rows, key=lambda row: row["peak"])
    return [f"**{top['peak'] / 1e6:,.0f} MB**", f"{top['artifact']}, {top['step']}"]


def _verdicts(gates: dict[str, str]) -> str:
    passed = sum(verdict == "pass" for verdict in gates.values())
    return f"{passed} of {len(gates)} pass"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
