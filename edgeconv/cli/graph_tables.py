"""How layers and nodes look on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from edgeconv.cli.options import plain
from edgeconv.cli.tables import console_for_tables, show_count, show_shape, table_with

if TYPE_CHECKING:
    from edgeconv.formats.layers import LayerInfo
    from edgeconv.formats.nodes import NodeInfo


def print_layers(layers: Sequence[LayerInfo]) -> None:
    """Each layer with what training would move of it, and the sums."""
    console = console_for_tables()
    table = table_with("layer", "class", ">parameters", "training")
    for layer in layers:
        table.add_row(
            Text(plain(layer.name or "(no scope)"), style="bold"),
            Text(plain(layer.kind)),
            show_count(layer.parameters) if layer.parameters is None or layer.parameters else "",
            _training(layer),
        )
    console.print(table)
    known = [layer for layer in layers if layer.parameters is not None]
    total = sum(layer.parameters or 0 for layer in known)
    moved = [layer.trainable_parameters for layer in known]
    said = "" if None in moved else f", of which {show_count(sum(m or 0 for m in moved))} are trainable"
    console.print(f"{len(layers)} layers with {show_count(total)} parameters{said}")


def print_nodes(nodes: Sequence[NodeInfo]) -> None:
    """Each node by the name that --inputs, --outputs and --at take, with its op and output shape."""
    console = console_for_tables()
    table = table_with("node", "op", "dtype", "shape")
    for node in nodes:
        shape = "" if node.shape is None else show_shape(node.shape)
        table.add_row(Text(plain(node.name), style="bold"), Text(plain(node.op)), Text(node.dtype), shape)
    console.print(table)


def _training(layer: LayerInfo) -> Text:
    if layer.parameters == 0:
        return Text("frozen" if layer.trainable is False else "", style="dim")
    if layer.trainable is None:
        return Text("not said", style="dim")
    if not layer.trainable or layer.trainable_parameters == 0:
        return Text("frozen", style="cyan")
    if layer.trainable_parameters is not None and layer.trainable_parameters != layer.parameters:
        return Text(f"trainable, but {show_count((layer.parameters or 0) - layer.trainable_parameters)}")
    return Text("trainable", style="green")
