"""Where the command `beaver` starts: nothing heavy is imported before an interrupt is handled."""

from __future__ import annotations

import gc
import os
import sys


def stand_in_for_closed_streams() -> None:
    """Open what the caller closed of the three standard streams on nothing: else the first socket would take its number, and be printed to."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest number that is free, and so just this one.
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def main() -> None:
    """Run the command line; Ctrl-C at any moment ends with status 130 and no traceback."""
    stand_in_for_closed_streams()
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
