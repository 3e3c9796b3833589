"""`beaver roster`: build the roster that all members share, sign it, and replace keys in it.

A roster that nobody signed is changed in place.  One that somebody signed stays as it is: every change of it is the next version, in a
file of its own, so that all members can sign it while their nodes still use the old one.
"""

from __future__ import annotations

import re
import sys
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mpc import durable
from mpc.config import load_config
from mpc.errors import ConfigError
from mpc.membership import roster_file
from mpc.membership.endpoints import parse_relay
from mpc.membership.identity import Identity, spoken
from mpc.membership.members import Content, Member, Revoked, Transport, minute
from mpc.membership.roster import NO_DEALER, Roster, read_text
from mpc.membership.toml_text import did_you_mean
from parties.commands.roster_table import as_json_object, changes, table
from parties.turns import in_turn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpc.config import PartyConfig

app = typer.Typer(no_args_is_help=True, help="Build, sign and change the roster that all members share.")

RosterFile = Annotated[Path, typer.Argument(readable=False, metavar="ROSTER", help="The roster file.")]
Config = Annotated[Path, typer.Option("--config", "-c", readable=False, help="This organisation's configuration file.")]
SOURCES = "Files, the lines themselves, or - for standard input."


@app.command()
def add(
    roster: RosterFile,
    sources: Annotated[list[str] | None, typer.Argument(metavar="FILE_OR_LINES...", help=SOURCES)] = None,
    relay: Annotated[str | None, typer.Option(metavar="URL", help="The MQTT broker, mqtts://HOST:PORT.")] = None,
    transport: Annotated[Transport | None, typer.Option(help="How members speak that do not say it themselves.")] = None,
) -> None:
    """Put members into a roster, from the public lines that they sent, or the broker; the file is made if it is not there."""
    if not sources and not _is_there(roster):
        msg = f"{roster}: is not there yet, and no member was given to make it of; name the files that `beaver init` wrote at the members"
        raise ConfigError(msg)
    given = [member for source in sources or () for member in _fragment(source)]
    with _changing(roster):
        content, signatures = _read(roster) if _is_there(roster) else (Content(), {})
        before = content
        for member in given:
            content = _with(content, member)
        if relay is not None:
            content = replace(content, relay=parse_relay(relay))
        if transport is not None:
            content = replace(content, transport=transport)
        if _is_there(roster) and set(content.members) == set(before.members) and replace(content, members=before.members) == before:
            print(f"{roster} says all that already; nothing was written", file=sys.stderr)
            return
        _save(roster, content, signatures)


def _fragment(source: str) -> tuple[Member, ...]:
    text, name = _text(source)
    return roster_file.read(text, name)[0].members


def _with(content: Content, member: Member) -> Content:
    """`content` and `member`, which may replace itself but not its key."""
    for known in content.members:
        if known.name == member.name and known.public != member.public:
            msg = (
                f"{member.name} is in the roster with another key ({spoken(known.public)}); it changes its own with `beaver roster rotate`, "
                "or somebody who cannot use the old one any more with `beaver roster revoke --new`"
            )
            raise ConfigError(msg)
    return _in_place_of(content, member.name, member)


def _in_place_of(content: Content, name: str, *members: Member) -> Content:
    """`content` with these in place of the member `name`."""
    return replace(content, members=(*(each for each in content.members if each.name != name), *members))


@app.command()
def remove(roster: RosterFile, name: Annotated[str, typer.Argument(help="The member that leaves.")]) -> None:
    """Take a member out.  Its key is not revoked: it may come back with it."""
    with _changing(roster):
        content, signatures = _read(roster)
        _find(content, name)
        _save(roster, _in_place_of(content, name), signatures)


@app.command()
def revoke(
    roster: RosterFile,
    name: Annotated[str, typer.Argument(help="Whose key must not be used again.")],
    reason: Annotated[str, typer.Option(help="Why; the others see it.")],
    retiring: Annotated[bool, typer.Option(help="Only the key that another one already replaces.")] = False,  # noqa: FBT002
    new: Annotated[str | None, typer.Option(metavar="FILE_OR_LINES", help="Its public lines with a new key; without, it leaves.")] = None,
) -> None:
    """Forbid a member's keys for ever, because somebody else may have them."""
    given = _fragment(new) if new is not None else ()
    with _changing(roster):
        content, signatures = _read(roster)
        _save(roster, _without(content, name, reason, given, retiring=retiring), signatures)


