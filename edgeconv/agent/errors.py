"""What the agent says when something is wrong; the host turns ``kind`` into an error of its own."""

from __future__ import annotations

KINDS = ("usage", "unavailable", "refused", "space", "memory", "defect")
"""``usage``: the request is wrong; ``unavailable``: something is not on the device; ``refused``: the
runtime refuses the model; ``space``: the disk is full; ``memory``: there is not enough; ``defect``: the
agent's own."""


class AgentError(Exception):
    """An error with the kind, what happened and what may help."""

    def __init__(self, kind: str, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.kind = kind
        self.what = what
        self.hint = hint
