"""Roles and subjects in the admin."""

from __future__ import annotations

import pytest

from apps.orgs.models import Change
from apps.roles.directory import RoleDirectory
from apps.roles.models import Role, RoleGroup, Subject, SubjectRole
from tests.factories import make_agent, make_org

pytestmark = pytest.mark.django_db


def rows(prefix: str, items: list[dict], initial: int = 0) -> dict:
    form = {f"{prefix}-TOTAL_FORMS": len(items), f"{prefix}-INITIAL_FORMS": initial}
    for index, item in enumerate(items):
        form |= {f"{prefix}-{index}-{name}": value for name, value in item.items()}
    return form


def role(**fields) -> dict:
    first = {"org": "acme", "role_id": "scout-1", "role_type": "SCOUTING", "job_space_id": ""}
    return {**first, **rows("groups", [{"group_id": "g1"}]), **fields}


def subject(held: list[dict], **fields) -> dict:
    first = {"org": "acme", "subject_id": "ada", "subject_type": "agent", "name": "", "is_active": "on"}
    return {**first, "capabilities": "python, prose,python", **rows("roles_held", held), **fields}


@pytest.mark.parametrize("page", ["role", "role/add", "subject", "subject/add", "role/{role}/change", "subject/{subject}/change"])
def test_every_page_opens(admin_client, page):
    made = make_agent("acme", "ada", capabilities=("python",))
    path = page.format(subject=made.pk, role=Role.objects.get().pk)
    assert admin_client.get(f"/admin/roles/{path}/").status_code == 200


def test_a_pool_is_set_up_by_hand_and_every_step_is_on_the_audit_trail(admin_client):
    make_org("acme")
    admin_client.post("/admin/roles/role/add/", role())
    admin_client.post("/admin/roles/subject/add/", subject([{"role": Role.objects.get().pk, "job_space_id": "north"}]))
    (candidate,) = RoleDirectory("acme").candidates("SCOUTING", "north")
    assert (candidate.subject_id, candidate.role_ids, candidate.capabilities) == ("ada", ("scout-1",), ("python", "prose"))
    first, second = Change.objects.order_by("id")
    assert (first.kind, first.key, first.old, first.by) == ("role", "scout-1", None, "admin admin")
    assert first.new == {"role_id": "scout-1", "role_type": "SCOUTING", "group_ids": ["g1"], "job_space_id": ""}
    assert (second.kind, second.new["job_spaces"]) == ("subject", {"north": ["scout-1"]})


def test_saving_unchanged_is_no_change_and_ids_stay(admin_client):
    make_org("acme")
    admin_client.post("/admin/roles/role/add/", role())
    made, group = Role.objects.get(), RoleGroup.objects.get()
    groups = rows("groups", [{"id": group.pk, "role": made.pk, "group_id": "g1"}], initial=1)
    admin_client.post(f"/admin/roles/role/{made.pk}/change/", {**role(), **groups, "role_id": "renamed"})
    assert Change.objects.count() == 1 and Role.objects.get().role_id == "scout-1"
    admin_client.post(f"/admin/roles/role/{made.pk}/change/", {**role(), **groups, "role_type": "WRITING"})
    assert Change.objects.first().old["role_type"] == "SCOUTING" and Change.objects.first().new["role_type"] == "WRITING"


def test_another_org_s_role_cannot_be_held(admin_client):
    make_org("acme")
    make_agent("bolt", "theirs")
    response = admin_client.post("/admin/roles/subject/add/", subject([{"role": Role.objects.get().pk, "job_space_id": ""}]))
    assert "This role belongs to another organization." in response.text
    assert not SubjectRole.objects.filter(subject__org="acme").exists()


@pytest.mark.parametrize(
    "wrong", [{"subject_id": " "}, {"subject_id": "a\u202eb"}, {"subject_id": "💡" * 180}, {"capabilities": "a\u0007"}, {"org": "x"}]
)
def test_a_subject_that_cannot_be_is_not_made(admin_client, wrong):
    make_org("acme")
    assert "errorlist" in admin_client.post("/admin/roles/subject/add/", subject([], **wrong)).text
    assert not Subject.objects.exists()


def test_switching_subjects_off_takes_them_out_of_the_pool(admin_client):
    one = make_agent("acme", "ada")
    admin_client.post("/admin/roles/subject/", {"action": "deactivate", "_selected_action": [one.pk]})
    assert RoleDirectory("acme").candidates("SCOUTING") == []
    assert Change.objects.get().new["is_active"] is False
    admin_client.post("/admin/roles/subject/", {"action": "activate", "_selected_action": [one.pk]})
    assert len(RoleDirectory("acme").candidates("SCOUTING")) == 1


def test_deleting_is_on_the_audit_trail(admin_client):
    one = make_agent("acme", "ada")
    admin_client.post(f"/admin/roles/subject/{one.pk}/delete/", {"post": "yes"})
    admin_client.post("/admin/roles/role/", {"action": "delete_selected", "_selected_action": [Role.objects.get().pk], "post": "yes"})
    assert not Subject.objects.exists() and not Role.objects.exists()
    assert list(Change.objects.order_by("id").values_list("kind", "key", "new")) == [("subject", "ada", None), ("role", "scouts", None)]
