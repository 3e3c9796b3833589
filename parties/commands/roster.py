"""`beaver roster`: build the roster that all members share, sign it, and replace keys in it.

A roster that nobody signed is changed in place.  A roster that somebody signed stays as it is: every change makes the next version, in a
file of its own, so that all members can sign it while their nodes still use the old one.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mpc.config import load_config
from mpc.errors import ConfigError
from mpc.membership import roster_file
from mpc.membership.endpoints import parse_relay
from mpc.membership.identity import Identity, spoken
from mpc.membership.members import Content, Member, Revoked, Transport, minute
from mpc.membership.roster import Roster
from parties.commands import roster_files as files
from parties.commands.roster_table import as_json_object, changes, table

if TYPE_CHECKING:
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
    if not sources and not files.is_there(roster):
        msg = f"{roster}: is not there yet, and no member was given to make it of; name the files that `beaver init` wrote at the members"
        raise ConfigError(msg)
    given = [member for source in sources or () for member in _fragment(source)]
    with files.changing(roster):
        content, signatures = files.read(roster) if files.is_there(roster) else (Content(), {})
        before = content
        for member in given:
            content = _with(content, member)
        if relay is not None:
            content = replace(content, relay=parse_relay(relay))
        if transport is not None:
            content = replace(content, transport=transport)
        if files.is_there(roster) and set(content.members) == set(before.members) and replace(content, members=before.members) == before:
            print(f"{roster} says all that already; nothing was written", file=sys.stderr)
            return
        files.save(roster, content, signatures)


def _fragment(source: str) -> tuple[Member, ...]:
    text, name = files.text_of(source)
    return roster_file.read(text, name)[0].members


def _with(content: Content, member: Member) -> Content:
    """Return `content` with `member`, which may replace its own entry but not its key."""
    for known in content.members:
        if known.name == member.name and known.public != member.public:
            msg = (
                f"{member.name} is in the roster with another key ({spoken(known.public)}); it changes its own with `beaver roster "
                "rotate`, or somebody who cannot use the old one any more with `beaver roster revoke --new`"
            )
            raise ConfigError(msg)
    return _in_place_of(content, member.name, member)


def _in_place_of(content: Content, name: str, *members: Member) -> Content:
    """Return `content` with these members in place of the member `name`."""
    return replace(content, members=(*(each for each in content.members if each.name != name), *members))


@app.command()
def remove(roster: RosterFile, name: Annotated[str, typer.Argument(help="The member that leaves.")]) -> None:
    """Take a member out.  Its key is not revoked: it may come back with it."""
    with files.changing(roster):
        content, signatures = files.read(roster)
        files.find(content, name)
        files.save(roster, _in_place_of(content, name), signatures)


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
    with files.changing(roster):
        content, signatures = files.read(roster)
        files.save(roster, _without(content, name, reason, given, retiring=retiring), signatures)


def _without(content: Content, name: str, reason: str, given: tuple[Member, ...], *, retiring: bool) -> Content:
    """Return `content` without the keys of `name`, or only without its retiring key; `given` is the entry with which it comes back."""
    member = files.find(content, name)
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
    with files.changing(source):
        key, path, retires = _rotated(settings, source, days)
    print(
        f"The new key is in {key}. When all members use {path}, and before {minute(retires)}, set `key` to it in {config} and "
        "restart the node; then move the old key away. Until then, sign further versions with `beaver roster sign --key` and that file.",
        file=sys.stderr,
    )


def _rotated(settings: PartyConfig, source: Path, days: int) -> tuple[Path, Path, datetime]:
    """Make a new key.  Return its file, the roster with both keys, and when the old key retires."""
    content, signatures = files.read(source)
    old, member = settings.identity(), files.find(content, settings.name)
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
        path, known = files.save(source, after, signatures, fresh)
    except ConfigError:
        key.unlink()
        raise
    if known is not None:
        files.say_signed(path, known, settings.name)
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
    files.warn(known)


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
        msg = (
            f"{roster}: version {known.content.version} is not signed by {', '.join(known.unsigned)}; get their lines "
            "and `beaver roster accept` them"
        )
        raise ConfigError(msg)
    print(f"{roster}: version {known.content.version}, digest {known.digest.hex()}, is signed by all {len(known.members)} members")
    files.warn(known)


def _follows(path: Path, after: Roster, before: Roster, source: Path) -> None:
    if (after.content.version, after.content.previous) != (before.content.version + 1, before.digest):
        msg = (
            f"{path}: version {after.content.version} was not made from {source} (version "
            f"{before.content.version}, digest {before.digest.hex()})"
        )
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
    with files.changing(path):
        known = Roster.load(path)
        files.sign(path, known, identity)
        files.write(path, known.dump(), new=False)
    files.say_signed(path, known, identity.name)


@app.command()
def accept(roster: RosterFile, sources: Annotated[list[str], typer.Argument(metavar="FILE_OR_LINES...", help=SOURCES)]) -> None:
    """Put the signatures that other members sent into a roster."""
    given: list[tuple[str, bytes]] = []
    for source in sources:
        text, name = files.text_of(source)
        signatures = roster_file.read_signatures(text, name)
        if not signatures:
            msg = f"{name}: holds no signature; ask for the line that `beaver roster sign` printed at the other member"
            raise ConfigError(msg)
        given += signatures.items()
    with files.changing(roster):
        known = Roster.load(roster)
        for who, signature in given:
            known.accept(who, signature)
        files.write(roster, known.dump(), new=False)
    print(f"Still missing: {', '.join(known.unsigned)}." if known.unsigned else "All members have signed.", file=sys.stderr)


__all__ = ["app"]
