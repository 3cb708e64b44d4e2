"""Bodies that must be refused, by class; each class meets each endpoint (reliability, section 9)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from apps.core.http import LIMITS, Limits

MB = 1024 * 1024
MEDIA = ("text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx", "")


@dataclass(frozen=True, kw_only=True)
class Bad:
    """One request body that is wrong in one way."""

    kind: str
    """`bytes` not JSON, `media` not our media type, `size` too large, `limits` beyond the limits, `shape` of a wrong type."""
    name: str
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind}-{self.name}"


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def bodies(valid: dict[str, Any], carry: Callable[[Any], dict[str, Any]], limits: Limits = LIMITS) -> Iterator[Bad]:
    """`valid` is a good body of the endpoint; `carry(x)` is a good body that holds the free value x somewhere; `limits`
    are what the endpoint reads with."""
    good = json.dumps(valid).encode()
    text = json.dumps(carry("MARK"))

    def holding(raw: str) -> bytes:
        return text.replace('"MARK"', raw).encode("utf-8", "surrogatepass")

    for name, body in {
        "empty": b"",
        "blank": b" \n",
        "cut off": good[:-1],
        "cut in a string": good[: good.index(b'"') + 3],
        "two values": good + good,
        "trailing comma": good[:-1] + b",}",
        "single quotes": good.replace(b'"', b"'"),
        "a comment": b"/* hello */" + good,
        "NaN": holding("NaN"),
        "Infinity": holding("Infinity"),
        "-Infinity": holding("-Infinity"),
        "a key twice": good[:-1] + b", " + good[1:],
        "a key twice inside": holding('{"a": 1, "a": 2}'),
        "BOM": b"\xef\xbb\xbf" + good,
        "UTF-16": good.decode().encode("utf-16"),
        "not UTF-8": holding('"MARK2"').replace(b"MARK2", b"\xff\xfe"),
        "cut UTF-8": holding('"MARK2"').replace(b"MARK2", b"\xe2\x98"),
        "lone surrogate": holding('"\\ud800"'),
        "raw newline in a string": holding('"a\nb"'),
        "hexadecimal": holding("0x10"),
        "leading zero": holding("012"),
        "plus sign": holding("+1"),
        "python": holding("None"),
    }.items():
        yield Bad(kind="bytes", name=name, body=body)
    for content_type in MEDIA:
        yield Bad(kind="media", name=content_type or "none", body=good, content_type=content_type)
    yield Bad(kind="media", name="other charset", body=good, content_type="application/json; charset=utf-16")
    yield Bad(kind="media", name="gzip bomb", body=gzip.compress(b"[" * 20 * MB), headers={"Content-Encoding": "gzip"})
    yield Bad(kind="media", name="gzip", body=gzip.compress(good), headers={"Content-Encoding": "gzip"})
    yield Bad(kind="size", name="spaces beyond the limit", body=b" " * (limits.body + MB) + good)
    yield Bad(kind="size", name="a string beyond the limit", body=holding(json.dumps("x" * (limits.body + MB))))
    yield Bad(kind="size", name="said to be 2 GB", body=good, headers={"Content-Length": str(2**31)})
    for name, value in {
        "too deep": nested(limits.depth + 8),
        "a key too many": {f"k{n}": n for n in range(limits.keys + 1)},
        "a string too long": "x" * (limits.string + 1),
        "a key too long": {"x" * (limits.string + 1): 1},
        "an item too many": [0] * (limits.items + 1),
        "NUL": "a\0b",
    }.items():
        yield Bad(kind="limits", name=name, body=json.dumps(carry(value)).encode())
    for name, raw in {
        "depth 100,000": "[" * 100_000 + "]" * 100_000,
        "10^400": "1" + "0" * 400,
        "1e400": "1e400",
        "2^63": str(2**63),
        "-2^63 - 1": str(-(2**63) - 1),
        "-0": "-0",
    }.items():
        yield Bad(kind="limits", name=name, body=holding(raw))
    for raw in (b"null", b"true", b"7", b'"x"', b"[]"):
        yield Bad(kind="shape", name=raw.decode(), body=raw)
    yield Bad(kind="shape", name="list of good", body=b"[" + good + b"]")


BAD_IDS = (
    "", " ", "x" * 1000, "../etc/passwd", "..", ".", "a/b", "a\\b", "a%00b", "a%2fb", "a\nb", "a\tb", "a b", " a", "a ",
    "*", ">", "a.>", "a*",
    "😀", "\u202eabc", "\u200b", "e\u0301", "é", "a\x00b", "a\x7fb", "a\u2028b",
    "{a}", "<b>", "a?b", "a#b", "$where", "'; DROP TABLE x; --",
)  # fmt: skip
"""Not ids of a task."""

WRONG_TYPES: dict[str, tuple[Any, ...]] = {
    "string": (None, True, 1, 1.5, [], {}, ["a"], {"a": 1}),
    "text": (None, True, 1, [], {}, "", "  ", "x" * 70_000),
    "integer": (None, True, 1.0, 1.5, "1", [], {}, 1001, -1001, 2**63 - 1),
    "object": (None, True, 1, "x", "{}", [], [{}]),
    "time": (None, True, 1795348800, [], {}, "", "yesterday", "2026-13-01T00:00:00Z", "2026-11-22T12:00:00", "9" * 30,
             "100000-01-01T00:00:00Z", "NaN", "-1"),
    "mode": (None, True, 1, "", "AUTO", "never", []),
    "script": (True, 1, [], {}, "x" * 200, "a\nb"),
}  # fmt: skip

ENTRY_FIELDS: dict[str, str] = {
    "task_id": "string",
    "task_goal": "text",
    "task_intent": "text",
    "task_priority_value": "integer",
    "submitter_subject_id": "string",
    "task_streeability_data": "object",
    "task_submission_ts": "time",
    "task_completion_timeline": "object",
    "task_execution_mode": "mode",
    "task_behavior_dsl_map": "object",
    "task_contracts_map": "object",
    "task_job_submission_data": "object",
    "task_op_convertor_dsl_id": "script",
}

SERVER_OWNED = (
    "status", "attempt", "org_id", "org", "score", "result", "head_agent_subject_id", "assigned_agent", "sequence", "max_attempts",
    "created_at",
)  # fmt: skip


def entry_changes() -> Iterator[tuple[str, dict[str, Any], tuple[str, ...]]]:
    """(name, fields to set, fields to leave out) that each make a good entry bad."""
    for name, kind in ENTRY_FIELDS.items():
        for value in WRONG_TYPES[kind]:
            shown = repr(value) if len(repr(value)) < 30 else f"{repr(value)[:20]}…"
            yield f"{name}={shown}", {name: value}, ()
    for name in ("task_id", "task_goal", "task_intent", "task_priority_value", "submitter_subject_id"):
        yield f"{name} missing", {}, (name,)
    for name in SERVER_OWNED:
        yield f"{name} sent", {name: "x"}, ()
    for value in BAD_IDS:
        yield f"task_id={ascii(value)[:30]}", {"task_id": value}, ()
    yield "an unknown field", {"task_gaol": "typo"}, ()
    yield "goal twice, by two names", {"goal": "again"}, ()
    yield "due in the past", {"task_completion_timeline": {"due": "2001-01-01T00:00:00Z"}}, ()
    yield "due without a zone", {"task_completion_timeline": {"due": "2126-01-01T00:00:00"}}, ()
    yield "due in the year 100,000", {"task_completion_timeline": {"due": "+100000-01-01T00:00:00Z"}}, ()
    yield "due is a number", {"task_completion_timeline": {"due": 4102444800}}, ()
    yield "nobody's submitter", {"submitter_subject_id": ":sam"}, ()
    yield "two job spaces", {"job_space_id": "a", "task_job_submission_data": {"job_space_id": "b"}}, ()
    yield "job space is a list", {"job_space_id": ["a"]}, ()
    yield "script of a wrong type", {"task_behavior_dsl_map": {"priority_assigner_dsl_id": 7}}, ()
