"""Agents and enrolments in the admin."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse

from apps.agents.models import AgentRecord, Enrolment
from apps.roles.models import Role
from tests.factories import make_agent

pytestmark = [pytest.mark.django_db, pytest.mark.store]


@pytest.fixture
def ada(redis):
    return make_agent("acme", "ada", capabilities=("python",))


def test_the_list_and_the_page_show_how_an_agent_does(admin_client, ada):
    make_agent("acme", "pia", subject_type="human")
    page = admin_client.get(reverse("admin:agents_agent_changelist")).text
    assert "ada" in page and "0.50 (0.05–0.95)" in page and "pia" not in page
    assert "python" in admin_client.get(reverse("admin:agents_agent_change", args=[ada.pk])).text


def test_verbs_go_the_ways_of_the_api(admin_client, ada):
    def act(verb: str) -> str:
        data = {"action": verb, "_selected_action": [ada.pk], "confirmed": "yes"}
        return admin_client.post(reverse("admin:agents_agent_changelist"), data, follow=True).text

    assert "1 paused." in act("pause")
    assert AgentRecord.objects.get().mode_by == "admin admin"
    assert "The agent is paused." in act("undrain")
    act("resume")
    assert AgentRecord.objects.get().mode == "active"


def test_an_enrolment_is_made_and_its_token_shown_once(admin_client, ada):
    form = reverse("admin:agents_enrolment_add")
    data = {"org": "acme", "subject_id": "new", "roles": [Role.objects.get().pk], "job_space_id": "", "name": "", "hours": "2"}
    page = admin_client.post(form, data).text
    token = re.search(r"je_[0-9a-f]{12}_[\w-]{43}", page)[0]
    row = Enrolment.objects.get()
    assert (row.subject_id, row.role_ids, token.split("_")[1]) == ("new", ["scouts"], row.pk)
    for look in (reverse("admin:agents_enrolment_changelist"), reverse("admin:agents_enrolment_change", args=[row.pk])):
        found = admin_client.get(look)
        assert found.status_code == 200 and token.split("_", 2)[2] not in found.text


def test_an_enrolment_that_cannot_be_is_refused_in_the_form(admin_client, ada):
    make_agent("acme", "pia", subject_type="human")
    data = {"org": "acme", "subject_id": "pia", "roles": [], "job_space_id": "", "name": "", "hours": "2"}
    assert "is a person" in admin_client.post(reverse("admin:agents_enrolment_add"), data).text
    assert not Enrolment.objects.exists()
