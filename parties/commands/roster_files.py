"""The roster files that commands read and write: one command at a time, complete files only, and a next version beside a signed one."""

from __future__ import annotations

import re
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mpc import durable
from mpc.errors import ConfigError
from mpc.membership import roster_file
from mpc.membership.roster import NO_DEALER, Roster, read_text
from mpc.membership.toml_text import did_you_mean, undecodable
from parties.turns import in_turn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpc.membership.identity import Identity
    from mpc.membership.members import Content, Member


@contextmanager
def changing(roster: Path) -> Iterator[None]:
    """Keep other commands from changing a roster of this folder meanwhile."""
    with in_turn(roster.parent) as fault:
        # A missing folder is reported where the roster is written.
        if fault is not None and roster.parent.is_dir() and sys.platform != "win32":
            print(
                f"Beware: {roster.parent} cannot be locked ({fault.strerror}); let no other command change {roster} now.", file=sys.stderr
            )
        yield


def text_of(source: str) -> tuple[str, str]:
    """Return the text that an argument stands for, and its name in errors."""
    name = "standard input" if source == "-" else source
    if source != "-" and "=" in source and not is_there(Path(source)):
        return source, "the lines"
    try:
        return (sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()).decode("utf-8-sig"), name
    except UnicodeDecodeError as fault:
        raise undecodable(name, fault) from None
    except OSError as fault:
        msg = (
            f"{name}: cannot be read ({fault.strerror}); give a file of lines that a member sent, these lines "
            "themselves, or - for standard input"
        )
        raise ConfigError(msg) from None


def is_there(path: Path) -> bool:
    """Return whether there is such a file, as far as this user may know."""
    try:
        return path.exists()
    except OSError:
        # The lines are longer than a name may be, or the folder is closed to this user: the error comes when it is read or written.
        return False


def read(path: Path) -> tuple[Content, dict[str, bytes]]:
    """Return the contents of a roster file, and its signatures.  The roster need not be complete yet."""
    return roster_file.read(read_text(path), str(path))


def find(content: Content, name: str) -> Member:
    """Return the member `name`.  Raises ConfigError, which names the closest one, if there is none."""
    for member in content.members:
        if member.name == name:
            return member
    msg = f"{name!r} is not in the roster; {did_you_mean(name, [member.name for member in content.members])}"
    raise ConfigError(msg)


def save(path: Path, content: Content, signatures: dict[str, bytes], signer: Identity | None = None) -> tuple[Path, Roster | None]:
    """Write a roster, signed by `signer`: in place while nobody has signed it, otherwise as the next version beside it.

    Return its path, and the roster; None while it has fewer than two parties, since it is no roster yet.
    """
    if signatures:
        before, _ = read(path)
        content = replace(content, version=before.version + 1, previous=before.digest)
        path = path.with_name(f"{re.sub(r'[.]v[0-9]+$', '', path.stem)}.v{content.version}{path.suffix}")
    parties = sum(member.role == "party" for member in content.members)
    first = content.version == 1 and parties < 2
    try:
        roster = None if first else Roster.of(content)
    except ConfigError as fault:
        msg = f"{path}: {fault}"
        raise ConfigError(msg) from None
    if roster is not None and signer is not None:
        sign(path, roster, signer)
    write(path, roster_file.write(content, {}) if roster is None else roster.dump(), new=bool(signatures))
    if roster is None:
        print(f"Wrote {path}; a roster needs at least two parties.", file=sys.stderr)
    else:
        print(
            f"Wrote {path}: version {content.version}, digest {roster.digest.hex()}. Every member looks at it, signs it, "
            "and sends its line to all others.",
            file=sys.stderr,
        )
        warn(roster)
    return path, roster


def warn(roster: Roster) -> None:
    """Report, before members sign a roster, what keeps jobs from running."""
    if roster.dealer is None:
        print(f"Beware: {NO_DEALER}.", file=sys.stderr)


def write(path: Path, text: str, *, new: bool) -> None:
    """Write a complete file or none: a roster that is cut off would be another roster."""
    write = durable.create if new else durable.replace
    try:
        write(path, text.encode(), durable.PUBLIC)
    except FileExistsError:
        msg = f"{path}: exists already, and nothing was written; it is another next version. Change that one, or move it away"
        raise ConfigError(msg) from None
    except OSError as fault:
        raise durable.unwritable(path, fault) from None


def sign(path: Path, roster: Roster, identity: Identity) -> None:
    """Add the signature of `identity`.  ConfigError names the file."""
    try:
        roster.accept(identity.name, roster.sign(identity))
    except ConfigError as fault:
        msg = f"{path}: {fault}"
        raise ConfigError(msg) from None


def say_signed(path: Path, roster: Roster, name: str) -> None:
    """Print the line that the other members need, and who has not signed yet."""
    print(roster_file.signature_line(name, roster.signatures[name]))
    print(
        f"Signed {path}: version {roster.content.version}, digest {roster.digest.hex()}. Send the printed line to all other members.\n"
        + (f"Still missing: {', '.join(roster.unsigned)}." if roster.unsigned else "All members have signed."),
        file=sys.stderr,
    )
    warn(roster)


__all__ = ["changing", "find", "is_there", "read", "save", "say_signed", "sign", "text_of", "warn", "write"]
