"""Roles and subjects in the OpenAPI document. Nothing is read or written through these."""

from __future__ import annotations

from rest_framework import serializers

from apps.roles.models import Subject

_EVERY_SPACE = '"": every job space'
_METADATA = "free JSON object, to filter by; left out when empty"


class RoleSerializer(serializers.Serializer):
    role_id = serializers.CharField()
    role_type = serializers.CharField(help_text="what it is for: SCOUTING makes its holders candidates for head agent")
    group_ids = serializers.ListField(child=serializers.CharField())
    job_space_id = serializers.CharField(help_text=_EVERY_SPACE)
    metadata = serializers.JSONField(required=False, help_text=_METADATA)


class PutRoleSerializer(serializers.Serializer):
    role_type = serializers.CharField()
    group_ids = serializers.ListField(child=serializers.CharField(), required=False)
    job_space_id = serializers.CharField(required=False, help_text=_EVERY_SPACE)
    metadata = serializers.JSONField(required=False, help_text=_METADATA)


class RolePageSerializer(serializers.Serializer):
    roles = RoleSerializer(many=True)
    next = serializers.CharField(allow_null=True, help_text="send it as `after` for the next page; null: this is the last")


class RoleGroupAnswerSerializer(serializers.Serializer):
    success = serializers.BooleanField()
    data = RoleSerializer(many=True)


class SubjectRolesSerializer(serializers.Serializer):
    subject_id = serializers.CharField()
    role_ids = serializers.ListField(child=serializers.CharField())
    subject_type = serializers.CharField()
    job_space_id = serializers.CharField(help_text=_EVERY_SPACE)
    metadata = serializers.JSONField(required=False, help_text=_METADATA)


class SubjectRolesAnswerSerializer(serializers.Serializer):
    success = serializers.BooleanField()
    data = SubjectRolesSerializer(many=True)


class PutSubjectSerializer(serializers.Serializer):
    subject_type = serializers.ChoiceField(choices=Subject.Type.values, required=False)
    name = serializers.CharField(required=False)
    capabilities = serializers.ListField(child=serializers.CharField(), required=False, help_text="words")
    is_active = serializers.BooleanField(required=False, help_text="an inactive subject is never chosen")
    role_ids = serializers.ListField(child=serializers.CharField(), required=False, help_text="roles held in every job space")
    job_spaces = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="roles held in one job space only: job_space_id → role ids",
    )
    metadata = serializers.JSONField(required=False, help_text=_METADATA)


class SubjectSerializer(PutSubjectSerializer):
    subject_id = serializers.CharField()


class SubjectPageSerializer(serializers.Serializer):
    subjects = SubjectSerializer(many=True)
    next = serializers.CharField(allow_null=True, help_text="send it as `after` for the next page; null: this is the last")
