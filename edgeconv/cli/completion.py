"""``edgeconv completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from edgeconv.cli.options import example


@click.command(
    "completion",
    epilog=example(
        'eval "$(edgeconv completion bash)"      # in ~/.bashrc; zsh in ~/.zshrc alike',
        "edgeconv completion fish | source       # in ~/.config/fish/config.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the shell completion script."""
    from edgeconv.cli.main import group

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(kind(group, {}, "edgeconv", "_EDGECONV_COMPLETE").source())
