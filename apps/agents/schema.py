"""Agents in the OpenAPI document. Nothing is read or written through these."""

from __future__ import annotations

from rest_framework import serializers

_ID = "subject id of the agent"


class CardSerializer(serializers.Serializer):
    capabilities = serializers.ListField(child=serializers.CharField(), required=False, help_text="words; tasks may ask for them")
    job_kinds = serializers.ListField(child=serializers.CharField(), required=False, help_text="kinds of job it takes; empty: any")
    slots = serializers.IntegerField(required=False, help_text="tasks at once")
    max_payload_bytes = serializers.IntegerField(required=False, help_text="of a task's entry as JSON; 0: no limit")
    costs = serializers.DictField(required=False, help_text="hints: per_task, per_second, unit")
    version = serializers.CharField(required=False)
    description = serializers.CharField(required=False)


class InstanceSerializer(serializers.Serializer):
    instance = serializers.CharField()
    seen_at = serializers.DateTimeField()
    slots = serializers.IntegerField()
    intake = serializers.CharField(help_text="open, paused or draining, as it says itself")


class BreakerSerializer(serializers.Serializer):
    state = serializers.ChoiceField(choices=["closed", "open", "half_open"])
    because = serializers.CharField(help_text="why it opened")
    opened_at = serializers.DateTimeField(allow_null=True)
    until = serializers.DateTimeField(allow_null=True, help_text="when it may be tried again")
    trips = serializers.IntegerField(help_text="how often it opened since it was last closed")


class FiguresSerializer(serializers.Serializer):
    mean = serializers.FloatField(help_text="mean of the posterior: the chance that the next attempt succeeds")
    low = serializers.FloatField(help_text="lower end of the 90 % credible interval")
    high = serializers.FloatField()
    weight = serializers.FloatField(help_text="how many attempts of today the evidence is worth")
    completed = serializers.IntegerField()
    failed = serializers.IntegerField()
    lost = serializers.IntegerField()
    declined = serializers.IntegerField()
    rejected = serializers.IntegerField(help_text="by the verifier")
    excused = serializers.IntegerField(help_text="lost, and the task was to blame")
    success_rate = serializers.FloatField(allow_null=True, help_text="of the latest 50")
    latency_p50_s = serializers.FloatField(allow_null=True)
    promises = serializers.IntegerField()
    claimed = serializers.FloatField(allow_null=True, help_text="mean of the promised confidence")
    kept = serializers.FloatField(allow_null=True, help_text="share of successes behind those promises")
    brier = serializers.FloatField(allow_null=True, help_text="of promised confidence; 0 is best")
    eta_ratio = serializers.FloatField(allow_null=True, help_text="time taken / time promised, median")
    price_ratio = serializers.FloatField(allow_null=True, help_text="price charged / price promised, median")
    as_of = serializers.DateTimeField()


class AgentSerializer(serializers.Serializer):
    subject_id = serializers.CharField(help_text=_ID)
    subject_type = serializers.CharField()
    name = serializers.CharField()
    state = serializers.ChoiceField(choices=["active", "paused", "draining", "drained", "revoked", "inactive"])
    reason = serializers.CharField(help_text="why it is in that state")
    by = serializers.CharField()
    since = serializers.DateTimeField(allow_null=True)
    barred = serializers.CharField(allow_null=True, help_text="why it gets nothing new; null: it may")
    presence = serializers.ChoiceField(choices=["present", "away", "unknown"])
    intake = serializers.CharField(help_text="what it says itself: open, paused or draining")
    last_seen_at = serializers.DateTimeField(allow_null=True)
    away_seconds = serializers.FloatField(allow_null=True)
    slots = serializers.IntegerField()
    load = serializers.IntegerField(help_text="tasks it holds")
    instances = InstanceSerializer(many=True)
    capabilities = serializers.ListField(child=serializers.CharField(), help_text="those that count")
    card = CardSerializer(allow_null=True)
    card_at = serializers.DateTimeField(allow_null=True)
    card_problem = serializers.CharField(help_text="why the last card was not accepted")
    breaker = BreakerSerializer()
    reputation = FiguresSerializer()


class AgentPageSerializer(serializers.Serializer):
    items = AgentSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class ReasonSerializer(serializers.Serializer):
    reason = serializers.CharField(required=False, help_text="kept with the agent and on the audit trail")


class RevokedSerializer(AgentSerializer):
    keys_revoked = serializers.IntegerField()
    told_nats = serializers.BooleanField(help_text="false: NATS is away; the agent stays connected until upkeep reaches it")


class InvitationSerializer(serializers.Serializer):
    subject_id = serializers.CharField(help_text=_ID)
    role_ids = serializers.ListField(child=serializers.CharField(), required=False, help_text="roles it will hold besides its own")
    job_space_id = serializers.CharField(required=False, help_text="where it holds them; empty: everywhere")
    name = serializers.CharField(required=False, help_text="what people will call its key")
    expires_in_s = serializers.IntegerField(required=False, help_text="seconds the token lives; a day when left out")
    key_lifetime_s = serializers.IntegerField(required=False, allow_null=True, help_text="seconds the key will live; null: for ever")


class EnrolmentSerializer(serializers.Serializer):
    enrolment_id = serializers.CharField()
    subject_id = serializers.CharField()
    role_ids = serializers.ListField(child=serializers.CharField())
    job_space_id = serializers.CharField()
    name = serializers.CharField()
    state = serializers.ChoiceField(choices=["open", "redeemed", "withdrawn", "expired"])
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()
    expires_at = serializers.DateTimeField()
    key_lifetime_s = serializers.IntegerField(allow_null=True)
    redeemed_at = serializers.DateTimeField(allow_null=True)
    withdrawn_at = serializers.DateTimeField(allow_null=True)
    key_id = serializers.CharField(allow_null=True, help_text="the key it became")


class NewEnrolmentSerializer(EnrolmentSerializer):
    token = serializers.CharField(help_text="shown this once")


class EnrolmentPageSerializer(serializers.Serializer):
    items = EnrolmentSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class RedeemSerializer(serializers.Serializer):
    card = CardSerializer(required=False)


class EnrolledSerializer(serializers.Serializer):
    org_id = serializers.CharField()
    subject_id = serializers.CharField()
    api_key = serializers.CharField(help_text="shown this once; it opens NATS too")
    key_id = serializers.CharField()
    expires_at = serializers.DateTimeField(allow_null=True)
    nats_url = serializers.CharField(help_text="where agents connect")
