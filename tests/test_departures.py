"""Why a session ended is the same at every member, whoever tells it first (invariants 25, 27)."""

from __future__ import annotations

import pytest

from mpc import Disagreement, PeerLost, PeerMisbehaved, PrecisionError
from mpc.messaging.departure import Departure, departure, reported
from mpc.messaging.exchange import Exchange
from mpc.testing import simulate

MEMBERS = ["p0", "p1", "p2", "the-dealer"]


@pytest.mark.parametrize(
    ("fault", "reason", "party"),
    [
        (PeerLost("p1", "x 4711"), "lost", "p1"),
        (Disagreement("p1", "x 4711"), "disagreement", "p1"),
        (PeerMisbehaved("p1", "x 4711"), "misbehaved", "p1"),
        (PrecisionError("x 4711"), "program", "p0"),
        (ValueError("x 4711"), "program", "p0"),
    ],
)
def test_what_is_told_comes_from_fixed_lists(fault, reason, party):
    assert departure(fault, "p0", "mean.0") == Departure(reason, party, "p0", "mean.0")


def test_first_hand_and_second_hand_word_of_a_program_that_raised_are_equal():
    told = Departure("program", "p1", "p1", "mean.0")
    texts = {str(reported(teller, told, "p2", MEMBERS)) for teller in ("p1", "p0", "the-dealer")}
    assert texts == {"p1: left at mean.0: its program ended there"}


def test_an_unknown_culprit_is_the_teller():
    assert reported("p0", Departure("lost", "nobody", "p1", "x"), "p2", MEMBERS).party == "p0"
    assert str(reported("p0", Departure("lost", "p1", "nobody", "x"), "p2", MEMBERS)) == "p1: was lost at x, says p0"


@pytest.mark.parametrize("teller", ["p0", "p1", "the-dealer"])
@pytest.mark.parametrize("by", ["p1", "p2", "nobody"])
def test_who_is_named_is_told_who_found_it_so_and_not_who_passed_it_on(teller, by):
    fault = reported(teller, Departure("misbehaved", "p2", by, "x"), "p2", MEMBERS)
    assert fault.party == ("p1" if by == "p1" else teller)
    assert "found this party misbehaved" in str(fault)


def test_two_members_cut_off_from_each_other_are_both_named_by_everyone():
    told = Departure("lost", "p1", "p0", "x")
    assert {str(reported(teller, told, "p2", MEMBERS)) for teller in ("p0", "p1", "the-dealer")} == {"p1: was lost at x, says p0"}


@pytest.mark.parametrize("seed", range(6))
def test_what_a_member_was_told_it_passes_on_unchanged(monkeypatch, seed):
    told = []
    plain = Exchange._end

    def noted(self, what):
        told.append((self.me, what))
        plain(self, what)

    monkeypatch.setattr(Exchange, "_end", noted)

    async def program(s):
        if s.index == 1:
            raise KeyError("secret")
        await s.reveal(s.zero(1))

    with pytest.raises(KeyError):
        simulate(3, program, seed=seed)
    assert {what._replace(at="") for _, what in told} == {Departure("program", "p1", "p1", "")}
    assert len({what.at for _, what in told}) == 1
