"""Strict encodings: any bytes either parse or raise the one documented error (invariants 20, 21)."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc import PeerMisbehaved
from mpc.canonical import MAX_BYTES, pack, unpack
from mpc.framing import wire
from mpc.naming.asked import unpack_relation
from mpc.naming.correlations import KINDS, MATRIX, MAX_TERMS, Relation, layout_of, sizes_of
from mpc.naming.expressions import Range, add_up, combine, index, mask, reshape, scale, transpose, wide
from mpc.ring import count

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_canonical_round_trip(value):
    assert unpack(pack(value)) == value


ODD = {
    "empty": (b"", "not msgpack"),
    "trailing": (pack(1) + b"\0", "not msgpack"),
    "cut": (b"\x81\xa1b\x01\x81", "not msgpack"),
    "long int": (b"\xcd\x00\x05", "not in canonical form"),
    "unsorted": (b"\x82\xa1b\x01\xa1a\x01", "not in canonical form"),
    "twice": (b"\x82\xa1a\x01\xa1a\x02", "not in canonical form"),
    "int key": (b"\x81\x01\x02", "not msgpack"),
    "reserved": (b"\xc1", "not msgpack"),
    "huge list": (b"\xdd\xff\xff\xff\xff", "not msgpack"),
    "huge bytes": (b"\xc6\xff\xff\xff\xff", "not msgpack"),
    "deep": (b"\x91" * 3000, "not msgpack"),
    "large": (bytes(MAX_BYTES + 1), "65537 bytes, more than 65536"),
    "extension": (msgpack.packb(msgpack.Timestamp(1)), "not msgpack"),
}


@pytest.mark.parametrize(("raw", "text"), ODD.values(), ids=ODD)
def test_everything_else_is_refused(raw, text):
    with pytest.raises(ValueError, match=f"^{text}$"):
        unpack(raw)


def record(*frames):
    return wire.record_head(3, 0) + b"".join(frames)


TAG, DIGEST = b"sessTAGTAGTA", b"digestdigest"


def test_frames_round_trip():
    raw = record(
        wire.first(TAG, DIGEST, 100, 8),
        b"8 bytes.",
        wire.more(TAG, 4),
        b"more",
        wire.grant(TAG),
        wire.credit(b"sess", 77),
        wire.bare(wire.Kind.PING),
    )
    one, two, three, four, five = wire.parse(raw, 3, "peer")
    assert one == wire.First(TAG, DIGEST, 100, b"8 bytes.")
    assert two == wire.More(TAG, b"more")
    assert three == wire.Grant(TAG)
    assert four == wire.Credit(b"sess", 77)
    assert five == wire.Ping()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"1234567",
        wire.record_head(4, 0),
        record(b"\x01\0\0"),
        record(b"\xff\xff\xff\x07"),
        record(b"\0\0\0\x63"),
        record(b"\0\0\0\0"),
        record(b"\x01\0\0\x07x"),
        record(wire.first(TAG, DIGEST, 1 << 60, 0)),
        record(wire.first(TAG, DIGEST, 4, 8), b"8 bytes."),
        record(wire.more(TAG, 0)),
        record(wire.grant(TAG)[:-1]),
    ],
    ids=[
        "empty",
        "short",
        "other number",
        "cut head",
        "too long",
        "unknown",
        "kind 0",
        "ping with data",
        "2^60 bytes",
        "more than total",
        "empty more",
        "cut",
    ],
)
def test_other_records_are_refused(raw):
    with pytest.raises(PeerMisbehaved, match="peer"):
        list(wire.parse(raw, 3, "peer"))


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_record_parses_or_raises_one_error(raw):
    for data in (raw, wire.record_head(0, 0) + raw):
        try:
            list(wire.parse(data, 0, "peer"))
        except PeerMisbehaved:
            pass


@settings(max_examples=300)
@given(
    st.binary(max_size=120)
    | VALUES.map(pack)
    | st.dictionaries(st.sampled_from(["kind", "job", "session", "nonce", "tag"]), VALUES).map(pack)
)
def test_any_control_message_parses_or_raises_one_error(raw):
    try:
        body = wire.parse_control(raw, "peer")
    except PeerMisbehaved:
        return
    assert body.keys() == {"kind", *wire.FIELDS[body["kind"]]}


def test_control_fields_are_exact():
    good = {"kind": "withdraw", "job": "j", "reason": "r", "party": "a", "answers": b""}
    assert wire.parse_control(wire.control(good)[4:], "peer") == good
    for bad in (
        {**good, "more": 1},
        {"kind": "withdraw", "job": "j"},
        {**good, "job": 1},
        {"kind": "check", "number": True, "filler": b""},
        {**good, "kind": "nothing"},
        {**good, "kind": 3},
        [],
        7,
    ):
        with pytest.raises(PeerMisbehaved):
            wire.parse_control(pack(bad), "peer")


def test_no_name_of_a_kind_or_type_stands_behind_an_article():
    """The article would have to be "an" for some."""
    with pytest.raises(PeerMisbehaved, match=r"^peer: a message of kind 'ask' with missing"):
        wire.parse_control(pack({"kind": "ask"}), "peer")
    with pytest.raises(TypeError, match=r"^object has no canonical encoding$"):
        pack([object()])


LEFT, RIGHT, OUT = ["mask", ["0.1", 0, [3, 1]], []], ["mask", ["0.1", 2, [4]], []], ["0.1", 0, [12]]


def product(left=LEFT, right=RIGHT, out=OUT, operation="mul", kind="value"):
    return [kind, [], [[operation, [], [left, right]]], [], out]


def leaf(*place):
    return ["mask", list(place), []]


def test_bools_are_no_integers_on_the_wire():
    one = ["0", 0, [1]]
    assert unpack_relation(pack(product(leaf(*one), leaf(*one), one)), "peer")
    for wrong in (["0", True, [1]], ["0", 0, [True]], ["0", False, [1]]):
        for data in (
            product(leaf(*wrong), leaf(*one), one),
            product(leaf(*one), leaf(*wrong), one),
            product(leaf(*one), leaf(*one), wrong),
        ):
            with pytest.raises(PeerMisbehaved):
                unpack_relation(pack(data), "peer")
    with pytest.raises(PeerMisbehaved):
        unpack_relation(pack(product(["own", ["0", 0, [1], True], []], leaf(*one), one)), "peer")


def test_an_array_without_words_has_no_endless_extents():
    """No array of them could be made: the dealer would end by a fault of its own."""
    for shape, right in (([0, 1 << 30], True), ([0, 1 << 30, 2], False), ([1 << 15, 0, 1 << 16], False)):
        masks = [leaf("0", 0, shape)] * 2
        data = ["products 2", [], masks, [], ["0", 0, [0]]]
        if right:
            assert unpack_relation(pack(data), "peer").nbytes == 0
        else:
            with pytest.raises(PeerMisbehaved):
                unpack_relation(pack(data), "peer")
    # Nor does an operation make one.
    with pytest.raises(PeerMisbehaved):
        unpack_relation(pack(["value", [], [["pairs", [], [leaf("0", 0, [0, 1 << 16])]]], [], ["0", 0, [0]]]), "peer")


A, B = mask(Range("0.1", 0, (3, 1))), mask(Range("0.1", 2, (4,)))
RELATION = Relation("value", (), (combine("mul", A, B),), (), Range("0.1", 0, (12,)))


def chain():
    """An expression with every operation."""
    x = index(combine("sub", A, scale(B, -5)), ((2, 3, -1), (1, 2, 1)))
    return combine("add", reshape(combine("matmul", transpose(x, (1, 0)), x), (4,)), combine("mul", B, add_up(A, 0)))


def one_of_each_kind():
    """A relation of every kind."""
    values = {"value": chain()}
    for kind, rules in KINDS.items():
        m = MAX_TERMS >> rules.expressions if kind.startswith("products") else 4 if kind.startswith("wide") else 70
        parameters = {
            "truncation": (20,),
            "quotient 1": (20, 32),
            "quotient 2": (32, 16),
            "matrix 1": (20, 27),
            "matrix 2": (20, 1, 32),
        }.get(kind, (m,) * rules.parameters)
        expressions = tuple(values.get(kind, mask(Range("7", 3, (m,)), 1)) for _ in range(rules.expressions))
        if kind.startswith("wide"):
            parameters, expressions = (32, 96), (expressions[0], *(wide(Range("7", 3, (m, 2))) for _ in expressions[1:]))
        if kind.startswith(MATRIX):
            expressions = tuple(mask(Range("7", 3, shape)) for shape in ((3, m), (m, 2), (3, 2)))
        elements = count(expressions[0].shape) if expressions else m
        masks = tuple(Range("8", 100 * at, (size,)) for at, size in enumerate(rules.bit_words(elements)))
        yield Relation(
            kind, parameters, expressions, masks, Range("9", 0, (layout_of(kind, *sizes_of(kind, parameters, expressions)).words,))
        )


def test_relations_round_trip():
    assert unpack(RELATION.key) == product()
    seen = set()
    for relation in (RELATION, *one_of_each_kind()):
        assert unpack_relation(relation.key, "peer") == relation
        seen.add(relation.kind)
    assert seen == set(KINDS)


ONE = ["0", 0, [1]]


def several(k, m, sets):
    return [f"products {k}", [], [leaf("0", 0, [m])] * k, [], ["0", 0, [sets * m]]]


def of_matrix(left, right, last, words, drops=(16, 16)):
    return [f"matrix {len(drops) - 1}", [*drops], [leaf("0", 0, shape) for shape in (left, right, last)], [], ["0", 0, [words]]]


def of_quotient(k, m, words):
    return [f"quotient {k}", [16, 16], [leaf("0", 0, [m])] * (k + 2), [], ["0", 0, [words * m]]]


WIDE = ["wide", ["0", 0, [2, 2]], []]


def of_wide(k=2, m=2, drops=(16, 96), last=None, words=None, first=None, factor=None):
    """A narrow mask before, and wide ones."""
    wide_one = ["wide", ["0", 0, [m, 2]], []]
    masks = [first or leaf("0", 0, [m]), *[factor or wide_one] * k, last or wide_one]
    size = (2 * (3 * 2**k - 1 - k) * 8 + 12) * m
    return [f"wide {k}", list(drops), masks, [], ["0", 0, [words or -(-size // 8)]]]


def test_wide_relations_are_taken():
    row = ["index", [[0, 2, 1]], [["wide", ["0", 0, [7, 2]], []]]]
    turned = ["transpose", [0], [["reshape", [2], [["wide", ["0", 0, [2, 1, 2]], []]]]]]
    for data in (of_wide(), of_wide(first=WIDE, drops=(96, 96)), of_wide(6), of_wide(factor=row), of_wide(factor=turned)):
        assert unpack_relation(pack(data), "peer").kind.startswith("wide")
    narrow = ["quotient 1", [96, 32], [WIDE, leaf("0", 0, [2]), leaf("0", 0, [2])], [], ["0", 0, [6]]]
    assert unpack_relation(pack(narrow), "peer").nbytes == 48
    assert unpack_relation(pack(["lift", [], [leaf("0", 0, [2])], [], ["0", 0, [6]]]), "peer").nbytes == 48


def test_matrix_products_with_quotients_are_taken():
    for data, nbytes in (
        (of_matrix([2, 3], [3], [2], 8), 64),
        (of_matrix([2, 3], [3, 1], [2, 1], 8), 64),
        (of_matrix([2, 3], [3], [2], 11, (1, 32, 16)), 88),
        (of_matrix([2, 1 << 13], [1 << 13], [2], (1 << 13) + 5), 40 + (1 << 16)),
    ):
        assert unpack_relation(pack(data), "peer").nbytes == nbytes
    for drops, wide_ones in (((96, 32), [1]), ((96, 32, 16), [0]), ((96, 96, 16), [0, 1])):
        data = of_matrix([2, 2], [2, 2], [2, 2], 14 if len(drops) == 2 else 18, drops)
        for place in wide_ones:
            data[2][place] = ["wide", ["0", 0, [2, 2, 2]], []]
        assert unpack_relation(pack(data), "peer").kind.startswith("matrix")


@pytest.mark.parametrize(
    "data",
    [
        [],
        ["value"],
        product(operation="div"),
        product(kind="mul"),
        product(out=["0.1", 0, [11]]),
        product(out=["0.1", 0, [3, 4]]),
        product(leaf("0", 0, [2]), leaf("0", 0, [3]), ["0", 0, [3]]),
        product(leaf("0", 0, [1 << 40]), leaf(*ONE), ["0", 0, [1 << 40]]),
        product(leaf("0", -1, [1]), leaf(*ONE), ONE),
        product(leaf("0", 1 << 62, [1]), leaf(*ONE), ONE),
        product(leaf("x" * 2000, 0, [1]), leaf(*ONE), ONE),
        product(leaf("0", 0, [1] * 40), leaf(*ONE), ONE),
        product(leaf(b"0", 0, [1]), leaf(*ONE), ONE),
        several(2, MAX_TERMS // 4 + 1, 1),
        several(12, 3, 4083),
        several(13, 1, 8178),
        several(1, 1, 0),
        of_quotient(2, MAX_TERMS // 16 + 1, 7),
        of_quotient(0, 2, 2),
        of_quotient(3, 2, 16),
        of_matrix([2, 3], [3], [2], 7),
        of_matrix([2, 3], [3], [3], 9),
        of_matrix([2, 3], [2], [2], 8),
        of_matrix([6], [6], [], 8),
        of_matrix([2, 3], [3], [2, 1], 8),
        of_matrix([2, 3, 1], [3], [2], 8),
        of_matrix([2, 1], [1, 1, 1], [1, 2, 1], 5),
        of_matrix([2, (1 << 13) + 1], [(1 << 13) + 1], [2], (1 << 13) + 6),
        of_matrix([2, 1 << 12], [1 << 12, 3], [2, 3], 3 * (1 << 12) + 15),
        of_matrix([2, 1 << 13], [1 << 13], [2], (1 << 14) + 5, (1, 1, 1)),
        of_matrix([2, 3], [3], [2], 8, (33, 1)),
        of_matrix([2, 3], [3], [2], 8, (1, 33)),
        of_matrix([2, 3], [3], [2], 11, (33, 1, 1)),
        of_matrix([2, 3], [3], [2], 11, (1, 33, 1)),
        of_matrix([2, 3], [3], [2], 8, (16,)),
        of_matrix([2, 0], [0, 2], [2, 2], 10),
        of_matrix([2, 1 << 20], [1 << 20, 0], [2, 0], 0),
        ["matrix 1", [16, 16], [["wide", ["0", 0, [2, 2, 2]], []], leaf("0", 0, [2]), leaf("0", 0, [2])], [], ["0", 0, [7]]],
        ["matrix 1", [16, 16], [leaf("0", 0, [2, 2]), leaf("0", 0, [2]), WIDE], [], ["0", 0, [7]]],
        of_wide(1),
        of_wide(7),
        of_wide(drops=(33, 96)),
        of_wide(drops=(16, 97)),
        of_wide(drops=(16, 0)),
        of_wide(drops=(16, 96, 0)),
        of_wide(last=leaf("0", 0, [2])),
        of_wide(factor=leaf("0", 0, [2])),
        of_wide(words=50),
        of_wide(m=9),
        of_wide(6, m=5),
        of_wide(last=["wide", ["0", 0, [2, 3]], []]),
        of_wide(last=["wide", ["0", 0, [4]], []]),
        of_wide(last=["wide", ["0", 0, []], []]),
        of_wide(last=["wide", ["0", 0, [2, 2], 0], []]),
        of_wide(last=["wide", ["0", 0, [2, 2]], [leaf("0", 0, [2])]]),
        of_wide(last=["scale", [3], [WIDE]]),
        of_wide(factor=["sum", [0], [["wide", ["0", 0, [3, 2, 2]], []]]]),
        ["lift", [], [WIDE], [], ["0", 0, [6]]],
        ["lift", [], [leaf("0", 0, [2])], [], ["0", 0, [5]]],
        ["value", [], [WIDE], [], ["0", 0, [2]]],
        ["value", [], [["add", [], [WIDE, leaf("0", 0, [2])]]], [], ["0", 0, [2]]],
        ["truncation", [20], [WIDE], [], ["0", 0, [3]]],
        ["products 2", [], [WIDE, WIDE], [], ["0", 0, [2]]],
        ["quotient 1", [16, 16], [leaf("0", 0, [2]), leaf("0", 0, [2]), WIDE], [], ["0", 0, [6]]],
        ["choice", [2], [leaf("0", 0, [3])], [["0", 0, [1]]], ["0", 0, [6]]],
        ["quotient 1", [97, 16], [WIDE, leaf("0", 0, [2]), leaf("0", 0, [2])], [], ["0", 0, [6]]],
    ],
)
def test_other_relations_are_refused(data):
    with pytest.raises(PeerMisbehaved):
        unpack_relation(pack(data), "peer")


@given(VALUES)
def test_any_relation_parses_or_raises_one_error(data):
    try:
        unpack_relation(pack(data), "peer")
    except PeerMisbehaved:
        pass
