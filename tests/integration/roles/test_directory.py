"""Who could do it."""

from __future__ import annotations

import pytest
from django.db import transaction

from apps.roles.book import RoleBook
from apps.roles.directory import CandidateSubject, RoleDirectory
from apps.roles.documents import RoleDocument, SubjectDocument
from apps.roles.models import Role, Subject
from tests.factories import NOON, make_agent, make_org

pytestmark = pytest.mark.django_db


def ids_of(role_type="SCOUTING", space="", org_id="acme"):
    return [candidate.subject_id for candidate in RoleDirectory(org_id).candidates(role_type, space)]


def test_holders_of_a_role_of_the_type_are_candidates_in_order_of_their_ids():
    make_agent("acme", "bo", capabilities=("python", "prose"))
    make_agent("acme", "bo", role_id="second", capabilities=("python", "prose"))
    make_agent("acme", "ada", subject_type="human")
    make_agent("acme", "writer", role_id="writers", role_type="WRITING")
    assert RoleDirectory("acme").candidates("SCOUTING") == [
        CandidateSubject(subject_id="ada", subject_type="human", role_ids=("scouts",), capabilities=()),
        CandidateSubject(subject_id="bo", subject_type="agent", role_ids=("scouts", "second"), capabilities=("python", "prose")),
    ]


def test_an_empty_space_on_a_role_or_a_holding_means_every_space():
    Role.objects.create(org=make_org("acme"), role_id="north-scouts", role_type="SCOUTING", job_space_id="north")
    make_agent("acme", "everywhere")
    make_agent("acme", "in-north", job_space_id="north")
    make_agent("acme", "by-role", role_id="north-scouts")
    make_agent("acme", "nowhere", role_id="north-scouts", job_space_id="south")
    assert ids_of(space="north") == ["by-role", "everywhere", "in-north"]
    assert ids_of(space="south") == ["everywhere"]
    assert ids_of(space="") == ["everywhere"]


def test_inactive_subjects_and_other_orgs_are_no_candidates():
    make_agent("acme", "gone", is_active=False)
    make_agent("bolt", "theirs")
    make_agent("acme", "ours")
    assert ids_of() == ["ours"] and ids_of(org_id="bolt") == ["theirs"] and ids_of(org_id="nobody") == []


def test_a_whole_pool_is_one_query(django_assert_num_queries):
    for name in "abcde":
        make_agent("acme", name)
    with django_assert_num_queries(1):
        assert len(RoleDirectory("acme").candidates("SCOUTING", "north")) == 5


def found_in(org_id="acme", space=""):
    return [candidate.subject_id for candidate in RoleDirectory(org_id).find("SCOUTING", space, now=NOON).subjects]


@pytest.mark.django_db(transaction=True)
def test_what_was_found_is_found_again_without_a_query_until_something_changes(redis, django_assert_num_queries):
    ada = make_agent("acme", "ada")
    make_agent("bolt", "theirs")
    assert found_in() == ["ada"] and found_in("bolt") == ["theirs"]
    with django_assert_num_queries(0):
        assert found_in() == ["ada"] and found_in("bolt") == ["theirs"]
    book = RoleBook("acme", by="tests", now=NOON)
    make_agent("acme", "bo")
    assert found_in() == ["ada", "bo"]
    inactive = SubjectDocument(subject_type="agent", name="", capabilities=(), is_active=False, metadata={}, roles={"": ("scouts",)})
    book.put_subject("bo", inactive)
    assert found_in() == ["ada"]
    ada.roles_held.all().delete()
    assert found_in() == []
    book.grant("ada", ["scouts"], "north")
    assert found_in() == [] and found_in(space="north") == ["ada"]
    book.put_role("scouts", RoleDocument(role_type="SCOUTING", group_ids=(), job_space_id="south", metadata={}))
    assert found_in(space="north") == []
    Role.objects.filter(role_id="scouts", org_id="acme").delete()
    assert found_in() == []
    with django_assert_num_queries(0):
        assert found_in("bolt") == ["theirs"]


@pytest.mark.django_db(transaction=True)
def test_what_another_process_changes_is_seen_at_the_next_look(redis):
    make_agent("acme", "ada")
    assert found_in() == ["ada"]
    Subject.objects.filter(subject_id="ada").update(is_active=False)  # no signal: as if another process had done it…
    assert found_in() == ["ada"]
    redis.set("jp:roles:acme", "another token")  # …and said so
    assert found_in() == []


@pytest.mark.django_db(transaction=True)
def test_a_change_that_is_rolled_back_is_never_believed(redis):
    make_agent("acme", "ada")
    with pytest.raises(RuntimeError), transaction.atomic():
        make_agent("acme", "bo")
        assert found_in() == ["ada", "bo"]  # within its own transaction
        raise RuntimeError
    assert found_in() == ["ada"]