def _without(content: Content, name: str, reason: str, given: tuple[Member, ...], *, retiring: bool) -> Content:
    """`content` without the keys of `name`, or only its retiring one; `given` is what it comes back with."""
    member = _find(content, name)
    if retiring and (member.retiring is None or given):
        msg = f"{name} has no retiring key, or --new was given too; leave out --retiring to revoke all its keys"
        raise ConfigError(msg)
    for each in given:
        if each.name != name:
            msg = f"--new describes {each.name}, not {name}; give the public lines of {name}"
            raise ConfigError(msg)
    spoilt = member.publics[1:] if retiring else member.publics
    back = (replace(member, retiring=None, retires=None),) if retiring else given
    why, today = roster_file.one_line(reason), datetime.now(UTC).date()
    listed = (*content.revoked, *(Revoked(name, public, why, today) for public in spoilt))
    return replace(_in_place_of(content, name, *back), revoked=listed)


@app.command()
def rotate(
    config: Config,
    roster: Annotated[
        Path | None, typer.Option(readable=False, help="Another file than the configuration's, such as a next version that nobody signed.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long the old key stays valid beside the new one.")] = 30,
) -> None:
    """Make a new key for this organisation and a roster in which both are valid for some days; sign that with the new one.

    Until the old key retires, set `key` in the configuration to the new file, and restart the node.
    """
    settings = load_config(config)
    source = roster or settings.roster_path
    with _changing(source):
        key, path, retires = _rotated(settings, source, days)
    print(
        f"The new key is in {key}. When all members use {path}, and before {minute(retires)}, set `key` to it in {config} and "
        "restart the node; then move the old key away. Until then, sign further versions with `beaver roster sign --key` and that file.",
        file=sys.stderr,
    )


def _rotated(settings: PartyConfig, source: Path, days: int) -> tuple[Path, Path, datetime]:
    """The new key's file, the roster with both keys, and when the old one retires."""
    content, signatures = _read(source)
    old, member = settings.identity(), _find(content, settings.name)
    if old.public != member.public:
        msg = f"{source}: {settings.name} uses another key there than this one; rotate from the key that the roster names first"
        raise ConfigError(msg)
    fresh = Identity.generate(settings.name)
    retires = (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)
    changed = replace(member, public=fresh.public, retiring=old.public, retires=retires)
    after = _in_place_of(content, settings.name, changed)
    key = settings.folder / f"{settings.name}.{fresh.public.hex()[:8]}.key"
    fresh.save(key)
    try:
        # Signed before it is written: the file that names the new key is the last thing that can fail.
        path, known = _save(source, after, signatures, fresh)
    except ConfigError:
        key.unlink()
        raise
    if known is not None:
        _say_signed(path, known, settings.name)
    return key, path, retires


