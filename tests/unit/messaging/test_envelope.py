from datetime import UTC, datetime, timedelta

import orjson
import pytest

from apps.messaging import envelope, subjects
from apps.messaging.envelope import BadReport, ReportKind

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SUBJECT = subjects.report("acme", "t 1", subjects.agent_token("acme", "ada"))


def parsed(subject=SUBJECT, **body):
    body = {"type": "completed", "task_id": "t 1", "attempt": 1, "seq": 3, "at": "2026-11-22T12:00:00.123Z"} | body
    return envelope.parse_report(subject, orjson.dumps(body), now=NOW)


def test_a_delivery_has_the_ecosystems_names_and_ours():
    payload = orjson.loads(
        envelope.delivery(org_id="acme", entry={"task_id": "t 1"}, attempt=2, lease_expires_at=NOW, reply_subject=SUBJECT)
    )
    assert payload == {
        "event_type": "task",
        "sender_subject_id": "acme",
        "event_data": {"task_id": "t 1"},
        "attempt": 2,
        "lease_expires_at": "2026-11-22T12:00:00.000Z",
        "reply_subject": SUBJECT,
        "heartbeat_seconds": 5,
    }


def test_a_completed_report_carries_result_and_times():
    report = parsed(result={"lines": 3}, started_at="2026-11-22T11:59:59Z", ended_at="2026-11-22T12:00:00+00:00")
    assert (report.org_id, report.task_id, report.agent) == ("acme", "t 1", "ada")
    assert report.kind is ReportKind.COMPLETED
    assert report.result == {"lines": 3}
    assert (report.attempt, report.seq) == (1, 3)
    assert report.started_at == NOW - timedelta(seconds=1)
    assert report.ended_at == NOW


def test_a_completed_report_may_say_what_it_costs():
    assert [parsed(price=price).price for price in (2.5, 0, 10**12, None)] == [2.5, 0.0, 1e12, None]
    assert parsed(type="failed", price=-1).price is None  # only what is done is charged for


def test_each_kind_reads_its_own_fields():
    assert parsed(type="failed", error="no", retryable=True).retryable is True
    assert parsed(type="declined", reason="busy").reason == "busy"
    assert parsed(type="progress", percent=140, message="half").percent == 100.0
    assert parsed(type="log", message="hello").level == "info"
    assert parsed(type="accepted", started_at="2026-11-22T12:00:00Z").started_at == NOW


def test_unknown_fields_of_newer_agents_are_ignored():
    assert parsed(shiny=True).kind is ReportKind.COMPLETED


def test_long_texts_are_cut_and_nul_is_replaced():
    report = parsed(type="failed", error="a\x00b" + "x" * 10_000)
    assert len(report.error) == 2_000
    assert report.error.startswith("a b")


def test_a_clock_far_off_reads_as_now():
    assert parsed(at="2020-01-01T00:00:00Z").at == NOW


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"type": "exploded"}, "type"),
        ({"type": None}, "type"),
        ({"type": ["log"]}, "type"),
        ({"attempt": 0}, "attempt"),
        ({"attempt": True}, "attempt"),
        ({"attempt": 1.0}, "attempt"),
        ({"attempt": "1"}, "attempt"),
        ({"seq": -1}, "seq"),
        ({"seq": 2**60}, "seq"),
        ({"task_id": "other"}, "task_id"),
        ({"task_id": None}, "task_id"),
        ({"at": "yesterday"}, "at"),
        ({"at": 5}, "at"),
        ({"at": "9999-12-31T23:59:59-23:00"}, "at"),
        ({"type": "failed", "error": 7}, "error"),
        ({"type": "failed", "retryable": "yes"}, "retryable"),
        ({"type": "progress", "percent": "50"}, "percent"),
        ({"type": "progress", "percent": True}, "percent"),
        ({"price": -0.01}, "price"),
        ({"price": "2"}, "price"),
        ({"price": True}, "price"),
        ({"price": 1e13}, "price"),
        ({"price": [2]}, "price"),
        ({"result": {"a": 2**63}}, "result"),
        ({"result": {"a\x00": 1}}, "result"),
    ],
)
def test_a_wrong_field_is_refused_by_name(body, problem):
    with pytest.raises(BadReport) as caught:
        parsed(**body)
    assert caught.value.problem.startswith(problem)
    assert caught.value.subject == SUBJECT


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"a":NaN}', b"[]", b"null", b"[" * 5000, b"1" * 5000])
def test_bytes_that_are_no_object_are_refused(data):
    with pytest.raises(BadReport):
        envelope.parse_report(SUBJECT, data, now=NOW)


def test_a_result_nested_too_deep_is_refused():
    deep = None
    for _ in range(40):
        deep = [deep]
    with pytest.raises(BadReport, match="deeper"):
        parsed(result=deep)


def test_an_agent_of_another_org_cannot_report_here():
    with pytest.raises(BadReport, match="another org"):
        parsed(subject=subjects.report("acme", "t 1", subjects.agent_token("other", "ada")))
