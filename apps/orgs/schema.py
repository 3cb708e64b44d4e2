"""Configuration in the OpenAPI document. Nothing is read or written through these."""

from __future__ import annotations

from rest_framework import serializers


class ConfigValueSerializer(serializers.Serializer):
    success = serializers.BooleanField()
    key = serializers.CharField()
    value = serializers.JSONField()
    version = serializers.IntegerField(help_text="of this parameter; rises with every change of it")


class SetConfigValueSerializer(serializers.Serializer):
    value = serializers.JSONField(help_text="checked against the key's type: see GET /api/v1/org-config")
    version = serializers.IntegerField(required=False, help_text="set only over this version (0: not set yet), else 409")


class ConfigSetSerializer(serializers.Serializer):
    success = serializers.BooleanField()
    version = serializers.IntegerField()


class ConfigKeySerializer(serializers.Serializer):
    key = serializers.CharField()
    type = serializers.CharField()
    schema = serializers.JSONField(help_text="the type as JSON Schema")
    default = serializers.JSONField()
    meaning = serializers.CharField()
    value = serializers.JSONField(help_text="what holds now: as set, else the default")
    is_set = serializers.BooleanField()
    version = serializers.IntegerField(help_text="0: not set")
    changed_at = serializers.DateTimeField(allow_null=True)
    changed_by = serializers.CharField(allow_null=True)


class ConfigTableSerializer(serializers.Serializer):
    org_id = serializers.CharField()
    version = serializers.IntegerField(help_text="of the whole configuration")
    parameters = ConfigKeySerializer(many=True)


class AuditLineSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    org_id = serializers.CharField()
    kind = serializers.CharField()
    key = serializers.CharField(help_text="what was changed")
    by = serializers.CharField(help_text="who did it")
    old = serializers.JSONField(allow_null=True, help_text="what it was; secrets are masked")
    new = serializers.JSONField(allow_null=True, help_text="what it became")
    request_id = serializers.CharField(help_text="of the HTTP request; empty when there was none")


class AuditPageSerializer(serializers.Serializer):
    items = AuditLineSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)
