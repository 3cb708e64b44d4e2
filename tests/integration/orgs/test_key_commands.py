"""`create_api_key` and `revoke_api_key` at the terminal."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from apps.core import clock
from apps.core.errors import Unauthenticated
from apps.orgs import keys
from apps.orgs.models import ApiKey, Org
from apps.roles.models import Subject
from tests.factories import make_org
from tests.services import free_port

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nats_away(settings):
    settings.NATS_URL = f"nats://127.0.0.1:{free_port()}"


def run(*arguments: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command(*arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_the_key_alone_is_on_stdout_so_that_a_shell_can_capture_it():
    out, err = run("create_api_key", "--org", "acme", "--create-org", "--role", "submitter", "--name", "CI")
    assert out.count("\n") == 1 and keys.ring.verify(out.strip()).org_id == "acme"
    assert out.strip() not in err and ApiKey.objects.get().key_id in err


def test_json_tells_all_about_it():
    make_org("acme")
    facts = json.loads(run("create_api_key", "--org", "acme", "--role", "operator", "--expires-days", "2", "--json")[0])
    row = ApiKey.objects.get()
    assert facts.pop("key") and facts.pop("key_id") == row.key_id
    assert facts == {"org_id": "acme", "role": "operator", "subject_id": "", "expires_at": clock.iso(row.expires_at)}
    assert timedelta(days=1, hours=23) < row.expires_at - clock.now() <= timedelta(days=2)


def test_an_agent_s_key_has_a_nats_part_and_its_subject_is_made():
    out, _ = run("create_api_key", "--org", "acme", "--create-org", "--role", "agent", "--subject", "ada the first")
    subject = Subject.objects.get()
    assert (subject.subject_id, subject.subject_type, subject.org_id) == ("ada the first", "agent", "acme")
    assert out.count(".") == 3 and ApiKey.objects.get().nats_public_key.startswith("U")
    assert keys.ring.verify(out.strip()).subject_id == "ada the first"
    run("create_api_key", "--org", "acme", "--role", "agent", "--subject", "ada the first")
    assert Subject.objects.count() == 1 and ApiKey.objects.count() == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--org", "acne", "--role", "submitter"], "Did you mean 'acme'. Add --create-org"),
        (["--org", "acme", "--role", "agent"], "add --subject"),
        (["--org", "acme", "--role", "king"], "invalid choice: 'king'"),
        (["--org", "a/b", "--create-org", "--role", "submitter"], "cannot be an organization's id"),
        (["--org", "", "--create-org", "--role", "submitter"], "cannot be an organization's id"),
        (["--org", "acme", "--role", "agent", "--subject", "x" * 200], "180"),
        (["--org", "acme", "--role", "agent", "--subject", "a\nb"], "printable"),
        (["--org", "acme", "--role", "submitter", "--expires-days", "0"], "--expires-days"),
        (["--role", "submitter"], "--org"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_left_behind(arguments, words):
    make_org("acme")
    with pytest.raises(CommandError, match=words.replace("'. ", "'\\? ")):
        run("create_api_key", *arguments)
    assert not ApiKey.objects.exists() and not Subject.objects.exists() and Org.objects.count() == 1


def test_revoking_by_id_or_by_the_key_itself():
    make_org("acme")
    for give in (lambda key: key, lambda key: key.split("_")[1]):
        key = run("create_api_key", "--org", "acme", "--role", "submitter")[0].strip()
        assert keys.ring.verify(key)
        assert "Revoked" in run("revoke_api_key", give(key))[1]
        with pytest.raises(Unauthenticated):
            keys.ring.verify(key)
    with pytest.raises(CommandError, match="no API key with the id 'nobody'"):
        run("revoke_api_key", "nobody")


def test_with_nats_away_a_revoked_agent_is_remembered_for_upkeep():
    key = run("create_api_key", "--org", "acme", "--create-org", "--role", "agent", "--subject", "ada")[0].strip()
    assert keys.revoked_on_nats() == set()
    assert "NATS could not be told" in run("revoke_api_key", key)[1]
    assert keys.revoked_on_nats() == {ApiKey.objects.get().nats_public_key}
