"""Regression verdicts as Markdown for a pull request: what a reviewer needs first, the rest folded away."""

from __future__ import annotations

from collections.abc import Sequence

from edgeconv.latency.regress import Comparison, worst
from edgeconv.reports.verdicts import (
    NAMES,
    amount,
    change,
    culprit_lines,
    interval,
    place,
    sentences,
    share,
    why,
)

MARKS = {"regressed": "🔴", "ok": "🟢", "improved": "🔵", "inconclusive": "🟡"}


def markdown(pairs: Sequence[Comparison], unmatched: Sequence[str] = ()) -> str:
    """The page; a table of all pairs, then each by itself."""
    verdict = worst([one.verdict for one in pairs])
    lines = [f"## {MARKS[verdict]} edgeconv regress: {verdict}", ""]
    lines += ["| artifact | verdict | latency | load time | memory | size |", "|---|---|---|---|---|---|"]
    for one in pairs:
        cells = [_cell(each.verdict, each.ratio, each.alpha == 0) for each in one.quantities]
        lines.append(f"| {_safe(one.name)} | {MARKS[one.verdict]} **{one.verdict}** | {' | '.join(cells)} |")
    for path in unmatched:
        lines += ["", f"Not compared: {_safe(path)}"]
    for one in pairs:
        lines += ["", f"**{_safe(one.name)}**: {_safe(why(one))}.", ""]
        if told := culprit_lines(one):
            lines += ["Culprit:", "", *(f"- {_safe(line)}" for line in told), ""]
        lines += [f"<details><summary>{_safe(place(one))}</summary>", ""]
        lines += ["| quantity | baseline | candidate | change | interval | threshold | verdict |"]
        lines += ["|---|---|---|---|---|---|---|"]
        for each in one.quantities:
            exact = "exact" if each.alpha == 0 else interval(each.low, each.high)
            lines.append(
                f"| {NAMES[each.name]} | {amount(each.name, each.baseline)} | "
                f"{amount(each.name, each.candidate)} | {change(each.ratio)} | {exact} | "
                f"{share(each.threshold)} | {each.verdict} |"
            )
        for name, channel in one.decision.channels.items():
            label = name if channel.percentile is None else f"{name} (p{100 * channel.percentile:g})"
            lines.append(
                f"| latency, {label} | | | {change(channel.ratio)} | {interval(channel.low, channel.high)} | "
                f"| {channel.verdict} |"
            )
        lines += ["", *(_safe(line) for line in sentences(one)), *(f"- {_safe(n)}" for n in one.notes)]
        lines += ["", "</details>"]
    return "\n".join(lines) + "\n"


def _cell(verdict: str, ratio: float, exact: bool) -> str:
    mark = "" if verdict == "ok" else f"{MARKS[verdict]} "
    return f"{mark}{change(ratio, 1)}"


def _safe(text: str) -> str:
    """A text that a table and a page take as it is: names of ops and files could be markup."""
    for sign in "\\`*_[]<>|":
        text = text.replace(sign, f"\\{sign}" if sign not in "<>" else {"<": "&lt;", ">": "&gt;"}[sign])
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
