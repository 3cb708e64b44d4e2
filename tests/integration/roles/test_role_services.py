"""Role services over HTTP: what they are asked, what is believed, and what happens when they fail: never a wrong pick."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from apps.agents.candidates import AgentCandidatePoolResolver
from apps.core import breaker, outbound
from apps.orgs.config_store import OrgConfigProvider
from apps.orgs.models import Change
from apps.roles import services
from apps.roles.directory import ServiceDirectory, directory
from apps.roles.models import Subject
from apps.roles.services import RoleServices
from apps.tasks.executor import JobExecutor
from apps.tasks.models import Assignment, Task
from tests.factories import NOON, bearer, make_agent, make_key, make_org, make_task
from tests.lying_server import dripping, hanging_up, saying

pytestmark = pytest.mark.django_db

ROLES = [{"role_id": "scout-1", "role_type": "SCOUTING", "group_ids": ["g"], "job_space_id": "north"}]
HOLDERS = [
    {"subject_id": "bo", "role_ids": ["scout-1", "other"], "subject_type": "agent", "job_space_id": "north"},
    {"subject_id": "ada", "role_ids": ["scout-1"], "subject_type": "agent", "job_space_id": "north"},
]


def http(body: object, status: str = "200 OK") -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status.encode(), len(raw)) + raw


class Service:
    """One HTTP server that is both role services; `roles` and `holders` are what it answers, and may be changed."""

    def __init__(self, serve) -> None:
        self.roles: object = {"success": True, "data": ROLES}
        self.holders: object = {"success": True, "data": HOLDERS}
        self.raw: bytes | None = None
        self.server = serve(self._speak)

    def _speak(self, connection, request):
        body = self.roles if request.startswith(b"POST /role-group") else self.holders
        connection.sendall(self.raw if self.raw is not None else http(body))
        return False

    @property
    def asked(self) -> list[tuple[str, dict]]:
        return [(r.split()[1].decode(), json.loads(r.partition(b"\r\n\r\n")[2])) for r in self.server.requests]

    def config(self, **more):
        at = f"http://{self.server.host}"
        make_org("acme", role_group_url=f"{at}/role-group", subject_roles_url=f"{at}/subject-roles", outbound_allow=["127.0.0.1"], **more)
        return OrgConfigProvider().of("acme")


@pytest.fixture
def service(redis, serve):
    return Service(serve)


def found(config, now=NOON, space="north"):
    return directory("acme", config).find("SCOUTING", space, now=now)


def names(found) -> list[str]:
    return [subject.subject_id for subject in found.subjects]


def test_they_are_asked_as_the_ecosystem_asks_and_their_answer_makes_the_pool(service):
    make_agent("acme", "bo", capabilities=("python",))
    answer = found(service.config())
    assert service.asked == [
        ("/role-group", {"role_type": "SCOUTING", "job_space_id": "north"}),
        ("/subject-roles", {"role_ids": {"$in": ["scout-1"]}, "job_space_id": "north"}),
    ]
    assert [(subject.subject_id, subject.role_ids, subject.capabilities) for subject in answer.subjects] == [
        ("ada", ("scout-1",), ()), ("bo", ("scout-1",), ("python",)),
    ]  # fmt: skip
    assert answer.source == {"from": "service", "age_s": 0.0} and not answer.unknown


def test_the_token_goes_along_and_is_shown_nowhere(service, client):
    service.config()
    admin = bearer(make_key("acme", "org_admin", subject_id="root"))
    set_ = client.post("/org-config/acme/role_service_token", {"value": "hush-hush"}, "application/json", headers=admin)
    assert set_.status_code == 200
    found(OrgConfigProvider().of("acme"))
    assert all(b"authorization: bearer hush-hush" in request.lower() for request in service.server.requests)
    told = client.get("/api/v1/org-config", headers=admin).text + client.get("/org-config/acme/role_service_token", headers=admin).text
    assert "hush-hush" not in told + str(list(Change.objects.values()))


def test_one_may_be_ours_and_the_other_theirs(service):
    make_agent("acme", "ada", role_id="scout-1", job_space_id="north")
    make_agent("acme", "eve", role_id="scout-9")
    config = service.config()
    assert names(found(replace(config, subject_roles_url=None))) == ["ada"]
    service.server.requests.clear()
    assert names(found(replace(config, role_group_url=None))) == ["ada", "bo"]
    assert service.asked == [("/subject-roles", {"role_ids": {"$in": ["scout-1", "scout-9"]}, "job_space_id": "north"})]


def test_a_subject_that_we_made_inactive_is_not_chosen_whatever_they_say(service):
    make_agent("acme", "bo", is_active=False)
    assert names(found(service.config())) == ["ada"]


def test_nobody_holding_the_role_is_an_answer_too(service):
    service.roles = {"success": True, "data": []}
    answer = found(service.config())
    assert (answer.subjects, answer.unknown, len(service.asked)) == ([], "", 1)


# ---- keeping answers ----


def test_an_answer_is_used_again_for_a_while_and_then_asked_for_again(service):
    config = service.config(role_service_cache_s=10)
    assert names(found(config)) == names(found(config, NOON + timedelta(seconds=9))) == ["ada", "bo"]
    assert len(service.asked) == 2
    service.holders = {"success": True, "data": HOLDERS[:1]}
    assert names(found(config, NOON + timedelta(seconds=10))) == ["bo"] and len(service.asked) == 4


def test_each_space_each_org_and_each_token_has_an_answer_of_its_own(service):
    config = service.config()
    found(config)
    service.roles = service.holders = {"success": True, "data": []}
    assert names(found(config, space="south")) == []
    make_org("bolt", role_group_url=config.role_group_url, subject_roles_url=config.subject_roles_url, outbound_allow=["127.0.0.1"])
    assert names(directory("bolt", OrgConfigProvider().of("bolt")).find("SCOUTING", "north", now=NOON)) == []
    assert names(found(replace(config, role_service_token="other"))) == []


def test_while_it_fails_the_last_answer_counts_for_a_bounded_time_and_says_so(service, caplog):
    config = service.config(role_service_cache_s=10, role_service_stale_s=60)
    found(config)
    service.raw = http({"success": False, "error": "database on fire"})
    answer = found(config, NOON + timedelta(seconds=30))
    assert names(answer) == ["ada", "bo"]
    assert answer.source == {"from": "service", "age_s": 30.0, "stale": True, "problem": "It says: database on fire"}
    assert "roles.stale_answer_used" in caplog.text
    late = found(config, NOON + timedelta(seconds=61))
    assert late.subjects == [] and "database on fire" in late.unknown
    service.raw = None
    assert names(found(config, NOON + timedelta(seconds=63))) == ["ada", "bo"]


def test_after_a_failure_nobody_asks_again_for_a_second(service):
    config = service.config()
    service.raw = http({}, "500 Oops")
    assert found(config).unknown and found(config, NOON + timedelta(milliseconds=900)).unknown and len(service.asked) == 1
    service.raw = None
    assert names(found(config, NOON + timedelta(seconds=1))) == ["ada", "bo"]


def test_a_service_that_fails_five_times_is_left_alone_for_ten_seconds(service):
    config = service.config()
    service.raw = http({}, "503 Later")
    for second in range(breaker.FAILURES + 3):
        assert found(config, NOON + timedelta(seconds=second * 1.1)).unknown
    assert len(service.asked) == breaker.FAILURES
    service.raw = None
    assert names(found(config, NOON + timedelta(seconds=breaker.FAILURES * 1.1 + breaker.OPEN_SECONDS))) == ["ada", "bo"]


# ---- failures: each ends in "nobody knows", never in a pick ----


def answers(roles=None, holders=None, raw=None):
    return {"roles": roles, "holders": holders, "raw": raw}


def data(*documents):
    return {"success": True, "data": list(documents)}


HOLDER = HOLDERS[0]
WRONG = {
    "it says that it failed": answers(roles={"success": False, "error": "no"}),
    "it says nothing of success": answers(roles={"data": ROLES}),
    "success is 1": answers(roles={"success": 1, "data": ROLES}),
    "success is a word": answers(roles={"success": "true", "data": ROLES}),
    "no data": answers(roles={"success": True}),
    "data is null": answers(roles={"success": True, "data": None}),
    "data is an object": answers(roles={"success": True, "data": {}}),
    "documents are words": answers(roles=data("scout-1")),
    "a role of another type": answers(roles=data({**ROLES[0], "role_type": "ADMIN"})),
    "a role of another space": answers(roles=data(ROLES[0], {**ROLES[0], "job_space_id": "south"})),
    "a role without an id": answers(roles=data({**ROLES[0], "role_id": ""})),
    "a role id that is a number": answers(roles=data({**ROLES[0], "role_id": 7})),
    "a subject that holds another role": answers(holders=data({**HOLDER, "role_ids": ["other"]})),
    "a subject of another space": answers(holders=data(HOLDER, {**HOLDER, "job_space_id": "south"})),
    "a subject without an id": answers(holders=data({**HOLDER, "subject_id": None})),
    "a subject id with a line break": answers(holders=data({**HOLDER, "subject_id": "a\nb"})),
    "a subject id that is far too long": answers(holders=data({**HOLDER, "subject_id": "x" * 5000})),
    "role ids that are one word": answers(holders=data({**HOLDER, "role_ids": "scout-1"})),
    "role ids of another type": answers(holders=data({**HOLDER, "role_ids": [1, "scout-1"]})),
    "a subject type that is none": answers(holders=data({**HOLDER, "subject_type": {}})),
    "not JSON": answers(raw=http(b"<html>")),
    "NaN": answers(raw=http(b'{"success": true, "data": [NaN]}')),
    "a key twice": answers(raw=http(b'{"success": false, "success": true, "data": []}')),
    "nested without end": answers(raw=http(b"[" * 5000)),
    "a list": answers(raw=http([])),
    "404": answers(raw=http({"success": True, "data": []}, "404 Not Found")),
    "500": answers(raw=http(b"", "500 Oops")),
    "a redirect": answers(raw=b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n"),
    "ten megabytes": answers(raw=http(b"[" + b" " * 2_000_000 + b"]")),
    "it hangs up": answers(raw=b""),
    "it is no HTTP": answers(raw=b"+PONG\r\n"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_answer_that_is_not_what_was_asked_for_is_not_believed(service, name):
    config = service.config()
    for part, value in WRONG[name].items():
        if value is not None:
            setattr(service, part, value)
    answer = found(config)
    assert answer.subjects == [] and answer.unknown.startswith("The role service does not say who may do it: ")
    pool = AgentCandidatePoolResolver("acme", config).pools(["north"], now=NOON)["north"]
    assert (len(pool), pool.waits, pool.free) == (0, True, 0)


def test_a_service_that_refuses_the_connection(redis, serve):
    service = Service(serve)
    config = service.config()
    service.server.close()
    assert "refused" in found(config).unknown


def test_a_service_that_is_slow_is_given_its_time_and_no_more(redis, serve):
    held = []
    server = serve(dripping(lambda: held[0], b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "))
    held.append(server)
    make_org("acme", role_group_url=f"http://{server.host}/", outbound_allow=["127.0.0.1"], role_service_timeout_ms=80)
    assert "within 0.08 s" in found(OrgConfigProvider().of("acme")).unknown


def test_slow_services_hold_a_batch_no_longer_than_one_time_limit_and_the_next_batch_gets_further(service, monkeypatch):
    """Both questions of every space share it. Time moves by hand: each answer takes 0.4 s of the 1 s."""
    at = [0.0]
    monkeypatch.setattr(services, "time", SimpleNamespace(monotonic=lambda: at[0]))
    given = []

    def send(*args, **how):
        given.append(round(how["timeout_s"], 3))
        if how["timeout_s"] < 0.4:
            at[0] += how["timeout_s"]
            raise outbound.OutboundFailed("timeout", "No answer.")
        at[0] += 0.4
        return outbound.send(*args, **{**how, "timeout_s": 2})

    config = service.config(role_service_timeout_ms=1000)
    service.roles, service.holders = [data(*[{**each, "job_space_id": ""} for each in some]) for some in (ROLES, HOLDERS)]
    batch = ServiceDirectory(RoleServices("acme", config, send=send))
    assert names(batch.find("SCOUTING", "", now=NOON)) == ["ada", "bo"]
    service.roles, service.holders = data(*ROLES), data(*HOLDERS)
    assert "No answer" in batch.find("SCOUTING", "north", now=NOON).unknown
    assert "its time is up" in batch.find("SCOUTING", "south", now=NOON).unknown
    assert given == [1.0, 0.6, 0.2] and at[0] == pytest.approx(1.0)
    later = ServiceDirectory(RoleServices("acme", config, send=send))
    assert names(later.find("SCOUTING", "", now=NOON)) == ["ada", "bo"] and len(given) == 3  # kept
    assert names(later.find("SCOUTING", "north", now=NOON + timedelta(seconds=2))) == ["ada", "bo"]


def test_a_kept_connection_that_the_service_closed_is_no_failure(service):
    once = hanging_up(b"")

    def speak(connection, request):
        return once(connection, request) and (service._speak(connection, request) or True)

    service.server._speak = speak
    assert names(found(service.config())) == ["ada", "bo"]
    assert (service.server.connections, [path for path, _ in service.asked]) == (2, ["/role-group", "/subject-roles", "/subject-roles"])


def test_an_address_inside_is_not_called(redis, serve):
    server = serve(saying(http(data())))
    make_org("acme", role_group_url=f"http://{server.host}/")  # the org does not name it in outbound_allow
    assert "not on the public internet" in found(OrgConfigProvider().of("acme")).unknown and server.connections == 0


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "http://169.254.169.254/", "file:///etc/passwd", "http://u@example.com/", "", 7, "x"])
@pytest.mark.parametrize("key", ["role_group_url", "subject_roles_url"])
def test_an_address_that_must_not_be_called_cannot_be_configured(client, redis, key, url):
    admin = bearer(make_key("acme", "org_admin", subject_id="root"))
    response = client.post(f"/org-config/acme/{key}", {"value": url}, "application/json", headers=admin)
    assert response.status_code == 422 and response.json()["errors"][0]["field"] == "value"


# ---- what becomes of the tasks ----


@pytest.fixture
def waiting(service, nats):
    from apps.tasks.queue import PriorityQueue, item_of

    task = make_task("t", job_space_id="north", queued_at=NOON)
    PriorityQueue().push("acme", [item_of(task)], now=NOON)
    return service


def status() -> str:
    return Task.objects.get(pk="acme/t").status


@pytest.mark.django_db(transaction=True)
def test_while_the_service_is_down_a_task_keeps_waiting_and_goes_when_it_is_back(waiting):
    waiting.config()
    waiting.raw = http({}, "500 Oops")
    for second in range(3):
        assert JobExecutor().run_batch(now=NOON + timedelta(seconds=second * 2)) == 0
    assert status() == "queued" and not Assignment.objects.exists()
    waiting.raw = None
    assert JobExecutor().run_batch(now=NOON + timedelta(seconds=8)) == 1
    chosen = Assignment.objects.get()
    assert chosen.head_agent_subject_id in ("ada", "bo") and chosen.decision["roles"] == {"from": "service", "age_s": 0.0}


@pytest.mark.django_db(transaction=True)
def test_a_task_with_a_deadline_to_be_assigned_fails_at_it_and_says_why(waiting):
    waiting.config(assignment_deadline_s=30)
    waiting.raw = http({"success": False, "error": "down for repair"})
    JobExecutor().run_batch(now=NOON + timedelta(seconds=5))
    assert status() == "queued"
    JobExecutor().run_batch(now=NOON + timedelta(seconds=31))
    assert status() == "failed"
    assert "does not say who may do it: It says: down for repair" in Task.objects.get(pk="acme/t").reason


@pytest.mark.django_db(transaction=True)
def test_a_decision_made_on_a_stale_answer_says_so(waiting):
    config = waiting.config(role_service_cache_s=1)
    found(config)
    Subject.objects.all().delete()
    waiting.raw = b""
    assert JobExecutor().run_batch(now=NOON + timedelta(seconds=20)) == 1
    assert Assignment.objects.get().decision["roles"]["stale"] is True
