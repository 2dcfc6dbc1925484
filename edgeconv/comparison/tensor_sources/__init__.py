"""One file a format: how to see the tensors inside a model while it runs. Constant ``SOURCE``."""

from __future__ import annotations
