"""Organizations, their configuration, keys and the audit trail in the admin."""

from __future__ import annotations

import re

import pytest

from apps.core import redis as door
from apps.core.errors import Unauthenticated
from apps.orgs import keys
from apps.orgs.config_store import OrgConfigProvider
from apps.orgs.models import ApiKey, Change, Org, OrgConfigParameter
from apps.roles.models import Subject
from tests.factories import make_key, make_org
from tests.services import free_port

pytestmark = pytest.mark.django_db


def org_form(parameters: list[dict], *, initial: int = 0, **fields) -> dict:
    form = {"name": "Acme", "is_active": "on", "parameters-TOTAL_FORMS": len(parameters), "parameters-INITIAL_FORMS": initial, **fields}
    for index, row in enumerate(parameters):
        form |= {f"parameters-{index}-{name}": value for name, value in {"org": "acme", **row}.items()}
    return form


@pytest.fixture
def change(admin_client, redis):
    make_org("acme")

    def change(parameters, **more):
        return admin_client.post("/admin/orgs/org/acme/change/", org_form(parameters, **more), follow=True)

    return change


def errors_in(response) -> list[str]:
    forms = response.context["inline_admin_formsets"][0].formset.forms
    return [error for form in forms for errors in form.errors.values() for error in errors]


@pytest.mark.parametrize("page", ["org", "org/add", "apikey", "apikey/add", "change", "org/acme/change"])
def test_every_page_opens(admin_client, redis, page):
    make_org("acme", max_attempts=3, of_another_release=1)
    make_key("acme", "agent", subject_id="ada")
    response = admin_client.get(f"/admin/orgs/{page}/")
    assert response.status_code == 200
    assert "Job platform" in response.text


def test_the_org_page_explains_every_key(admin_client, redis):
    make_org("acme", max_attempts=3)
    text = admin_client.get("/admin/orgs/org/acme/change/").text
    assert "how often a task is given to an agent before it fails" in text and "script that picks the head agent" in text


def test_values_are_typed_as_people_type_them_and_go_through_the_store(change):
    change(
        [
            {"key": "agent_resolution_strategy", "value": "round_robin"},
            {"key": "max_attempts", "value": "3"},
            {"key": "approval_dsl_id", "value": "null"},
            {"key": "agent_resolution_fallbacks", "value": '["static"]'},
            {"key": "static_head_agent_subject_id", "value": "007"},
            {"key": "verification_required", "value": "true"},
        ]
    )
    config = OrgConfigProvider().of("acme")
    assert (config.agent_resolution_strategy, config.max_attempts, config.approval_dsl_id) == ("round_robin", 3, None)
    assert (config.agent_resolution_fallbacks, config.static_head_agent_subject_id, config.version) == (("static",), "007", 6)
    assert set(Change.objects.filter(kind="config").values_list("by", flat=True)) == {"admin admin"}


def test_a_wrong_value_is_told_beside_the_field_and_nothing_changes(change):
    response = change([{"key": "max_attempts", "value": "0"}, {"key": "agent_resolution_strategy", "value": "auktion"}])
    assert [error.split("…")[0] for error in errors_in(response)] == [
        "must be a whole number 1",
        "must be one of static, least_loaded, round_robin, auction, plan+retrieve; did you mean 'auction'?",
    ]
    assert not OrgConfigParameter.objects.exists()


def test_the_same_key_cannot_stand_twice(change):
    assert "max_attempts" in change([{"key": "max_attempts", "value": "2"}] * 2).text
    assert not OrgConfigParameter.objects.exists()


def test_changing_and_removing_a_parameter(change):
    OrgConfigProvider().set("acme", "max_attempts", 3, by="x", now=Org.objects.get().created_at)
    row = OrgConfigParameter.objects.get()
    change([{"id": row.pk, "value": "4"}], initial=1)
    assert OrgConfigProvider().of("acme").max_attempts == 4 and OrgConfigParameter.objects.get().version == 2
    change([{"id": row.pk, "value": "4"}], initial=1)  # saved again, nothing changed
    assert OrgConfigParameter.objects.get().version == 2
    change([{"id": row.pk, "value": "4", "DELETE": "on"}], initial=1)
    assert OrgConfigProvider().of("acme").max_attempts == 5
    assert list(Change.objects.filter(kind="config").order_by("id").values_list("old", "new")) == [(None, 3), (3, 4), (4, None)]


