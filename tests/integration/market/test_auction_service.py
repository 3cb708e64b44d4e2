"""The org's own auction service: what it gets, what it may answer, and every way in which it may fail."""

from __future__ import annotations

import json

import pytest

from apps.agents.candidates import Candidate, CandidatePool
from apps.agents.facts import TaskFacts
from apps.agents.market.floor import carried_out, floor
from apps.agents.presence import Presence
from apps.agents.resolver import HeadAgentResolver
from apps.agents.strategies.base import Choice, NoHeadAgent, PoolFull
from apps.dsl import scripts
from apps.orgs.config_keys import WrongValue, check
from apps.orgs.config_store import OrgConfigProvider
from apps.roles.directory import CandidateSubject
from tests.factories import NOON, make_entry, make_org
from tests.lying_server import LyingServer

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis")]


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.fixture
def serve(settings):
    servers = []

    def start(answer):
        def speak(connection, request):
            said = answer(request) if callable(answer) else answer
            if said is None:
                servers[0].gone.wait(5)
            else:
                connection.sendall(said)

        server = LyingServer(speak)
        servers.append(server)
        settings.OUTBOUND_ALLOW = (server.host,)
        source = "def auction(task):\n  return {'reserve_price': 9, 'house_rule': task['goal']}"
        scripts.register(org_id="acme", script_id="terms", hook="auction_input", source=source, by="tests", now=NOON, activate=True)
        make_org(
            "acme", agent_resolution_strategy="auction", auction_input_dsl_id="terms", auction_service_url=server.url,
            auction_service_timeout_ms=10_000 if answer is not None else 200, outbound_allow=[server.host],
        )  # fmt: skip
        return server

    make_org("acme")
    yield start
    for server in servers:
        server.close()


def pool_of(room: int = 8) -> CandidatePool:
    subjects = [CandidateSubject(subject_id=name, subject_type="agent", role_ids=(), capabilities=()) for name in ("ada", "bo")]
    return CandidatePool([Candidate(subject=subject, presence=Presence.PRESENT, room=room, load=0) for subject in subjects])


def facts_of(number: int) -> TaskFacts:
    name = f"t{number}"
    return TaskFacts(key=f"acme/{name}", org_id="acme", task_id=name, job_space_id="", priority=0, entry=make_entry(task_id=name))


def resolve(number: int = 1, pool: CandidatePool | None = None):
    facts, records = facts_of(number), []
    resolver = HeadAgentResolver(OrgConfigProvider().of("acme"))
    outcomes, _ = carried_out(resolver.resolve([([facts], pool or pool_of())], now=NOON, records=records), floor())
    (auction,) = records
    return outcomes[facts.key], auction


def good(agent: str) -> bytes:
    return http(json.dumps({"success": True, "data": {"head_agent_subject_id": agent}}).encode())


def test_it_gets_the_scripts_output_with_the_candidates_and_its_choice_is_taken(serve):
    server = serve(good("bo"))
    outcome, auction = resolve()
    assert isinstance(outcome, Choice) and outcome.candidate.subject_id == "bo"
    sent = json.loads(server.requests[0].partition(b"\r\n\r\n")[2])
    assert sent == {
        "reserve_price": 9, "house_rule": "count the words", "task_id": "t1", "org_id": "acme", "candidate_subject_ids": ["ada", "bo"],
    }  # fmt: skip
    assert (auction.source, auction.winner, auction.outcome) == ("service", "bo", "awarded")


def test_one_it_chooses_for_more_than_it_has_room_for_is_not_overloaded(serve):
    serve(good("bo"))
    first, second = (resolve(number, pool) for pool in [pool_of(room=1)] for number in (1, 2))
    assert isinstance(first[0], Choice) and isinstance(second[0], NoHeadAgent) and "'bo' is not a candidate" in second[0].sentence
    facts, pool, records = [facts_of(number) for number in (3, 4)], pool_of(room=1), []
    asking = HeadAgentResolver(OrgConfigProvider().of("acme")).resolve([(facts, pool)], now=NOON, records=records)
    outcomes, _ = carried_out(asking, floor())
    assert isinstance(outcomes["acme/t3"], Choice) and isinstance(outcomes["acme/t4"], PoolFull)
    assert [row.outcome for row in records] == ["awarded", "service_failed"] and "no room left" in records[1].because


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (good("eve"), "'eve' is not a candidate"),
        (good(""), "names no head_agent_subject_id"),
        (http(b'{"success": false, "error": "no bids"}'), "it says: no bids"),
        (http(b'{"success": 1, "data": {"head_agent_subject_id": "bo"}}'), "not {success, data}"),
        (http(b'{"success": true, "data": [7]}'), "names no head_agent_subject_id"),
        (http(b"[]"), "not {success, data}"),
        (http(b"hello"), "not JSON"),
        (http(b"{}", "500 Oops"), "status 500"),
        (http(b"", "302 Found", "Location: http://127.0.0.1/"), "redirect"),
        (http(b" " * 100_000), "larger than"),
        (b"", "not HTTP"),
        (None, "No answer within 0.2 s"),
    ],
)
def test_whatever_else_it_does_nobody_is_chosen_and_the_reason_is_kept(serve, answer, words):
    serve(answer)
    outcome, auction = resolve()
    assert isinstance(outcome, NoHeadAgent)
    assert "The auction service chose nobody" in outcome.sentence
    assert words in outcome.sentence
    assert (auction.outcome, auction.winner) == ("service_failed", "")


def test_after_five_failures_it_is_left_alone(serve):
    server = serve(http(b"{}", "500 Oops"))
    for number in range(5):
        resolve(number)
    outcome, _ = resolve(6)
    assert "left alone" in outcome.sentence
    assert len(server.requests) == 5


@pytest.mark.parametrize("url", ["http://127.0.0.1:80/", "http://169.254.169.254/", "file:///etc/passwd", "ftp://example.org/", 7, "x"])
def test_an_unsafe_address_is_refused_before_it_is_stored(url):
    with pytest.raises(WrongValue):
        check("auction_service_url", url)
