"""Pause, drain, revoke, and an org that is switched off: what becomes of the tasks, on every store."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import orjson
import pytest
from nats.errors import Error as NatsError

from apps.agents import heartbeats
from apps.agents.heartbeats import Ear, read_heartbeat
from apps.agents.models import AgentRecord
from apps.agents.presence import PresenceBoard
from apps.agents.records import AgentBook, AgentChanged
from apps.core import clock, events
from apps.messaging import subjects
from apps.orgs import keys
from apps.orgs.models import Change, Org
from apps.tasks import reassign
from apps.tasks.models import Assignment, Task
from jobplatform_sdk.credentials import split_key
from tests.factories import NOON, make_agent, make_key, make_org, task_row

pytestmark = pytest.mark.store


def book(floor) -> AgentBook:
    return AgentBook("acme", by="olga", now=floor.now)


def test_a_paused_agent_finishes_what_it_has_and_the_others_get_the_rest(floor):
    floor.hire("ada", "bo")
    floor.beat("ada")
    floor.queue("t1")
    floor.dispatch()
    book(floor).pause("ada", "new disk")
    floor.beat("ada", "bo")
    floor.queue("t2", "t3")
    floor.dispatch()
    assert (floor.agent_of("t1"), floor.agent_of("t2"), floor.agent_of("t3")) == ("ada", "bo", "bo")
    assert Assignment.objects.get(pk="acme/t2#1").decision["barred"] == {"ada": "paused: new disk"}
    floor.completes("t1")
    assert floor.task("t1").status == "completed"


def test_tasks_of_a_lone_paused_agent_wait_and_go_on_when_it_resumes(floor):
    floor.hire("ada")
    floor.beat("ada")
    book(floor).pause("ada")
    floor.queue("t1")
    floor.dispatch()
    assert floor.task("t1").status == "queued"
    book(floor).resume("ada")
    floor.dispatch()
    assert floor.task("t1").status == "dispatched"


def test_a_draining_agent_is_drained_once_it_has_nothing_left(floor):
    floor.hire("ada")
    floor.beat("ada")
    floor.queue("t1")
    floor.dispatch()
    book(floor).drain("ada")
    reassign.tend(now=floor.later(5))
    assert AgentRecord.objects.get().drained_at is None
    floor.completes("t1")
    reassign.tend(now=floor.later(5))
    reassign.tend(now=floor.later(5))
    assert AgentRecord.objects.get().drained_at == floor.now - timedelta(seconds=5)
    drained = [change.new for change in Change.objects.filter(kind="agent") if change.new.get("drained")]
    assert drained == [{"mode": "draining", "drained": True}]


def test_a_dispatcher_that_chose_just_before_the_drain_is_waited_for(floor):
    floor.hire("ada")
    floor.beat("ada")
    book(floor).drain("ada")
    reassign.tend(now=floor.later(1))
    assert AgentRecord.objects.get().drained_at is None  # who chose a moment ago has not written yet
    reassign.tend(now=floor.later(5))
    assert AgentRecord.objects.get().drained_at == floor.now
    # One slower than that, an auction say: it is not drained after all, until that task has ended too.
    task_row("slow", status="dispatched", head_agent_subject_id="ada", attempt=1).save(force_insert=True)
    reassign.tend(now=floor.later(5))
    assert AgentRecord.objects.get().drained_at is None
    Task.objects.update(status="completed")
    reassign.tend(now=floor.later(5))
    assert AgentRecord.objects.get().drained_at == floor.now


def test_a_revoked_agents_tasks_go_to_others_at_once_and_say_why(floor):
    floor.hire("ada", "bo")
    floor.beat("ada")
    floor.queue("t1", "t2")
    floor.dispatch()
    floor.runs("t1")
    book(floor).revoke("ada", "compromised")
    for name in ("t1", "t2"):
        task = floor.task(name)
        assert (task.status, task.reason, task.max_attempts) == ("queued", "ada was revoked: compromised", 6)
    floor.beat("ada", "bo")
    floor.dispatch()
    assert {floor.agent_of("t1"), floor.agent_of("t2")} == {"bo"}


def test_a_revocation_that_nobody_heard_of_is_found_by_upkeep(floor, monkeypatch):
    floor.hire("ada", "bo")
    floor.beat("ada")
    floor.queue("t1")
    floor.dispatch()
    monkeypatch.setattr(events, "_handlers", {**events._handlers, AgentChanged: []})
    book(floor).revoke("ada")
    assert floor.task("t1").status == "dispatched"
    reassign.tend(now=floor.later(1))
    assert (floor.task("t1").status, floor.task("t1").reason) == ("queued", "ada was revoked")


def test_when_all_are_revoked_a_task_fails_and_says_so(floor):
    floor.hire("ada")
    floor.beat("ada")
    book(floor).revoke("ada")
    floor.queue("t1")
    floor.dispatch()
    assert floor.task("t1").status == "failed"
    assert "revoked" in floor.task("t1").reason


def test_a_task_goes_only_to_an_agent_that_can_do_it(floor):
    floor.hire("ada", capabilities=("python",))
    floor.hire("bo", "cy")
    floor.beat("ada", "bo", "cy")
    book(floor).announce("bo", {"capabilities": ["gpu", "python"], "job_kinds": ["ocr"], "max_payload_bytes": 2000})
    book(floor).announce("ada", {"capabilities": ["python", "gpu"]})  # gpu is not on the org's list for ada
    floor.queue("t1", steering={"capabilities": ["gpu"], "job_kind": "ocr"})
    floor.queue("t2", steering={"capabilities": ["gpu"], "job_kind": "speech"})
    floor.queue("t3", steering={"capabilities": ["gpu"], "note": "x" * 3000})
    floor.dispatch()
    assert floor.agent_of("t1") == "bo"
    assert "does not take jobs of kind speech" in floor.task("t2").reason
    assert "takes at most 2000 bytes" in floor.task("t3").reason
    assert "ada lacks gpu" in floor.task("t2").reason


# ---- what agents say of themselves ----


def beat(ear: Ear, *, now=NOON, agent: str = "ada", **body) -> bool:
    raw = orjson.dumps({"instance": "i1", "slots": 2, **body})
    return ear.hear(read_heartbeat(subjects.heartbeat(subjects.agent_token("acme", agent)), raw), now=now)


@pytest.fixture
def ada(db, redis):
    make_agent("acme", "ada")


def test_a_card_in_a_heartbeat_is_kept_and_a_bad_one_leaves_the_last_good_one(ada):
    ear = Ear()
    assert beat(ear, card={"capabilities": ["gpu"], "from_a_newer_sdk": 1})
    assert AgentRecord.objects.get().card["capabilities"] == ["gpu"]
    assert not beat(ear, card={"capabilities": ["gpu"], "from_a_newer_sdk": 1})
    beat(ear, card={"capabilities": [7], "slots": -1})
    row = AgentRecord.objects.get()
    assert row.card["capabilities"] == ["gpu"]
    assert "card.capabilities.0" in row.card_problem and "card.slots" in row.card_problem
    assert not beat(Ear(), agent="stranger", card={}) or not AgentRecord.objects.filter(subject_id="stranger").exists()


def test_an_agent_that_pauses_itself_gets_nothing_and_the_audit_trail_says_so(floor):
    floor.hire("ada")
    ear = Ear()
    beat(ear)
    beat(ear, intake="paused")
    floor.queue("t1")
    floor.dispatch()
    assert floor.task("t1").status == "queued"
    assert beat(ear)
    floor.dispatch()
    assert floor.task("t1").status == "dispatched"
    said = list(Change.objects.filter(kind="agent", by="agent:ada").order_by("pk").values_list("old__intake", "new__intake"))
    assert said == [("open", "paused"), ("paused", "open")]


def test_the_slots_of_several_processes_add_up_and_a_paused_one_does_not_count(ada):
    ear, board = Ear(), PresenceBoard()
    beat(ear, instance="a", slots=3)
    beat(ear, instance="b", slots=4)
    assert board.states("acme", ["ada"], now=NOON)["ada"].slots == 7
    beat(ear, instance="b", slots=4, intake="draining")
    state = board.states("acme", ["ada"], now=NOON)["ada"]
    assert (state.slots, state.intake, len(state.instances(now=NOON))) == (3, "open", 2)
    beat(ear, instance="a", slots=3, leaving=True)
    assert board.states("acme", ["ada"], now=NOON)["ada"].intake == "draining"


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"slots": null}', b'{"slots": 1, "intake": "never"}', b'{"slots": 1, "intake": []}'])
def test_what_is_no_heartbeat_is_refused(raw):
    with pytest.raises(ValueError):
        read_heartbeat(subjects.heartbeat("acme=3Aada"), raw)


def test_when_it_was_last_seen_outlives_redis(ada, redis):
    beat(Ear())
    heartbeats.tend(now=NOON)
    redis.flushall()
    assert AgentRecord.objects.get().last_seen_at == NOON


# ---- an org that is switched off ----


def enter(url: str, api_key: str) -> None:
    import nats as nats_py

    async def quiet(_error: Exception) -> None:
        pass

    async def visit() -> None:
        key = split_key(api_key)
        options = {"user_jwt_cb": key.jwt.encode, "signature_cb": key.signer(), "error_cb": quiet}
        await (await nats_py.connect(url, allow_reconnect=False, max_reconnect_attempts=1, **options)).close()

    asyncio.run(visit())


def test_agents_of_an_inactive_org_are_shut_out_of_nats_and_come_back_with_it(db, redis, nats):
    theirs, others, revoked = make_key("acme", "agent", "ada"), make_key("umbra", "agent", "eve"), make_key("acme", "agent", "bo")
    keys.revoke(revoked.split("_")[1], by="tests", now=clock.now())
    make_org("acme")
    Org.objects.filter(pk="acme").update(is_active=False)
    assert keys.org_switched("acme", now=clock.now())
    with pytest.raises(NatsError):
        enter(nats, theirs)
    enter(nats, others)
    Org.objects.filter(pk="acme").update(is_active=True)
    assert keys.org_switched("acme", now=clock.now() + timedelta(seconds=2))
    enter(nats, theirs)
    with pytest.raises(NatsError):
        enter(nats, revoked)
