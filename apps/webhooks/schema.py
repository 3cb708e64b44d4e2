"""Webhooks in the OpenAPI document. Nothing is read or written through these."""

from __future__ import annotations

from rest_framework import serializers

from apps.webhooks.event_types import EVENTS
from apps.webhooks.models import STATES


class EndpointWishSerializer(serializers.Serializer):
    url = serializers.CharField(help_text="https://… on the public internet")
    events = serializers.ListField(
        child=serializers.ChoiceField(choices=["*", *EVENTS]),
        required=False,
        help_text='event types; ["*"], the default; [] is told only of jobs that name its URL',
    )
    description = serializers.CharField(required=False)
    enabled = serializers.BooleanField(required=False)


class EndpointChangeSerializer(EndpointWishSerializer):
    url = serializers.CharField(required=False)


class EndpointSerializer(serializers.Serializer):
    endpoint_id = serializers.CharField()
    url = serializers.CharField()
    events = serializers.ListField(child=serializers.CharField())
    description = serializers.CharField()
    for_jobs = serializers.BooleanField(help_text="made for a server because jobs named URLs of it; rotate-secret shows its secret")
    enabled = serializers.BooleanField()
    disabled_because = serializers.CharField(help_text="empty while it is enabled")
    failing_since = serializers.DateTimeField(allow_null=True, help_text="nothing was delivered since")
    last_delivered_at = serializers.DateTimeField(allow_null=True)
    old_secret_until = serializers.DateTimeField(allow_null=True, help_text="after a rotation: both secrets sign until then")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class EndpointWithSecretSerializer(EndpointSerializer):
    secret = serializers.CharField(help_text="whsec_…; shown this once")


class EndpointsSerializer(serializers.Serializer):
    items = EndpointSerializer(many=True)


class RotationSerializer(serializers.Serializer):
    overlap_s = serializers.IntegerField(required=False, help_text="0…604800, default 86400: so long the old secret signs, too")


class ReplaySerializer(serializers.Serializer):
    since = serializers.DateTimeField(help_text="at most 31 days ago")
    missed = serializers.BooleanField(required=False, help_text="also what moved while the endpoint was disabled; default false")


class ReplayedSerializer(serializers.Serializer):
    replayed = serializers.IntegerField(help_text="failed deliveries that are sent again")


class DeliverySerializer(serializers.Serializer):
    delivery_id = serializers.CharField(help_text="the webhook-id of the request")
    event = serializers.CharField()
    task_id = serializers.CharField(allow_null=True)
    job_id = serializers.CharField(allow_null=True)
    state = serializers.ChoiceField(choices=STATES)
    tries = serializers.IntegerField()
    next_try_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)
    last_status = serializers.IntegerField(allow_null=True)
    last_error = serializers.CharField()


class AttemptSerializer(serializers.Serializer):
    number = serializers.IntegerField()
    at = serializers.DateTimeField()
    duration_ms = serializers.IntegerField()
    status = serializers.IntegerField(allow_null=True, help_text="null: no answer came")
    excerpt = serializers.CharField(help_text="the first 512 bytes of the answer")
    error = serializers.CharField()


class WholeDeliverySerializer(DeliverySerializer):
    payload = serializers.JSONField()
    attempts = AttemptSerializer(many=True)


class DeliveriesSerializer(serializers.Serializer):
    items = DeliverySerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)
