"""What the strict reader takes, what it refuses, and how it names what is wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.errors import Invalid, Malformed, TooLarge
from apps.core.strict_json import Limits, parse_json


def problems(raw: bytes) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as caught:
        parse_json(raw)
    return [(problem.field, problem.code) for problem in caught.value.problems]


@pytest.mark.parametrize(
    "raw",
    [
        b"", b" ", b"{", b'{"a":1', b"{'a':1}", b'{"a":1,}', b'{"a":1}{', b"[1 2]", b"01", b"1.", b"nul", b"\x00",
        b'{"a":NaN}', b'{"a":Infinity}', b'{"a":-Infinity}', b'{"b":1e999,"a":NaN}',
        b"\xef\xbb\xbf{}", b'{"a":"\xff"}', b'"\xed\xa0\x80"', b'{"a":"\\ud800"}', b'"\\udc00\\ud800"', b'"a\nb"', b'"\x00"',
        '{"a":1}'.encode("utf-16"),
    ],
)  # fmt: skip
def test_bytes_that_are_not_json_are_malformed(raw):
    with pytest.raises(Malformed):
        parse_json(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"x":[{"b":{"c":1,"d":2,"c":3}}]}',
        b'{"\\u0061":1,"a":2}',
        b'{"a" :1,"b":"\\u003a","b":2}',
        b'{"a":"\\":","a":2}',
        b'{"a":{"b":1,"c":2},"a":"::"}',
        b'{"a":"b","":1,"":2}',
    ],
)
def test_a_key_that_stands_twice_in_one_object_is_malformed(raw):
    with pytest.raises(Malformed, match="twice"):
        parse_json(raw)


def test_the_same_key_in_two_objects_is_fine():
    assert parse_json(b'[{"a":1},{"a":{"a":"a:a"}}]') == [{"a": 1}, {"a": {"a": "a:a"}}]


@pytest.mark.parametrize(
    ("raw", "field", "code"),
    [
        (b'{"a":{"b":[0,9223372036854775808]}}', "a.b.1", "number_too_big"),
        (b'{"a":-9223372036854775809}', "a", "number_too_big"),
        (b'{"a":18446744073709551616}', "a", "number_too_big"),
        (b'{"a":1' + b"0" * 400 + b"}", "a", "number_too_big"),
        (b'{"a":1' + b"0" * 9000 + b"}", "a", "number_too_big"),
        (b'{"a":1e400}', "a", "number_too_big"),
        (b'{"a":-1E+400}', "a", "number_too_big"),
        (b'{"a":-0}', "a", "negative_zero"),
        (b'{"a":"x\\u0000y"}', "a", "nul"),
        (b'{"a":{"b\\u0000":1}}', "a", "nul"),
        (b'{"a":"' + b"x" * 65537 + b'"}', "a", "too_long"),
        (b'{"a":"' + "é".encode() * 32769 + b'"}', "a", "too_long"),
        (json.dumps({"a": {f"k{n}": n for n in range(1001)}}).encode(), "a", "too_many_keys"),
        (json.dumps({"a": [0] * 10_001}).encode(), "a", "too_many_items"),
        (b'{"a":' + b"[" * 32 + b"]" * 32 + b"}", "a" + ".0" * 31, "too_deep"),
        (b"[" * 5000 + b"]" * 5000, "", "too_deep"),
        (b"[" * 200 + b"]" * 200, ".".join("0" * 32), "too_deep"),
    ],
)
def test_json_beyond_the_limits_is_invalid_and_the_field_is_named(raw, field, code):
    assert problems(raw) == [(field, code)]


def test_every_problem_is_listed_up_to_a_bound():
    assert problems(b'{"a":-0,"b":1e999}') == [("a", "negative_zero"), ("b", "number_too_big")]
    assert len(problems(b"[" + b",".join([b"-0"] * 500) + b"]")) == 20


@pytest.mark.parametrize(
    "value",
    [
        9223372036854775807, -9223372036854775808, 0, 1.5, -0.0, 1e308, "x" * 65536, [0] * 10_000, {f"k{n}": n for n in range(1000)},
        "2026-11-22T01:02:03-01:00 a-0", "1e999 -0 12345678901234567890", "a:b\\u003a", {"a:b": {"c": [None, True, ""]}}, "é😀\u200f",
    ],
)  # fmt: skip
def test_what_is_within_the_limits_is_kept_as_it_is(value):
    for raw in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        found = parse_json(raw.encode())
        assert found == value and type(found) is type(value)


def test_exactly_the_deepest_is_taken():
    assert parse_json(b"[" * 32 + b"]" * 32)


def test_more_bytes_than_allowed_are_refused_unread():
    with pytest.raises(TooLarge):
        parse_json(b"[" * 11, Limits(body=10))


text = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | text
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(text, inner, max_size=5), max_leaves=20)


@given(values, st.booleans(), st.sampled_from([None, 1]))
def test_whatever_python_writes_is_read_back(value, ascii_only, indent):
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()) == value


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,\\u0e1-a ', max_size=40).map(str.encode))
def test_no_bytes_at_all_raise_anything_but_our_own_errors(raw):
    try:
        found = parse_json(raw)
    except (Malformed, Invalid):
        return
    assert json.loads(raw) == found
