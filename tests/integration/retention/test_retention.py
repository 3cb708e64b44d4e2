"""What ended goes when its time is over, whole; what something open needs stays."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from apps.core import bulk, clock
from apps.messaging.envelope import ReportKind
from apps.orgs.config_store import OrgConfigProvider
from apps.retention.keeper import Keeper
from apps.tasks.models import DeadLetter, Task
from apps.tasks.operating import dead_letters
from apps.workflows.models import Item, Session, Step
from tests.factories import bearer, make_agent, make_key, make_org
from tests.integration.retention.life import do, models, rows, submit

pytestmark = [pytest.mark.store, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis", "nats")]

ALWAYS = 'def approve(task):\n    return {"accepted": True, "reason": "fine"}'


class Died(Exception):
    pass


def later(days: float):
    return clock.now() + timedelta(days=days)


@pytest.fixture
def acme():
    from apps.dsl.scripts import register

    make_org("acme", approval_dsl_id="approval/yes", agent_resolution_strategy="round_robin")
    make_agent("acme", "ada")
    register(org_id="acme", script_id="approval/yes", hook="approval", source=ALWAYS, by="tests", now=clock.now(), activate=True)


def naming(task_key: str) -> list[str]:
    """Tables with a row that names the task."""
    found = [m for m in models() if any(f.name == "task_key" for f in m._meta.fields) and m.objects.filter(task_key=task_key).exists()]
    found += [m for m in (Task, DeadLetter) if m.objects.filter(pk=task_key).exists()]
    return sorted(model.__name__ for model in found)


def test_an_ended_task_goes_with_everything_that_names_it_and_an_open_one_stays(acme, client):
    submit("acme", "t1", "t2")
    do("acme", "t1", "t2")
    submit("acme", "open")
    assert naming("acme/t1") == ["Assignment", "Evidence", "PolicyRun", "Report", "Task", "Transition"]
    before = naming("acme/open")
    assert not Keeper().run(now=later(364)).rows
    assert naming("acme/t1") == ["Assignment", "Evidence", "PolicyRun", "Report", "Task", "Transition"]
    done = Keeper().run(now=later(366))
    assert done.rows["tasks"]["tasks.Task"] == 2 and naming("acme/t1") == naming("acme/t2") == []
    assert naming("acme/open") == before, "however old it is"
    head = bearer(make_key("acme"))
    assert client.get("/api/v1/tasks/t1", headers=head).status_code == 404
    submit("acme", "t1")
    assert client.get("/api/v1/tasks/t1", headers=head).json()["status"] == "queued", "its id is free"
    do("acme", "t1", "open")
    assert naming("acme/t1") == ["Assignment", "Evidence", "PolicyRun", "Report", "Task", "Transition"]


def test_decisions_go_before_their_task_where_an_org_wants_that(acme):
    OrgConfigProvider().set("acme", "decision_retention_days", 90, by="ann", now=clock.now())
    submit("acme", "t1", "open")
    do("acme", "t1")
    before = naming("acme/open")
    assert not Keeper().run(now=later(89)).rows
    assert Keeper().run(now=later(91)).rows.keys() == {"policy_runs"}
    assert naming("acme/t1") == ["Assignment", "Evidence", "Report", "Task", "Transition"]
    assert naming("acme/open") == before


def test_zero_is_for_ever_and_each_org_has_its_own_time(acme):
    make_org("globex", approval_dsl_id="approval/yes", task_retention_days=0)
    OrgConfigProvider().set("acme", "task_retention_days", 2, by="ann", now=clock.now())
    for org_id in ("acme", "globex"):
        submit(org_id, "t1")
        Task.objects.filter(org_id=org_id).update(status="cancelled", finished_at=clock.now())
    Keeper().run(now=later(1.9))
    assert Task.objects.count() == 2
    Keeper().run(now=later(9000))
    assert list(Task.objects.values_list("key", flat=True)) == ["globex/t1"]


def test_a_dead_letter_that_waits_keeps_its_task_and_a_settled_one_goes_with_it(acme):
    submit("acme", "bad")
    do("acme", "bad", kind=ReportKind.FAILED)
    Keeper().run(now=later(9000))
    assert naming("acme/bad") == ["Assignment", "DeadLetter", "Evidence", "PolicyRun", "Report", "Task", "Transition"]
    dead_letters.discard(dead_letters.find("acme", "bad"), reason="nobody needs it", actor="olga", now=clock.now())
    Keeper().run(now=later(9000))
    assert naming("acme/bad") == []


def test_families_stay_together_as_long_as_one_of_them_is_open(acme):
    submit("acme", "parent", "lone")
    rows_ = {"status": "completed", "finished_at": clock.now()}
    Task.objects.filter(task_id="lone").update(parent_key="acme/parent", kind="sub_task", **rows_)
    Keeper().run(now=later(9000))
    assert Task.objects.count() == 2, "its parent is open"
    Task.objects.filter(task_id="lone").update(status="queued")
    Task.objects.filter(task_id="parent").update(**rows_)
    Keeper().run(now=later(9000))
    assert Task.objects.count() == 2, "its part is open"
    Task.objects.filter(task_id="lone").update(**rows_)
    Keeper().run(now=later(9000))
    Keeper().run(now=later(9000))
    assert Task.objects.count() == 0


def test_the_tasks_of_a_session_stay_while_it_goes_on(flow, hand):
    items = {"type": "array", "array_mapping": {"doc": "docs"}}
    step = {"key": "read", "executor": "agent", "message_template": "Read {doc}", "expansion_config": items}
    session_id = flow.start({"context": {"docs": ["a", "b"]}, "tasks": [step]})
    hand.deliver()
    first, second = Task.objects.order_by("sequence")
    over = {"status": "completed", "finished_at": clock.now()}
    Task.objects.filter(pk=first.pk).update(**over)
    Keeper().run(now=later(9000))
    assert Task.objects.count() == 2 and Session.objects.count() == 1
    Task.objects.filter(pk=second.pk).update(**over)
    hand.tend()
    hand.settle()
    assert flow.status(session_id) == "completed"
    Keeper().run(now=later(9000))
    kept = {"orgs.Org", "orgs.OrgConfigParameter", "dsl.PolicyScript", "orgs.Change"}
    assert rows().keys() <= kept, "the session, its context, its items and their tasks are gone"


def test_a_pass_that_died_is_finished_by_the_next_and_nobody_finds_half_a_session(flow, hand, monkeypatch):
    items = {"type": "array", "array_mapping": {"n": "numbers"}}
    echo = {"key": "fan", "agent_class": "Echo", "expansion_config": items}
    session_id = flow.run({"context": {"numbers": list(range(30))}, "tasks": [echo]})
    remove, calls = bulk.remove, []

    def remove_twice(model, **where):
        calls.append(model)
        if len(calls) > 2:
            raise Died
        return remove(model, **where)

    monkeypatch.setattr(bulk, "remove", remove_twice)
    with pytest.raises(Died):
        Keeper().run(now=later(9000))
    monkeypatch.undo()
    assert Session.objects.count() == 1 and Item.objects.count() == 0 and Step.objects.count() > 0
    from apps.workflows.engine.store import UnknownSession

    for ask in (flow.get, lambda name: flow.sessions.retry(flow.principal, name, now=clock.now())):
        with pytest.raises(UnknownSession):
            ask(session_id)
    assert flow.sessions.list(flow.principal)[0] == []
    Keeper().run(now=later(9000))
    assert Session.objects.count() == Step.objects.count() == 0


def test_a_slice_says_where_it_stopped_and_the_next_goes_on_there(acme):
    for org_id in ("bar", "foo"):
        make_org(org_id, approval_dsl_id="approval/yes")
    for org_id in ("acme", "bar", "foo"):
        submit(org_id, "t1")
    Task.objects.update(status="cancelled", finished_at=clock.now())
    start, seen = "", []
    while start is not None:
        start = Keeper().run(now=later(9000), seconds=0, start=start).left_at
        seen.append(start)
    assert Task.objects.count() == 0 and seen[-1] is None
    assert [org for number, org in enumerate(seen[:-1]) if org not in seen[:number]] == ["acme", "bar", "foo"]


def test_a_dry_run_says_what_a_real_one_removes_and_removes_nothing(acme, capsys):
    submit("acme", "t1", "t2")
    do("acme", "t1", "t2")
    before = rows()
    would = Keeper().run(now=later(9000), dry=True)
    assert rows() == before
    call_command("retention", "--dry-run", "--at", "2125-01-01T00:00:00Z")
    said = capsys.readouterr().out
    assert "tasks.Transition" in said and said.endswith(f"{would.total} rows would be removed.\n")
    with pytest.raises(CommandError):
        call_command("retention", "--at", "2125-01-01T00:00:00Z")
    done = Keeper().run(now=later(9000))
    assert done.rows["tasks"]["tasks.Transition"] == would.rows["tasks"]["tasks.Transition"] > 0
    assert done.rows["tasks"]["tasks.Task"] == 2
