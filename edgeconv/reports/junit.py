"""Regression verdicts as JUnit XML: a suite a call, a case for each quantity of each pair."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from edgeconv.latency.regress import Comparison, Quantity
from edgeconv.reports.verdicts import NAMES, change, culprit_lines, interval, place, sentences, share, why


def junit(pairs: Sequence[Comparison]) -> str:
    """The document. A regressed quantity is a failure, an inconclusive one is skipped with the reason.

    An inconclusive *latency* is an error: whoever reads this file only must not take it for a pass.
    """
    root = ElementTree.Element("testsuites", name="edgeconv regress")
    for one in pairs:
        verdicts: list[str] = [each.verdict for each in one.quantities]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=_clean(one.name),
            tests=str(len(verdicts)),
            failures=str(verdicts.count("regressed")),
            errors=str(verdicts[:1].count("inconclusive")),
            skipped=str(verdicts[1:].count("inconclusive")),
            time=f"{one.seconds:.3f}",
        )
        for each, verdict in zip(one.quantities, verdicts, strict=True):
            _case(suite, one, each, verdict)
        said = ElementTree.SubElement(suite, "system-out")
        said.text = _clean("\n".join([place(one), *sentences(one), *one.notes, *culprit_lines(one)]))
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _case(suite: ElementTree.Element, one: Comparison, each: Quantity, verdict: str) -> None:
    seconds = one.decision.seconds if each.name == "latency" else 0.0
    case = ElementTree.SubElement(
        suite, "testcase", classname=_clean(one.name), name=NAMES[each.name], time=f"{seconds:.3f}"
    )
    moved = f"{change(each.ratio)} ({interval(each.low, each.high)})"
    told = f"{NAMES[each.name]} {moved}, threshold {share(each.threshold)}"
    if verdict == "regressed":
        failure = ElementTree.SubElement(case, "failure", type="regressed", message=_clean(told))
        failure.text = _clean("\n".join([why(one), *culprit_lines(one)]))
    elif verdict == "inconclusive":
        tag = "error" if each.name == "latency" else "skipped"
        found = ElementTree.SubElement(case, tag, message=_clean(f"inconclusive: {told}"))
        if tag == "error":
            found.set("type", "inconclusive")
    else:
        ElementTree.SubElement(case, "system-out").text = _clean(f"{verdict}: {told}")


def _clean(text: str) -> str:
    """Without the characters that XML cannot hold; names of ops come from files nobody vouches for."""
    return "".join(
        c if c in "\t\n" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff" else "�"
        for c in text
    )
