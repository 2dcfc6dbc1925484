"""How gates look on a terminal: of ``edgeconv compare``, and those of devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from edgeconv.cli.tables import VERDICT_STYLE, console_for_tables, plain_text, problem, table_with

if TYPE_CHECKING:
    from edgeconv.execution.manifest import GateRecord, Manifest, OutputRecord
    from edgeconv.recipe.compare import Comparison
    from edgeconv.recipe.on_devices import OnDevice


def print_comparison(comparison: Comparison, *, quiet: bool) -> None:
    """What ``edgeconv compare`` says: the outputs, the verdict, and where the two part."""
    console = console_for_tables()
    if not comparison.devices:
        _print_gate(console, comparison.gate, comparison.precision, quiet=quiet)
    elif not quiet:
        console.print(plain_text(f"reference: {comparison.reference_ran}"), soft_wrap=True)
    for one in comparison.devices:
        print_on_device(console, one, comparison.precision, quiet=quiet)
    if comparison.divergence is not None:
        console.print(plain_text(f"\nlocated: {comparison.divergence.get('explanation')}"), soft_wrap=True)


def print_on_device(console: Console, one: OnDevice, precision: str, *, quiet: bool) -> None:
    """The gate of one device under where it ran, or what broke there and what to do about it."""
    if one.error is not None:
        what = f"{one.device}: {one.error.what}"
        reason = "; ".join(text for text in (one.error.where, one.error.why) if text)
        console.print(problem(console, what, reason or None, one.error.hint), soft_wrap=True)
        return
    assert one.gate is not None
    if not quiet or one.gate.verdict != "pass":
        console.print(plain_text(f"{one.ran}:", "bold"), soft_wrap=True)
    _print_gate(console, one.gate, precision, quiet=quiet)
    if not quiet:
        for output in one.gate.outputs:
            if said := how_exact(output):
                console.print(plain_text(f"  {output.reference_name or output.name}: {said}"), soft_wrap=True)
        for note in one.gate.notes:
            console.print(plain_text(f"  {note}", "dim"), soft_wrap=True)


def print_device_gates(manifest: Manifest, *, quiet: bool) -> None:
    """The gates on devices that a manifest has, a line each."""
    console = console_for_tables()
    gates = [(record, gate) for record in manifest.artifacts for gate in record.device_gates]
    if gates and not quiet:
        table = table_with("artifact", "device", "runtime", "gate", ">max abs", "values")
        for record, gate in gates:
            worst = max((o.max_abs for o in gate.outputs if o.max_abs is not None), default=None)
            runtime = " ".join(text for text in (gate.runtime, gate.version) if text)
            exact = list(dict.fromkeys(said for o in gate.outputs if (said := how_exact(o))))
            table.add_row(
                plain_text(record.id, "bold"),
                plain_text(gate.device + (" (emulated)" if gate.emulated else "")),
                plain_text(runtime),
                Text(gate.verdict, style=VERDICT_STYLE[gate.verdict]),
                "" if worst is None else f"{worst:.2g}",
                plain_text("; ".join(exact)),
            )
        console.print(table)
    for record, gate in gates:
        if gate.verdict != "pass":
            what = f"{record.id}: gate {gate.verdict} on {gate.device}"
            console.print(problem(console, what, gate.reason, gate.hint), soft_wrap=True)


def how_exact(output: OutputRecord) -> str:
    """``exact``, or how many values differ by how many steps; empty where there are no steps to count."""
    from edgeconv.comparison.exactness import Exactness

    extra = output.model_extra or {}
    if extra.get("differing") is None or (extra["differing"] and extra.get("step") is None):
        return ""
    return str(Exactness(extra["differing"], extra["elements"], extra["step"], extra["most_steps"]))


def _print_gate(console: Console, gate: GateRecord, precision: str, *, quiet: bool) -> None:
    if not quiet and gate.outputs:
        table = table_with(
            "output", "of the candidate", "verdict", ">max abs", ">max rel", ">cosine", ">SQNR dB"
        )
        for output in gate.outputs:
            extra = output.model_extra or {}
            table.add_row(
                plain_text(output.reference_name or "", "bold"),
                plain_text(output.name),
                Text(output.verdict, style=VERDICT_STYLE[output.verdict]),
                *(_number(value) for value in (output.max_abs, output.max_rel, output.cosine)),
                _number(extra.get("sqnr_db")),
            )
        console.print(table)
    what = f"{gate.verdict} at the tolerance of {precision}, on {', '.join(gate.inputs)}"
    console.print(plain_text(what, VERDICT_STYLE[gate.verdict]), soft_wrap=True)
    for output in gate.outputs:
        if output.verdict != "pass" and output.reason:
            said = f"  {output.reference_name or output.name}: {output.reason}"
            console.print(plain_text(said), soft_wrap=True)
    if gate.reason and gate.verdict != "pass":
        console.print(problem(console, "", gate.reason, gate.hint), soft_wrap=True)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.2e}"
