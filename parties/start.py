"""Where the command `beaver` starts: nothing heavy is imported before an interrupt is handled."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys

NODES = ("party", "dealer")
"""Commands whose process rereads its files on SIGHUP."""


def stand_in_for_closed_streams() -> None:
    """Open the null device for each closed standard stream: otherwise the first socket would take its number, and be printed to."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            # This opens the lowest free number, which is `number`.
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def escape_what_cannot_be_shown() -> None:
    """Let standard output escape characters that its encoding lacks, as standard error does, instead of failing with a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def hold_hangups() -> None:
    """Hold SIGHUP until `run.hangups`: a node that is asked to reread its files while it starts then still hears it."""
    if sys.platform != "win32" and sys.argv[1:2] and sys.argv[1] in NODES:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])


def hear_stops() -> None:
    """Let SIGTERM end this process as Ctrl-C does until `run` handles it: by default it does not end the first process of a container."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def main() -> None:
    """Run the command line; Ctrl-C or SIGTERM at any moment ends it with status 130 and no traceback."""
    stand_in_for_closed_streams()
    escape_what_cannot_be_shown()
    hold_hangups()
    hear_stops()
    try:
        # What imports make stays: collecting garbage among it would take a fifth of the start.
        gc.disable()
        from parties.cli import main as command  # noqa: PLC0415  imports take most of a second

        gc.freeze()
        gc.enable()
        command()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
