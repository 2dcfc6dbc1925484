"""How ``edgeconv inspect`` says what a model is: one readable page, however large the model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgeconv.cli import tables
from edgeconv.cli.options import plain
from edgeconv.formats.base import Candidate, Description, Finding, TensorSpec

_SHOWN_OPS = 8
_VARIABLES = 20
_CANDIDATES = 8
"""Of each role; those below :data:`_UNLIKELY` are left out too where a likelier one is there."""
_UNLIKELY = 0.3
_SHOWN_OF_A_KIND = 4
_WIDE = 110
"""From so many columns on, what speaks for a candidate stands beside it; else below it."""
_SLOT = re.compile(
    r"(?P<of>.+)/(?P<slot>(Adam|AdaMax|AdamW|Nadam|Adagrad|Adadelta|AdagradDA|Momentum|RMSProp|Ftrl|LAMB|LARS)\w*)$"
)
_OBJECT_SLOT = "/.OPTIMIZER_SLOT/"


def print_description(description: Description, *, all_ops: bool, verbose: bool) -> None:
    """What ``edgeconv inspect`` says; with ``verbose`` nothing is left out of its lists."""
    console = tables.console_for_tables()
    console.print(Text.assemble((plain(Path(description.path).name), "bold"), f"  {description.format}"))
    facts = _columns(padding=(0, 2, 0, 2))
    for name, value in _facts(description, verbose):
        facts.add_row(Text(name, style="dim"), _text(value))
    console.print(facts)
    variables = description.metadata.get("variables")
    if description.format == "checkpoint" and variables:
        _print_variables(console, variables, verbose)
    for signature in description.signatures:
        console.print(Text.assemble("\nsignature ", (plain(signature.name) or "(unnamed)", "bold")))
        console.print(
            _tensors([("in", spec) for spec in signature.inputs] + [("out", s) for s in signature.outputs])
        )
    if description.candidates:
        console.print("\ncandidates (the graph does not say; choose with --inputs and --outputs)")
        _print_candidates(console, description.candidates, verbose)
    if description.ops:
        console.print("\noperations")
        console.print(Padding(_ops(description.ops, all_ops), (0, 0, 0, 2)))
    if description.findings:
        console.print("\nfindings")
        _print_findings(console, description.findings, verbose)


def _facts(description: Description, verbose: bool) -> Iterable[tuple[str, str]]:
    yield "made by", description.producer or "not said"
    if description.version:
        yield "version", description.version
    yield "size", tables.show_bytes(description.bytes)
    yield "parameters", tables.show_count(description.parameters)
    yield "MACs", tables.show_count(description.macs)
    for key, value in description.metadata.items():
        if key == "variables" and description.format == "checkpoint":
            continue  # a table of their own
        if value in (None, "", [], {}, ()) or (not value and not verbose):
            continue  # none of a kind is no news
        text = _fact(value)
        yield key.replace("_", " "), text if len(text) <= 100 or verbose else text[:99] + "…"


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_fact(inner)}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_fact(inner) for inner in value)
    return str(value)


def _print_variables(console: Console, variables: Sequence[Mapping[str, Any]], verbose: bool) -> None:
    """The model's variables; an optimiser's own are counted."""
    names = {each["name"] for each in variables}
    own = [each for each in variables if verbose or not _is_slot(each["name"], names)]
    shown = own if verbose else own[:_VARIABLES]
    console.print(f"\nvariables ({len(variables)})")
    stored = [
        (each["name"], each["dtype"], tables.show_shape(None if (s := each["shape"]) is None else tuple(s)))
        for each in shown
    ]
    widths = [max((len(plain(row[column])) for row in stored), default=0) for column in range(3)]
    if sum(widths) + 8 <= console.width:
        table = _columns(padding=(0, 2, 0, 2))
        for name, dtype, shape in stored:
            table.add_row(_text(name), _text(dtype, "dim"), shape)
        console.print(table)
    else:
        # What is too long for the line stands last, where it may go on in the next one whole.
        for name, dtype, shape in stored:
            line = Text.assemble(
                "  ", (plain(dtype).ljust(widths[1]), "dim"), f"  {shape.ljust(widths[2])}  "
            )
            console.print(line + _text(name), soft_wrap=True)
    rest = [f"{len(own) - len(shown)} more"] if len(own) > len(shown) else []
    rest += [f"{len(variables) - len(own)} of optimisers"] if len(variables) > len(own) else []
    if rest:
        console.print(f"  … and {' and '.join(rest)}, which -v lists")


def _is_slot(name: str, names: set[str]) -> bool:
    """Whether a value is what an optimiser remembers of another one in the same checkpoint."""
    found = _SLOT.match(name)
    return _OBJECT_SLOT in name or (found is not None and found["of"] in names)


def _tensors(rows: list[tuple[str, TensorSpec]]) -> Table:
    table = _columns()
    for role, spec in rows:
        quantized = ""
        if spec.quantization is not None and len(spec.quantization.scale) == 1:
            quantized = f"scale {spec.quantization.scale[0]:.4g}, zero {spec.quantization.zero_point[0]}"
        inner = spec.tensor if spec.tensor not in (None, spec.name) else ""
        table.add_row(
            Text(f"  {role}", style="dim"),
            _text(spec.name, "bold"),
            _text(spec.dtype),
            tables.show_shape(spec.shape),
            quantized,
            _text(inner or "", "dim"),
        )
    return table


def _print_candidates(console: Console, candidates: tuple[Candidate, ...], verbose: bool) -> None:
    left_out: list[str] = []
    wide = console.width >= _WIDE
    table = _columns()
    for role in dict.fromkeys(each.role for each in candidates):
        ranked = [each for each in candidates if each.role == role]
        likely = [each for each in ranked if each.score >= _UNLIKELY] or ranked
        shown = ranked if verbose else likely[:_CANDIDATES]
        for each in shown:
            evidence = _text("; ".join(each.evidence), "dim")
            cells = [
                Text(f"  {each.role}", style="dim"),
                _text(each.tensor.name, "bold"),
                _text(each.tensor.dtype),
                _text(tables.show_shape(each.tensor.shape)),
                Text(f"{each.score:.2f}"),
            ]
            if wide:
                table.add_row(*cells, evidence)
                continue
            line = Text("  ").join(cell for cell in cells)
            console.print(line, soft_wrap=True)
            console.print(Padding(evidence, (0, 0, 0, 10)))
        if len(ranked) > len(shown):
            left_out.append(f"{len(ranked) - len(shown)} less likely {role}s")
    if wide:
        console.print(table)
    if left_out:
        console.print(f"  … and {' and '.join(left_out)}, which -v lists")


def _ops(ops: Any, all_ops: bool) -> Text:
    ranked = sorted(ops.items(), key=lambda item: (-item[1], item[0]))
    shown = ranked if all_ops else ranked[:_SHOWN_OPS]
    text = _text(", ".join(f"{count} {name}" for name, count in shown))
    if len(shown) < len(ranked):
        text.append(f", and {len(ranked) - len(shown)} more kinds (--ops shows all)", "dim")
    return text


def _print_findings(console: Console, findings: Sequence[Finding], verbose: bool) -> None:
    """The findings, those with one way out together, and that said once."""
    kinds: dict[tuple[str, str | None], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.code, finding.hint), []).append(finding)
    for (_, hint), found in kinds.items():
        shown = found if verbose or len(found) <= _SHOWN_OF_A_KIND + 1 else found[:_SHOWN_OF_A_KIND]
        for finding in shown:
            where = f" ({finding.where})" if finding.where and finding.where not in finding.message else ""
            tables.print_wrapped(console, f"  ! {finding.message}{where}")
        if len(shown) < len(found):
            console.print(f"  ! {len(found) - len(shown)} more of that kind, which -v lists")
        if hint:
            tables.print_wrapped(console, f"    → {hint}", "cyan", "      ")


def _columns(padding: tuple[int, int, int, int] = (0, 2, 0, 0)) -> Table:
    """A table without lines or head."""
    return Table(box=None, show_header=False, padding=padding)


def _text(text: str, style: str = "") -> Text:
    """A text from a model: no markup or control character in it acts, and no narrow column cuts it."""
    return Text(plain(text), style=style, overflow="fold")
