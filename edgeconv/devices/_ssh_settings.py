"""What the file of devices may say of a board over SSH."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1024)]


class SshSettings(BaseModel):
    """Settings of ``kind: ssh``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    host: Annotated[str, StringConstraints(pattern=r"^[^\s-][^\s]*$", max_length=255)]
    """As ``ssh`` takes it: ``USER@HOST``, or a name of ``~/.ssh/config``."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    identity: _Text | None = None
    """File of the key here, where ``ssh`` does not know it."""
    config: _Text | None = None
    """File in place of ``~/.ssh/config``."""
    python: _Text | None = None
    """Python on the board, a path, a name, or the folder of a virtual environment."""
    runtimes: dict[str, _Text] = Field(default_factory=dict)
    """Runtime (``tflite-runtime``, ``onnxruntime==1.16.3``) to the Python that has it."""
    store: _Text | None = None
    """Folder on the board for what is sent."""
    target: _Text | None = None
    """Name of the target that it is."""