@app.command()
def show(
    roster: RosterFile,
    previous: Annotated[
        Path | None, typer.Option(readable=False, help="The version before, from which this one must be made: also show what has changed.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,  # noqa: FBT002
) -> None:
    """Show members, fingerprints, version, digest and who has signed; and what has changed since the version before."""
    known, before = Roster.load(roster), None
    if previous is not None:
        _follows(roster, known, before := Roster.load(previous), previous)
    if as_json:
        print(as_json_object(known, before))
    else:
        table(known)
        for line in changes(before, known) if before is not None else ():
            print(f"changed   {line}")
    _warn(known)


@app.command()
def verify(
    roster: RosterFile,
    previous: Annotated[
        Path | None, typer.Option(readable=False, help="The version before: is this one made from it, with all that was revoked?")
    ] = None,
) -> None:
    """Check that a roster is well-formed, signed by every member, and made from the version before it."""
    known = Roster.load(roster)
    if previous is not None:
        _follows(roster, known, Roster.load(previous), previous)
    if known.unsigned:
        msg = f"{roster}: version {known.content.version} is not signed by {', '.join(known.unsigned)}; get their lines and `beaver roster accept` them"
        raise ConfigError(msg)
    print(f"{roster}: version {known.content.version}, digest {known.digest.hex()}, is signed by all {len(known.members)} members")
    _warn(known)


def _follows(path: Path, after: Roster, before: Roster, source: Path) -> None:
    if (after.content.version, after.content.previous) != (before.content.version + 1, before.digest):
        msg = f"{path}: version {after.content.version} was not made from {source} (version {before.content.version}, digest {before.digest.hex()})"
        raise ConfigError(msg)
    forgotten = [each.name for each in before.content.revoked if each not in after.content.revoked]
    if forgotten:
        msg = f"{path}: no longer lists the revoked keys of {', '.join(forgotten)} that {source} lists; a key is revoked for ever"
        raise ConfigError(msg)


@app.command()
def sign(
    config: Config,
    roster: Annotated[
        Path | None, typer.Option(readable=False, help="Another file than the configuration's, such as the next version.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(readable=False, help="Another file than the configuration's: the new key, while the node still uses the old one."),
    ] = None,
) -> None:
    """Sign the roster with this organisation's key, and print the line for the other members.

    Look at it first (`beaver roster show`): whoever signs says that these are the right members with the right keys.
    """
    settings = load_config(config)
    path = roster or settings.roster_path
    signer = settings if key is None else settings.model_copy(update={"key": str(key.absolute())})
    identity = signer.identity()
    with _changing(path):
        known = Roster.load(path)
        _sign(path, known, identity)
        _write(path, known.dump(), new=False)
    _say_signed(path, known, identity.name)


def _sign(path: Path, roster: Roster, identity: Identity) -> None:
    try:
        roster.accept(identity.name, roster.sign(identity))
    except ConfigError as fault:
        msg = f"{path}: {fault}"
        raise ConfigError(msg) from None


def _say_signed(path: Path, roster: Roster, name: str) -> None:
    print(roster_file.signature_line(name, roster.signatures[name]))
    print(
        f"Signed {path}: version {roster.content.version}, digest {roster.digest.hex()}. Send the printed line to all other members.\n"
        + (f"Still missing: {', '.join(roster.unsigned)}." if roster.unsigned else "All members have signed."),
        file=sys.stderr,
    )
    _warn(roster)


@app.command()
def accept(roster: RosterFile, sources: Annotated[list[str], typer.Argument(metavar="FILE_OR_LINES...", help=SOURCES)]) -> None:
    """Put the signatures that other members sent into a roster."""
    given: list[tuple[str, bytes]] = []
    for source in sources:
        text, name = _text(source)
        signatures = roster_file.read_signatures(text, name)
        if not signatures:
            msg = f"{name}: holds no signature; ask for the line that `beaver roster sign` printed at the other member"
            raise ConfigError(msg)
        given += signatures.items()
    with _changing(roster):
        known = Roster.load(roster)
        for who, signature in given:
            known.accept(who, signature)
        _write(roster, known.dump(), new=False)
    print(f"Still missing: {', '.join(known.unsigned)}." if known.unsigned else "All members have signed.", file=sys.stderr)


# -- files -----------------------------------------------------------------------------------------------------------


@contextmanager
def _changing(roster: Path) -> Iterator[None]:
    """No other command changes a roster beside this one meanwhile."""
    with in_turn(roster.parent) as fault:
        # A folder that is not there is told where it is written into.
        if fault is not None and roster.parent.is_dir() and sys.platform != "win32":
            print(
                f"Beware: {roster.parent} cannot be locked ({fault.strerror}); let no other command change {roster} now.", file=sys.stderr
            )
        yield


def _text(source: str) -> tuple[str, str]:
    """What an argument stands for, and its name in errors."""
    name = "standard input" if source == "-" else source
    if source != "-" and "=" in source and not _is_there(Path(source)):
        return source, "the lines"
    try:
        return (sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()).decode(), name
    except (OSError, UnicodeDecodeError) as fault:
        why = getattr(fault, "strerror", None) or "it is not UTF-8 text"
        msg = f"{name}: cannot be read ({why}); give a file of lines that a member sent, these lines themselves, or - for standard input"
        raise ConfigError(msg) from None


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # Lines that are longer than a name may be, or a folder that is closed to this user: whoever reads or writes there says so.
        return False


def _read(path: Path) -> tuple[Content, dict[str, bytes]]:
    return roster_file.read(read_text(path), str(path))


def _find(content: Content, name: str) -> Member:
    for member in content.members:
        if member.name == name:
            return member
    msg = f"{name!r} is not in the roster; {did_you_mean(name, [member.name for member in content.members])}"
    raise ConfigError(msg)


def _save(path: Path, content: Content, signatures: dict[str, bytes], signer: Identity | None = None) -> tuple[Path, Roster | None]:
    """Write what a roster says now, signed by `signer`: in place while nobody has signed it, as the next version beside it otherwise.

    Where it is, and the roster; None while it has fewer than two parties, since then it is none yet.
    """
    if signatures:
        before, _ = _read(path)
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
        _sign(path, roster, signer)
    _write(path, roster_file.write(content, {}) if roster is None else roster.dump(), new=bool(signatures))
    if roster is None:
        print(f"Wrote {path}; a roster needs at least two parties.", file=sys.stderr)
    else:
        print(
            f"Wrote {path}: version {content.version}, digest {roster.digest.hex()}. Every member looks at it, signs it, and sends its line to all others.",
            file=sys.stderr,
        )
        _warn(roster)
    return path, roster


def _warn(roster: Roster) -> None:
    """Say what keeps jobs from running, before members sign it."""
    if roster.dealer is None:
        print(f"Beware: {NO_DEALER}.", file=sys.stderr)


def _write(path: Path, text: str, *, new: bool) -> None:
    """A whole file or none: a roster that is cut off would be another roster."""
    write = durable.create if new else durable.replace
    try:
        write(path, text.encode(), durable.PUBLIC)
    except FileExistsError:
        msg = f"{path}: exists already, and nothing was written; it is another next version. Change that one, or move it away"
        raise ConfigError(msg) from None
    except OSError as fault:
        msg = f"{path}: cannot be written ({fault.strerror}); make room, or choose another place"
        raise ConfigError(msg) from None


__all__ = ["app"]
