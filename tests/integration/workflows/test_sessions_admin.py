"""Operators look at sessions in the admin, follow one as it runs, and steer it there."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model

from apps.workflows.models import Session, SessionEvent
from tests.integration.workflows.test_sessions_api import fan

pytestmark = pytest.mark.store
SESSIONS, ITEMS, ONE = "/admin/workflows/session/", "/admin/workflows/item/", "/admin/workflows/session/acme_2Fs1/"


@pytest.fixture
def boss(client, flow):
    client.force_login(get_user_model().objects.create_superuser("boss", password="x"))
    return client


def page(client, path):
    response = client.get(path)
    assert response.status_code == 200, path
    return response.content.decode()


def test_a_session_is_listed_and_its_page_shows_the_tree_what_happened_and_the_context(boss, flow):
    flow.run(fan(name="<b>Fan</b>"))
    listed = page(boss, SESSIONS)
    assert "s1" in listed and "&lt;b&gt;Fan" in listed and "<b>Fan" not in listed
    shown = page(boss, f"{ONE}change/")
    assert 'data-over="yes"' in shown and "3 / 3" in shown and "numbers" in shown
    assert shown.count("jp-completed") > 3
    assert "running → <strong>completed</strong>" in shown
    fragment = page(boss, f"{ONE}live/")
    assert "<html" not in fragment and "3 / 3" in fragment
    assert page(boss, f"{SESSIONS}?status__exact=failed").count("acme_2Fs1") == 0


def test_items_are_found_by_step_and_state_and_show_what_they_were_given_and_gave(boss, flow):
    flow.run(fan())
    step_run = "acme/s1:main.fan#1"
    assert "3 items" in page(boss, f"{ITEMS}?step_run={step_run.replace('#', '%23')}")
    assert "0 items" in page(boss, f"{ITEMS}?step_run={step_run.replace('#', '%23')}&status__exact=failed")
    shown = page(boss, "/admin/workflows/item/acme_2Fs1_3Amain.fan_231_2F2/change/")
    assert "&quot;n&quot;: 2" in shown
    assert "completed" in page(boss, "/admin/workflows/sessionevent/?q=acme/s1")


def test_an_operator_pauses_resumes_and_cancels_with_a_reason_and_nothing_can_be_typed_over(boss, flow):
    flow.start(fan())
    for verb, status in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        response = boss.post(f"{ONE}steer/", {"verb": verb, "reason": f"to {verb}", "confirmed": "yes"})
        assert (response.status_code, response["Location"]) == (302, f"{ONE}change/")
        assert Session.objects.get(pk="acme/s1").status == status
    told = SessionEvent.objects.filter(session_key="acme/s1", path="", new="cancelled").get()
    assert (told.actor, told.reason) == ("admin boss", "to cancel")
    boss.post(SESSIONS, {"action": "pause", "_selected_action": ["acme/s1"]})
    assert Session.objects.get(pk="acme/s1").status == "cancelled"  # refused, with a message, not an error
    assert boss.post(f"{ONE}steer/", {"verb": "delete"}).status_code == 403
    assert boss.get(f"{ONE}steer/").status_code == 403
    assert boss.post(f"{ONE}change/", {"name": "x"}).status_code == 403


def test_who_may_only_look_can_only_look(client, flow):
    from django.contrib.auth.models import Permission

    flow.start(fan())
    user = get_user_model().objects.create_user("eve", password="x", is_staff=True)
    client.force_login(user)
    assert client.get(f"{ONE}live/").status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="view_session", content_type__app_label="workflows"))
    assert 'name="verb"' not in page(client, f"{ONE}change/")
    assert client.post(f"{ONE}steer/", {"verb": "cancel"}).status_code == 403
    assert Session.objects.get(pk="acme/s1").status == "running"
