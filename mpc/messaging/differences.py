"""Which member describes a job differently from the others, and in which keys."""

from __future__ import annotations

from typing import Any, NamedTuple

MAX_SHOWN, MAX_LISTED = 200, 20


def _differing(usual: dict[str, Any], odd: dict[str, Any]) -> list[str]:
    """The keys in which two descriptions differ, with the keys of the terms in place of `terms`. Either may be whatever a member sent."""
    keys = sorted(str(key) for key in usual.keys() | odd.keys() if usual.get(key) != odd.get(key))
    if "terms" in keys and isinstance(usual.get("terms"), dict) and isinstance(odd.get("terms"), dict):
        at = keys.index("terms")
        keys[at : at + 1] = _differing(usual["terms"], odd["terms"])
    return [(key if key.isprintable() else repr(key))[:MAX_SHOWN] for key in keys[:MAX_LISTED]]


class Odd(NamedTuple):
    """A difference: the member whose description the fewest parties share, one that does not share it, and the keys that differ."""

    name: str
    usual: str
    differs: list[str]


def odd_one(members: tuple[str, ...], me: str, said: dict[str, dict[str, Any]]) -> Odd | None:
    """The odd member, or None if all agree. If only two disagree, it is the other one. The dealer takes its description from the party
    that it heard of first.
    """
    *parties, dealer = members
    shared = {name: sum(said[party] == said[name] for party in parties) for name in parties}
    odd = min(parties, key=lambda name: (shared[name], name == me, said[name] == said[me]))
    usual = max((name for name in parties if said[name] != said[odd]), key=lambda name: shared[name], default=None)
    if usual is not None:
        return Odd(odd, usual, _differing(said[usual], said[odd]))
    # All parties agree: one has joined anew since the dealer heard of it.
    return None if said[dealer] == said[odd] else Odd(dealer, odd, _differing(said[odd], said[dealer]))
