"""A picture of a part of a graph as SVG: layers from top to bottom, edges with their shapes.

The layout is the usual one in layers: every node stands below all that it reads, nodes within a layer are
sorted by the middle of their neighbours so that few edges cross, and boxes are moved towards the middle of
what they are connected to without overlapping (after Sugiyama, Tagawa and Toda 1981, simplified).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape as _escape

from edgeconv.errors import UsageError
from edgeconv.formats.base import Shape
from edgeconv.formats.nodes import CONSTANTS, NodeInfo

MOST_NODES = 200
"""More nodes than this cannot be looked at."""

_HEIGHT, _LINE, _GAP, _BETWEEN = 22, 14, 26, 58
_CHARACTER = 6.7
_NAME_LENGTH = 34
_SWEEPS = 12
_FONT = "DejaVu Sans, Arial, sans-serif"


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture.

    Attributes:
        title: what stands above it.
        nodes: what is drawn.
        marked: names of nodes that are highlighted, to why.
        cut: names of nodes that have neighbours outside of the picture.
    """

    title: str
    nodes: tuple[NodeInfo, ...]
    marked: Mapping[str, str] = field(default_factory=dict)
    cut: frozenset[str] = frozenset()


def panel_of(
    nodes: Sequence[NodeInfo], title: str, marked: Mapping[str, str], around: str | None, radius: int
) -> Panel:
    """What is drawn of a graph: all of it, or what is at most ``radius`` steps from a node.

    Weights and other constants are no boxes of their own: they stand in the box that reads them, unless the
    middle of the picture is one.

    Raises:
        UsageError: more than can be looked at.
    """
    by_name = {node.name: node for node in nodes}
    constant = _constant(by_name)
    keep = set(by_name) - constant
    if around is not None and around in constant:
        keep = set(by_name)
    shown = _near(by_name, keep, around, radius) if around is not None else keep
    if len(shown) > MOST_NODES:
        raise UsageError(
            f"a picture of {len(shown)} nodes cannot be looked at",
            why=f"at most {MOST_NODES} are drawn",
            hint="draw less of it: --around NODE --radius 2"
            if around is None
            else f"choose a smaller --radius than {radius}",
        )
    neighbours = _neighbours(by_name, keep)
    drawn = tuple(node for node in nodes if node.name in shown)
    cut = frozenset(name for name in shown if neighbours.get(name, set()) - shown)
    texts = {name: why for name, why in marked.items() if name in shown}
    with_weights = tuple(_with_constants(node, by_name, constant - shown) for node in drawn)
    return Panel(title, with_weights, texts, cut)


def svg(panels: Sequence[Panel]) -> str:
    """The panels one below the other as an SVG document. Names are text in it, never markup."""
    bodies, top, width = [], 0.0, 320.0
    for panel in panels:
        body, wide, high = _drawn(panel)
        bodies.append(f'<g transform="translate(0,{top:.0f})">{body}</g>')
        top += high + 24
        width = max(width, wide)
    height = max(top - 24, 40)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="{_FONT}" font-size="11">\n'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#667085"/></marker></defs>\n'
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>\n'
        + "\n".join(bodies)
        + "\n</svg>\n"
    )


def _constant(by_name: Mapping[str, NodeInfo]) -> set[str]:
    """Nodes that depend on nothing that is fed: constants, variables, and what is computed of them only."""
    state: dict[str, bool] = {}
    for start in by_name:
        stack = [start]
        while stack:
            name = stack[-1]
            if name in state:
                stack.pop()
                continue
            node = by_name[name]
            reads = [r for r in node.inputs if not r.startswith("^") and r in by_name]
            waiting = [r for r in reads if r not in state]
            if waiting and not any(r in stack for r in waiting):
                stack.extend(waiting)
                continue
            known = [state.get(r, False) for r in reads]
            state[name] = node.op in CONSTANTS or (bool(reads) and all(known))
            stack.pop()
    return {name for name, is_constant in state.items() if is_constant}


