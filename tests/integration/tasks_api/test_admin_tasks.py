"""The admin of tasks: look at everything, type over nothing, steer through the same doors as the API."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from apps.tasks.models import Assignment, Decision, Report, Task, Transition
from tests.factories import NOON, make_entry, make_task, task_row

pytestmark = pytest.mark.store
LIST = "/admin/tasks/task/"


@pytest.fixture
def boss(acme, client):
    client.force_login(User.objects.create_superuser("boss", password="x"))
    return client


def page(boss, task_id: str) -> str:
    response = boss.get(reverse("admin:tasks_task_change", args=[f"acme/{task_id}"]))
    assert response.status_code == 200
    return response.content.decode()


def act(boss, action: str, *task_ids: str):
    chosen = {"_selected_action": [f"acme/{task_id}" for task_id in task_ids]}
    return boss.post(LIST, {"action": action, **chosen, "confirmed": "yes"}, follow=True)


QUERIES = ["", "?status__exact=queued", "?org=acme", "?agent=ada", "?space=red", "?q=t1", "?q=words", "?o=4", "?p=2"]


@pytest.mark.parametrize("query", QUERIES)
def test_the_list_filters_and_searches(boss, query):
    for index in range(3):
        make_task(f"t{index}")
    response = boss.get(LIST + query)
    assert response.status_code == 200
    if query == "?q=t1":
        assert b"acme_2Ft1" in response.content
        assert b"acme_2Ft2" not in response.content


def test_the_cost_of_the_list_does_not_grow_with_it(boss, django_assert_max_num_queries):
    for index in range(30):
        make_task(f"t{index}")
    with django_assert_max_num_queries(10):
        assert boss.get(LIST).status_code == 200


def test_the_page_of_a_task_tells_its_story(submitter, boss, django_assert_max_num_queries):
    submitter.post("/api/v1/tasks", make_entry(task_id="t1", task_goal="<script>alert(1)</script>"))
    task = Task.objects.get(pk="acme/t1")
    Assignment.objects.create(
        id="acme/t1#1", task_key=task.key, org_id="acme", attempt=1, head_agent_subject_id="ada", strategy="least_loaded",
        because="she has the most room", decision={"pool": []}, at=task.created_at,
    )  # fmt: skip
    Report.objects.create(
        id="acme/t1#1:1", task_key=task.key, org_id="acme", attempt=1, agent="ada", kind="log", body={"message": "<b>half way</b>"},
        outcome="applied", at=task.created_at,
    )  # fmt: skip
    with django_assert_max_num_queries(12):
        html = page(boss, "t1")
    for said in ("approval: approval/test@1", "submitted → queued", "she has the most room", "&lt;b&gt;half way", "ada says log"):
        assert said in html
    assert "<script>alert" not in html


def test_nothing_can_be_typed_over(boss):
    make_task("t1")
    shown = page(boss, "t1")
    assert set(re.findall(r'<input type="(?:text|number)" name="(\w+)"', shown)) == {"reason", "subject_id", "priority"}, "of the verbs"
    assert 'name="_save"' not in shown and "<textarea" not in shown
    change = reverse("admin:tasks_task_change", args=["acme/t1"])
    assert boss.post(change, {"status": "completed", "goal": "other"}).status_code == 403
    assert boss.get("/admin/tasks/task/add/").status_code == 403
    assert boss.post(reverse("admin:tasks_task_delete", args=["acme/t1"]), {"post": "yes"}).status_code == 403
    assert Task.objects.get(pk="acme/t1").status == "queued"


def test_cancel_says_by_whom(boss):
    make_task("t1")
    task_row("t2", status="completed").save(force_insert=True)
    response = act(boss, "cancel", "t1", "t2")
    assert b"1 cancelled." in response.content
    assert b"Task t2: The task has already ended." in response.content
    assert Transition.objects.get(task_key="acme/t1", new="cancelled").actor == "admin boss"


def test_requeue_takes_a_task_from_its_agent(boss):
    task_row("t1", status="running", attempt=1, head_agent_subject_id="ada", assigned_at=NOON).save(force_insert=True)
    assert b"1 queued again." in act(boss, "requeue", "t1").content
    assert Task.objects.get(pk="acme/t1").status == "queued"


@pytest.mark.parametrize(("action", "status"), [("approve", "queued"), ("reject", "rejected")])
def test_held_tasks_are_decided_here_too(boss, action, status):
    make_task("t1", status="awaiting_approval")
    act(boss, action, "t1")
    assert Task.objects.get(pk="acme/t1").status == status


def test_who_may_only_look_cannot_steer(acme, client):
    make_task("t1")
    viewer = User.objects.create_user("viewer", password="x", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_task"))
    client.force_login(viewer)
    assert client.get(LIST).status_code == 200
    act(client, "cancel", "t1")
    assert Task.objects.get(pk="acme/t1").status == "queued"


@pytest.mark.parametrize("model", ["transition", "assignment", "report"])
def test_the_histories_can_be_looked_at(boss, model):
    make_task("t1")
    assert boss.get(f"/admin/tasks/{model}/?q=acme/t").status_code == 200
    assert boss.get(f"/admin/tasks/{model}/add/").status_code == 403


def test_another_priority_is_given_to_those_chosen(boss):
    for name in ("t1", "t2"):
        make_task(name, priority=1)
    task_row("over", priority=1, status="completed").save(force_insert=True)

    def give(priority: str) -> str:
        chosen = {"action": "reprioritize", "_selected_action": ["acme/t1", "acme/over"], "priority": priority, "reason": "the board asks"}
        return boss.post(LIST, chosen, follow=True).content.decode()

    assert "1 given priority 500" in (said := give("500")) and "1 left alone" in said
    assert dict(Task.objects.values_list("task_id", "priority")) == {"t1": 500, "t2": 1, "over": 1}
    told = Decision.objects.get(kind="priority_change")
    assert (told.actor, told.because) == ("admin boss", "the board asks")
    for wrong in ("", "1001", "high"):
        assert "Priority: " in give(wrong), wrong
    assert Task.objects.get(task_id="t1").priority == 500
