"""The table of configuration keys."""

from __future__ import annotations

import re

import pytest

from apps.orgs.config_keys import TABLE, Key, OrgConfig, Text, UnknownKey, WrongValue, check, config_of

FITS = {
    "approval_dsl_id": [None, "approval/default", "a", "team-1/approve_v2.1", "remote:gate", "remote:risk/gate@3"],
    "dsl_execution": ["local", "remote"],
    "dsl_remote_url": [None, "https://policies.example.com/answer", "http://10.0.0.5:8080/", "https://policies.corp:8443/x"],
    "dsl_remote_secret": [None, "sixteen-letters!", "whsec_dGhlIHNlY3JldCBvZiBhY21l"],
    "dsl_remote_signed_answers": [True, False],
    "dsl_remote_timeout_ms": [50, 10_000],
    "approval_on_error": ["hold", "reject"],
    "priority_on_error": [None, -1000, 0, 1000],
    "auction_input_on_error": ["fallback", "fail"],
    "plan_retrieve_on_error": ["fallback", "fail"],
    "policy_activation_needs_other_person": [True, False],
    "agent_resolution_strategy": ["static", "least_loaded", "round_robin", "auction", "plan+retrieve"],
    "agent_resolution_fallbacks": [[], ["static", "round_robin"]],
    "static_head_agent_subject_id": [None, "agent-a", "acme:ada lovelace", "ünïcode 💡"],
    "candidate_role_type": ["SCOUTING"],
    "assignment_deadline_s": [0, 0.5, 86_400 * 30],
    "lease_seconds": [1, 3600, 2.5],
    "max_attempts": [1, 100],
    "retry_backoff_s": [0, 3600],
    "dsl_timeout_ms": [10, 5000],
    "agent_delivery": ["jetstream", "plain"],
    "default_agent_slots": [1, 10_000],
    "agent_prefetch": [0, 0.5, 10],
    "verification_required": [True, False],
    "task_timeline_default_s": [None, 3600],
    "role_group_url": [None, "https://roles.example.com/role-group", "http://policies.corp:8443/x"],
    "role_service_token": [None, "abc.def-123"],
    "outbound_allow": [[], ["10.0.0.5"], ["10.0.0.5:8443", "policies.corp:8443"]],
    "fair_share_weight": [0.01, 1, 2.5, 1000],
    "max_inflight": [None, 1, 1_000_000],
    "aging_points_per_minute": [0, 0.1, 1000],
    "concurrency_key": [None, "payload.customer", "submitter_subject_id"],
    "concurrency_limit": [1, 10_000],
    "concurrency_mode": ["queue", "cancel_newest", "cancel_running"],
    "queue_paused": [None, "the vault moves on Saturday — back on Monday"],
    "paused_job_spaces": [[], ["reports", "ünïcode 💡"]],
}
WRONG = {  # fmt: skip
    "approval_dsl_id": [
        "",
        "/x",
        "x/",
        "a//b",
        "../x",
        "a/../b",
        "a b",
        "a\n",
        "é",
        "x" * 121,
        1,
        True,
        [],
        {},
        "http://x",
        "remote:",
        "remote:remote:x",
        "a@0",
        "a@",
        "other:x",
    ],
    "dsl_execution": ["REMOTE", None, ""],
    "dsl_remote_url": ["", "policies.example.com", "https://127.0.0.1/", "https://policies.corp/", "http://x:y@example.com/", 7],
    "dsl_remote_secret": ["", "short", "with a blank in the middle", "x" * 201, 7],
    "dsl_remote_timeout_ms": [49, 10_001, 100.5],
    "approval_on_error": ["accept", "queue", None, ""],
    "priority_on_error": ["high", 1001, 0.5, True],
    "auction_input_on_error": ["accept", None],
    "agent_resolution_strategy": [None, "", "AUCTION", "auction ", 0, ["auction"]],
    "agent_resolution_fallbacks": [None, "static", ["nonsense"], ["static", "static"], [None], {}],
    "static_head_agent_subject_id": ["", "a\nb", "x" * 181, 7],
    "assignment_deadline_s": [-1, 86_400 * 30 + 1, "5", True, None],
    "max_attempts": [0, 101, 5.0, "5", True, None, []],
    "fair_share_weight": [0, -1, 1001, "1", True, None],
    "max_inflight": [0, -1, 1.5, "5", True, 1_000_001],
    "aging_points_per_minute": [-1, 1001, None],
    "concurrency_key": ["", ".", "payload.", "payload..x", "payload[0]", "a b", 7, "a." * 8 + "a"],
    "concurrency_limit": [0, 10_001, 1.5, None],
    "concurrency_mode": ["wait", "", None],
    "queue_paused": ["", "a\nb", True, "x" * 501],
    "paused_job_spaces": [None, "reports", [""], ["a", "a"], ["a\nb"], ["x"] * 101],
    "verification_required": [0, 1, "true", None],
    "dsl_timeout_ms": [9, 5001, 200.5],
    "role_service_token": ["", "a b", "a\nb", "é", 7, "x" * 501],
    "role_service_cache_s": [-1, 3601, "5", None],
    "outbound_allow": [None, "10.0.0.5", ["127.0.0.1"], ["policies.corp"], ["*"], [7], ["10.0.0.5", "10.0.0.5"]],
}


@pytest.fixture(autouse=True)
def two_hosts_are_open(settings):
    settings.OUTBOUND_ALLOW = ["10.0.0.5", "policies.corp:8443"]


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in FITS.items() for value in values])
def test_values_that_fit(key, value):
    assert check(key, value).name == key


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_values_that_do_not(key, value):
    with pytest.raises(WrongValue) as caught:
        check(key, value)
    (problem,) = caught.value.problems
    assert problem.field == "value" and problem.message.startswith(("must", "item"))


@pytest.mark.parametrize("key", TABLE.values(), ids=lambda key: key.name)
def test_every_key_explains_itself_and_its_default_fits(key):
    default = list(key.default) if isinstance(key.default, tuple) else key.default
    assert key.rule.problem(default) is None
    assert len(key.meaning) > 15 and key.rule.type and key.rule.schema()
    assert re.fullmatch(r"[a-z][a-z_]{2,63}", key.name)


def test_a_slip_of_the_pen_is_recognized():
    for slip, meant in {"lease_second": "lease_seconds", "aproval_dsl_id": "approval_dsl_id", "agent_prefech": "agent_prefetch"}.items():
        with pytest.raises(UnknownKey, match=f"did you mean '{meant}"):
            check(slip, 1)
    with pytest.raises(UnknownKey) as caught:
        check("zzz", 1)
    assert "did you mean" not in caught.value.sentence


def test_what_is_set_stands_over_the_defaults_and_cannot_be_changed_after():
    config = config_of({"max_attempts": 9, "agent_resolution_fallbacks": ["static"]}, version=4)
    assert (config.max_attempts, config.agent_resolution_fallbacks, config.version) == (9, ("static",), 4)
    assert config.lease_seconds == OrgConfig().lease_seconds
    with pytest.raises(AttributeError):
        config.max_attempts = 1
    assert hash(config)


def test_a_secret_is_never_shown():
    key = Key(name="token", rule=Text(pattern=".+", most=9, type="token"), default=None, meaning="opens a door", secret=True)
    assert key.shown("hunter2") == "(secret)" and key.shown(None) is None