def test_with_redis_away_the_change_is_refused_with_a_word(change, settings):
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    door.reset()
    response = change([{"key": "max_attempts", "value": "3"}])
    assert "Redis is away; nothing was changed." in response.text and not OrgConfigParameter.objects.exists()


def test_an_org_is_made_with_its_configuration_and_never_deleted(admin_client, redis):
    admin_client.post("/admin/orgs/org/add/", org_form([{"org": "", "key": "max_attempts", "value": "3"}], org_id="bolt"))
    assert OrgConfigProvider().of("bolt").max_attempts == 3
    assert admin_client.post("/admin/orgs/org/bolt/delete/", {"post": "yes"}).status_code == 403
    admin_client.post("/admin/orgs/org/add/", org_form([], org_id="no/slash"))
    assert list(Org.objects.values_list("pk", flat=True)) == ["bolt"]


def test_making_an_org_inactive_closes_its_keys(change):
    key = make_key("acme")
    assert keys.ring.verify(key)
    change([], is_active="")
    with pytest.raises(Unauthenticated):
        keys.ring.verify(key)


def test_a_new_key_is_shown_on_one_page_and_never_again(admin_client, redis):
    make_org("acme")
    form = {"org": "acme", "role": "agent", "subject_id": "ada", "name": "the first", "expires_at_0": "", "expires_at_1": ""}
    response = admin_client.post("/admin/orgs/apikey/add/", form)
    printed = re.search(r"jp_[^<\s]+", response.text).group()
    assert response.status_code == 200 and "no-store" in response["Cache-Control"]
    assert keys.ring.verify(printed).subject_id == "ada" and printed.count(".") == 3
    row = ApiKey.objects.get()
    pages = [admin_client.get(path).text for path in ("/admin/orgs/apikey/", f"/admin/orgs/apikey/{row.pk}/change/", "/admin/orgs/change/")]
    secret = printed.split("_", 2)[2].split(".")[0]
    assert not any(secret in page or row.secret_hash in page for page in pages)
    assert Subject.objects.get().subject_id == "ada"


@pytest.mark.parametrize(
    "wrong",
    [{"role": "agent"}, {"role": "king"}, {"org": "nobody"}, {"expires_at_0": "2020-01-01"}, {"subject_id": "x" * 181}],
)
def test_a_key_that_cannot_be_is_not_made(admin_client, redis, wrong):
    make_org("acme")
    form = {"org": "acme", "role": "submitter", "subject_id": "", "name": "", "expires_at_0": "", "expires_at_1": "", **wrong}
    assert "errorlist" in admin_client.post("/admin/orgs/apikey/add/", form).text
    assert not ApiKey.objects.exists()


def test_revoking_is_an_action_and_deleting_is_not(admin_client, redis):
    key = make_key("acme")
    row = ApiKey.objects.get()
    response = admin_client.post("/admin/orgs/apikey/", {"action": "revoke", "_selected_action": [row.pk], "confirmed": "yes"}, follow=True)
    assert "1 revoked" in response.text and "delete_selected" not in response.text
    with pytest.raises(Unauthenticated):
        keys.ring.verify(key)
    assert Change.objects.filter(key=row.pk, by="admin admin").exists()
    admin_client.post(f"/admin/orgs/apikey/{row.pk}/change/", {"name": "renamed", "role": "org_admin"})
    row.refresh_from_db()
    assert (row.name, row.role) == ("renamed", "submitter")


def test_the_audit_trail_can_only_be_read(admin_client, redis):
    make_key("acme")
    row = Change.objects.first()
    assert admin_client.get(f"/admin/orgs/change/{row.pk}/change/").status_code == 200
    assert admin_client.post(f"/admin/orgs/change/{row.pk}/change/", {"by": "nobody"}).status_code == 403
    assert admin_client.post(f"/admin/orgs/change/{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert admin_client.get("/admin/orgs/change/add/").status_code == 403