def _neighbours(by_name: Mapping[str, NodeInfo], keep: set[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {name: set() for name in keep}
    for name in keep:
        for reference in by_name[name].inputs:
            other = reference.lstrip("^")
            if other in keep and other != name:
                found[name].add(other)
                found[other].add(name)
    return found


def _near(by_name: Mapping[str, NodeInfo], keep: set[str], around: str, radius: int) -> set[str]:
    neighbours = _neighbours(by_name, keep)
    found, front = {around}, {around}
    for _ in range(radius):
        front = {other for name in front for other in neighbours.get(name, ())} - found
        found |= front
    return found


def _with_constants(node: NodeInfo, by_name: Mapping[str, NodeInfo], hidden: set[str]) -> NodeInfo:
    """The node with the shapes of its constants behind its op, as ``Conv2D  3×3×3×8``."""
    shapes = []
    for reference in node.inputs:
        other = by_name.get(reference)
        while other is not None and other.shape is None and len(other.inputs) == 1:
            other = by_name.get(other.inputs[0])
        if other is not None and reference in hidden and other.shape:
            shapes.append(show_shape(other.shape))
    said = "  ".join(shapes[:3]) + (" …" if len(shapes) > 3 else "")
    return NodeInfo(node.name, f"{node.op}\n{said}" if said else node.op, node.inputs, node.dtype, node.shape)


def _drawn(panel: Panel) -> tuple[str, float, float]:
    names = [node.name for node in panel.nodes]
    known = set(names)
    edges = [
        (reference.lstrip("^"), node.name, reference.startswith("^"))
        for node in panel.nodes
        for reference in node.inputs
        if reference.lstrip("^") in known and reference.lstrip("^") != node.name
    ]
    by_name = {node.name: node for node in panel.nodes}
    # The way back in a loop is what goes up, whatever else closes the circle.
    layers = _layers(names, [(a, b) for a, b, _ in edges if not by_name[a].op.startswith("NextIteration")])
    widths = {name: _width(by_name[name]) for name in names}
    # An edge over several layers goes through a gap in each, so that it passes behind no box.
    links: list[tuple[str, str]] = []
    ways: dict[tuple[str, str], list[str]] = {}
    for a, b, _ in edges:
        gaps = [f"{a}\0{b}\0{layer}" for layer in range(layers[a] + 1, layers[b])]
        ways[(a, b)] = gaps
        for layer, gap in enumerate(gaps, layers[a] + 1):
            layers[gap], widths[gap] = layer, _GAP / 2
        links += zip([a, *gaps], [*gaps, b], strict=True)
    rows: list[list[str]] = [[] for _ in range(max(layers.values(), default=-1) + 1)]
    for name, layer in layers.items():
        rows[layer].append(name)
    around: dict[str, list[str]] = {name: [] for name in layers}
    for a, b in links:
        around[a].append(b)
        around[b].append(a)
    centres = _placed(rows, around, layers, widths)
    left = min((centres[n] - widths[n] / 2 for n in centres), default=0.0)
    wide = max((centres[n] + widths[n] / 2 for n in centres), default=0.0) - left + 40
    head = '<text x="20" y="22" font-size="13" font-weight="bold" fill="#101828">'
    title = f"{head}{escape(panel.title)}</text>"
    wide = max(wide, 40 + 7.6 * len(panel.title))
    heights = {name: _HEIGHT + _LINE * (1 + by_name[name].op.count("\n")) for name in names}
    tops: list[float] = []
    top = 44.0
    for row in rows:
        tops.append(top)
        top += max((heights.get(n, 0) for n in row), default=0) + _BETWEEN
    parts = [title]
    for a, b, control in edges:
        points = [(centres[a] - left + 20, tops[layers[a]] + heights[a])]
        for gap in ways[(a, b)]:
            row = rows[layers[gap]]
            points.append((centres[gap] - left + 20, tops[layers[gap]]))
            points.append((points[-1][0], tops[layers[gap]] + max(heights.get(n, 0) for n in row)))
        points.append((centres[b] - left + 20, tops[layers[b]] - 2))
        parts.append(_edge(points, control, layers[b] <= layers[a]))
    for name in dict.fromkeys(a for a, _, control in edges if not control):
        below = tops[layers[name]] + heights[name]
        parts.append(_shape_below(by_name[name], centres[name] - left + 20, below))
    for name in names:
        x, y = centres[name] - left + 20 - widths[name] / 2, tops[layers[name]]
        parts.append(_box(by_name[name], x, y, widths[name], heights[name], panel))
    return "\n".join(parts), wide, top - _BETWEEN + 20


def _layers(names: Sequence[str], edges: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Each node's layer: below all that it reads. Edges that close a circle are left out."""
    reads: dict[str, list[str]] = {name: [] for name in names}
    for a, b in edges:
        reads[b].append(a)
    layer: dict[str, int] = {}
    for start in names:
        stack, open_ = [start], set()
        while stack:
            name = stack[-1]
            if name in layer:
                stack.pop()
                continue
            open_.add(name)
            waiting = [r for r in reads[name] if r not in layer and r not in open_]
            if waiting:
                stack.extend(waiting)
                continue
            layer[name] = 1 + max((layer[r] for r in reads[name] if r in layer), default=-1)
            stack.pop()
    # What nobody stands between is drawn close to its reader: inputs of late nodes need no long edges.
    readers: dict[str, list[str]] = {name: [] for name in names}
    for b, mine in reads.items():
        for a in mine:
            readers[a].append(b)
    for name in sorted(names, key=lambda n: -layer[n]):
        below = [layer[r] for r in readers[name] if layer[r] > layer[name]]
        if below and not reads[name]:
            layer[name] = min(below) - 1
    return layer


def _placed(
    rows: list[list[str]],
    around: Mapping[str, Sequence[str]],
    layers: Mapping[str, int],
    widths: Mapping[str, float],
) -> dict[str, float]:
    """Middle of each box, after sorting the rows so that few edges cross."""
    at: dict[str, float] = {}
    for row in rows:
        x = 0.0
        for name in row:
            at[name] = x + widths[name] / 2
            x += widths[name] + _GAP
    for sweep in range(_SWEEPS):
        ordered = rows if sweep % 2 == 0 else rows[::-1]
        for row in ordered:
            wanted = {}
            for name in row:
                others = [o for o in around[name] if (layers[o] < layers[name]) == (sweep % 2 == 0)]
                others = others or list(around[name])
                wanted[name] = sum(at[o] for o in others) / len(others) if others else at[name]
            row.sort(key=lambda name: wanted[name])
            _spread(row, wanted, widths, at)
    return at


def _spread(
    row: Sequence[str], wanted: Mapping[str, float], widths: Mapping[str, float], at: dict[str, float]
) -> None:
    """Put the boxes of a row as near as may be to where they are wanted, side by side in their order."""
    groups: list[tuple[list[str], float]] = []
    for name in row:
        members, middle = [name], wanted[name]
        while groups:
            before, place = groups[-1]
            need = (_extent(before, widths) + _extent(members, widths)) / 2 + _GAP
            if place + need <= middle:
                break
            groups.pop()
            # Two groups that overlap become one, at the mean of what all of them want.
            joined = [*before, *members]
            middle = _mean_place(joined, wanted, widths)
            members = joined
        groups.append((members, middle))
    for members, middle in groups:
        x = middle - _extent(members, widths) / 2
        for name in members:
            at[name] = x + widths[name] / 2
            x += widths[name] + _GAP


def _extent(names: Sequence[str], widths: Mapping[str, float]) -> float:
    return sum(widths[name] for name in names) + _GAP * (len(names) - 1)


def _mean_place(names: Sequence[str], wanted: Mapping[str, float], widths: Mapping[str, float]) -> float:
    whole = _extent(names, widths)
    x, total = 0.0, 0.0
    for name in names:
        total += wanted[name] - (x + widths[name] / 2 - whole / 2)
        x += widths[name] + _GAP
    return total / len(names)


def _width(node: NodeInfo) -> float:
    lines = [_short(node.name), *node.op.split("\n")]
    return max(72.0, 18 + _CHARACTER * max(len(line) for line in lines))


def _short(name: str) -> str:
    """A long name by its last parts, or its middle left out."""
    if len(name) <= _NAME_LENGTH:
        return name
    parts = name.split("/")
    kept = parts[-1]
    for part in reversed(parts[:-1]):
        if len(kept) + len(part) + 3 > _NAME_LENGTH:
            break
        kept = f"{part}/{kept}"
    if len(kept) > _NAME_LENGTH:
        half = (_NAME_LENGTH - 1) // 2
        return f"{kept[:half]}…{kept[-half:]}"
    return f"…/{kept}"


def _edge(points: Sequence[tuple[float, float]], control: bool, back: bool) -> str:
    """An edge through points: from the box above, down one gap after the other, to the box below."""
    dash = ' stroke-dasharray="4 3"' if control or back else ""
    (x1, y1), (x2, y2) = points[0], points[1] if not back else points[-1]
    path = f"M{x1:.1f},{y1:.1f}"
    if back:
        side = max(x1, x2) + 90
        path += f" C{side:.1f},{y1 + 40:.1f} {side:.1f},{y2 - 40:.1f} {x2:.1f},{y2:.1f}"
    for number, (x, y) in enumerate(points[1:] if not back else []):
        before_x, before_y = points[number]
        if number % 2:
            path += f" L{x:.1f},{y:.1f}"
        else:
            bend = (y - before_y) * 0.45
            path += f" C{before_x:.1f},{before_y + bend:.1f} {x:.1f},{y - bend:.1f} {x:.1f},{y:.1f}"
    return f'<path d="{path}" fill="none" stroke="#98a2b3" stroke-width="1.2"{dash} marker-end="url(#tip)"/>'


def _shape_below(node: NodeInfo, x: float, y: float) -> str:
    """What flows out of a box, once, beside the place where its edges begin."""
    shape = "" if node.shape is None else show_shape(node.shape)
    dtype = "" if node.dtype in ("unknown", "float32") else node.dtype
    text = escape(" ".join(part for part in (dtype, shape) if part))
    if not text:
        return ""
    label = f'<text x="{x + 7:.1f}" y="{y + 13:.1f}" font-size="9.5"'
    # A white rim behind the text, drawn by itself: not every viewer can paint a rim under its own text.
    rim = f'{label} fill="none" stroke="#ffffff" stroke-width="3">{text}</text>'
    return f'{rim}{label} fill="#475467">{text}</text>'


def _box(node: NodeInfo, x: float, y: float, width: float, height: float, panel: Panel) -> str:
    why = panel.marked.get(node.name)
    fill, stroke, weight = ("#fef0c7", "#dc6803", 2.2) if why is not None else ("#f2f4f7", "#98a2b3", 1)
    if why is None and node.op.split("\n")[0].startswith(("Placeholder", "Input")):
        fill, stroke = "#d1e9ff", "#1570ef"
    dash = ' stroke-dasharray="5 3"' if node.name in panel.cut and why is None else ""
    shape = "unknown shape" if node.shape is None else show_shape(node.shape)
    told = "\n".join([node.name, node.op.replace("\n", "  "), f"{node.dtype} {shape}", why or ""]).strip()
    middle = x + width / 2
    rectangle = (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="5" fill="{fill}" '
        f'stroke="{stroke}" stroke-width="{weight}"{dash}/>'
    )
    label = f'<text x="{middle:.1f}" y="{y + 15:.1f}" text-anchor="middle" fill="#101828">'
    name = f"{label}{escape(_short(node.name))}</text>"
    lines = [f"<g><title>{escape(told)}</title>", rectangle, name]
    for number, line in enumerate(node.op.split("\n")):
        style = 'font-weight="bold" fill="#344054"' if number == 0 else 'font-size="10" fill="#667085"'
        lines.append(
            f'<text x="{middle:.1f}" y="{y + 15 + _LINE * (number + 1):.1f}" text-anchor="middle" '
            f"{style}>{escape(line)}</text>"
        )
    return "".join([*lines, "</g>"])


def escape(text: str) -> str:
    """Text for XML: markup becomes text, and characters that XML cannot hold become ``?``."""
    return _escape("".join(c if _is_xml(ord(c)) else "?" for c in text))


def _is_xml(code: int) -> bool:
    return code in (9, 10, 13) or 0x20 <= code < 0xD800 or 0xE000 <= code < 0xFFFE or code > 0xFFFF


def show_shape(shape: Shape) -> str:
    """A shape for people: ``?×224×224×3``."""
    return "×".join("?" if size is None else str(size) for size in shape) or "scalar"
