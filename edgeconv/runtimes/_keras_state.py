"""Recurrent layers that keep their state between calls begin each call anew here.

``stateful=True`` lets a layer go on where the last batch ended, until ``reset_states()``. No artifact for a
device holds such a state, and a reference that changes with each call proves nothing. What a model gives
after ``reset_states()`` is what it gives with ``stateful=False``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any


def stateful_layers(model: Any) -> list[Any]:
    """The recurrent layers of a Keras model (either Keras) that keep their state between calls."""
    walk = getattr(model, "_flatten_layers", None)
    if walk is None:
        return []
    return [
        layer
        for layer in walk()
        if (hasattr(layer, "cell") or hasattr(layer, "forward_layer")) and getattr(layer, "stateful", False)
    ]


@contextlib.contextmanager
def stateless(layers: Sequence[Any]) -> Iterator[None]:
    """Lets layers begin with their initial state inside of this; the model itself stays what it is."""
    for layer in layers:
        layer.stateful = False
    try:
        yield
    finally:
        for layer in layers:
            layer.stateful = True


def about_state(layers: Sequence[Any]) -> tuple[str, ...]:
    """What a person has to know of a model with such layers; empty where there are none."""
    if not layers:
        return ()
    names = ", ".join(repr(str(layer.name)) for layer in layers[:4])
    note = (
        f"the layers {names} keep their state between calls (stateful=True): here each call begins with the "
        "initial state, as after reset_states(); to carry the state on, export a model that takes and gives "
        "it (return_state=True, initial_state=…)"
    )
    return (note,)
