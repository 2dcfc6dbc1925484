"""Which modules the process has imported that a worker is forked from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_OWN = "edgeconv.preload.stages"
_HEAVY = "tensorflow"
_LEAN = "edgeconv.preload.tensorflow"


def worker_modules(preload: Sequence[str], together: Iterable[Sequence[str]] = ()) -> tuple[str, ...]:
    """The modules to import before forking, for a stage that states ``preload``.

    Args:
        preload: what an arrow or a runtime states.
        together: what else the same run will need. All that needs TensorFlow shares one process, because a
            second one would import it a second time.
    """
    wanted = dict.fromkeys(preload)
    if _HEAVY in wanted:
        for other in together:
            if _HEAVY in other:
                wanted.update(dict.fromkeys(other))
    modules = [_LEAN if module == _HEAVY else module for module in sorted(wanted, key=lambda m: m != _HEAVY)]
    return (*modules, _OWN)
