"""Where the command `beaver` starts: nothing heavy is imported before an interrupt is handled."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line; Ctrl-C at any moment ends with status 130 and no traceback."""
    try:
        # What imports make stays: to look for garbage among it would take a fifth of the start.
        gc.disable()
        from parties.cli import main as command  # noqa: PLC0415  imports take most of a second

        gc.freeze()
        gc.enable()
        command()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
