"""The queues in the admin."""

from __future__ import annotations

import pytest

from apps.orgs.config_store import OrgConfigProvider
from apps.orgs.models import Change

pytestmark = [pytest.mark.store, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis", "nats")]
PATH = "/admin/tasks/orgqueue/"


@pytest.fixture
def admin(client, django_user_model):
    client.force_login(django_user_model.objects.create_superuser(username="admin", password=None))
    return client


def act(client, action: str, *orgs: str, reason: str = ""):
    return client.post(PATH, {"action": action, "_selected_action": orgs, "reason": reason}, follow=True)


def test_the_queues_are_shown_with_their_lanes_and_keys(yard, admin):
    yard.org()
    yard.put("<b>t1", job_space_id="lab")
    yard.put("k1", key="=customer-7")
    yard.dispatch()
    yard.put("k2", key="=customer-7")
    page = admin.get(PATH)
    assert page.status_code == 200 and "acme" in page.text
    page = admin.get(f"{PATH}acme/change/")
    assert page.status_code == 200 and "customer-7" in page.text and "has not changed" in page.text and "<b>t1" not in page.text


def test_an_org_is_paused_and_resumed_with_a_reason_that_is_kept(yard, admin):
    yard.org()
    page = act(admin, "pause", "acme", reason="the vault moves")
    assert "1 paused." in page.text and "the vault moves" in page.text
    assert OrgConfigProvider().of("acme").queue_paused == "the vault moves"
    assert "1 resumed." in act(admin, "resume", "acme").text
    assert OrgConfigProvider().of("acme").queue_paused is None
    assert set(Change.objects.filter(kind="queue").values_list("by", flat=True)) == {"admin admin"}


def test_who_may_only_look_cannot_pause(yard, client, django_user_model):
    from django.contrib.auth.models import Permission

    yard.org()
    user = django_user_model.objects.create_user("viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_orgqueue"))
    client.force_login(user)
    assert client.get(PATH).status_code == 200
    act(client, "pause", "acme", reason="x")
    assert OrgConfigProvider().of("acme").queue_paused is None
