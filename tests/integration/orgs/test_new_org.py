"""`manage.py new_org`: from nothing to a first task in one line of a shell."""

from __future__ import annotations

import shlex

import pytest
from django.core.management import CommandError

from apps.orgs import keys
from apps.orgs.models import ApiKey, Change, Org
from apps.roles.models import SubjectRole
from jobplatform import env
from tests.factories import make_org
from tests.integration.orgs.test_key_commands import nats_away, run  # noqa: F401

pytestmark = pytest.mark.django_db


def exported(out: str) -> dict[str, str]:
    words = [shlex.split(line) for line in out.splitlines()]
    assert all(word[0] == "export" and len(word) == 2 for word in words)
    return dict(word[1].split("=", 1) for word in words)


def test_an_org_an_admin_and_agents_that_are_candidates(monkeypatch):
    stack = {"urls": {"web": "http://127.0.0.1:8123", "nats": "nats://127.0.0.1:8124"}, "ports": {"web": 8123, "nats": 8124}}
    monkeypatch.setattr(env, "running_stack", lambda: stack)
    out, err = run("new_org", "acme", "--agent", "ada", "--agent", "bo the 2nd")
    found = exported(out)
    assert list(found) == ["JOBPLATFORM_URL", "JOBPLATFORM_NATS_URL", "JOBPLATFORM_API_KEY", "ADMIN_KEY", "ADA_KEY", "BO_THE_2ND_KEY"]
    assert (found["JOBPLATFORM_URL"], found["JOBPLATFORM_NATS_URL"]) == ("http://127.0.0.1:8123", "nats://127.0.0.1:8124")
    admin, ada = keys.ring.verify(found["ADMIN_KEY"]), keys.ring.verify(found["ADA_KEY"])
    assert (admin.org_id, admin.role, ada.role, ada.subject_id) == ("acme", "org_admin", "agent", "ada")
    assert set(SubjectRole.objects.values_list("subject__subject_id", "role__role_type")) == {
        ("ada", "SCOUTING"),
        ("bo the 2nd", "SCOUTING"),
    }
    assert {"org", "api_key", "role", "subject"} <= set(Change.objects.values_list("kind", flat=True))
    assert not [value for name, value in found.items() if not name.endswith("_URL") and value in err]


def test_the_address_of_a_server_of_ones_own_is_not_given_to_agents(monkeypatch):
    stack = {"urls": {"web": "http://127.0.0.1:8123", "nats": "nats://platform:secret@nats:4222"}, "ports": {"web": 8123}}
    monkeypatch.setattr(env, "running_stack", lambda: stack)
    assert "JOBPLATFORM_NATS_URL" not in exported(run("new_org", "acme")[0])


def test_an_org_that_is_there_keeps_what_it_has():
    make_org("acme")
    with pytest.raises(CommandError, match="'acme' is an organization already. `create_api_key --org acme …` makes further keys."):
        run("new_org", "acme", "--agent", "ada")
    assert not ApiKey.objects.exists()


def test_what_a_shell_cannot_name_gets_another_name():
    out, _ = run("new_org", "acme", "--agent", "2nd", "--agent", "a-b", "--agent", "a.b", "--agent", "2nd")
    assert list(exported(out))[-3:] == ["_2ND_KEY", "A_B_KEY", "A_B_KEY_"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a b"], "'a b' cannot be an organization's id"),
        (["acme", "--agent", ""], "an agent's key must name its subject"),
        (["acme", "--agent", "x" * 300], "at most 180 printable characters"),
    ],
)
def test_what_cannot_be_is_refused_whole(arguments, words):
    with pytest.raises(CommandError, match=words):
        run("new_org", *arguments)
    assert not Org.objects.exists()
