"""Who could do it."""

from __future__ import annotations

import pytest

from apps.roles.directory import CandidateSubject, RoleDirectory
from apps.roles.models import Role
from tests.factories import make_agent, make_org

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
