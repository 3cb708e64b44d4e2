"""Context documents in the OpenAPI document. Nothing is read or written through these."""

from __future__ import annotations

from rest_framework import serializers


class PutContextDocumentSerializer(serializers.Serializer):
    value = serializers.DictField(help_text="the document")
    text = serializers.CharField(required=False, help_text="what vector search compares; without it the document is not found by search")
    vector = serializers.ListField(child=serializers.FloatField(), required=False, help_text="instead of one made from the text")


class ContextDocumentSerializer(serializers.Serializer):
    key = serializers.CharField()
    value = serializers.DictField()
    text = serializers.CharField()
    updated_at = serializers.DateTimeField()
    updated_by = serializers.CharField()


class ContextPageSerializer(serializers.Serializer):
    items = ContextDocumentSerializer(many=True)
    next = serializers.CharField(allow_null=True, help_text="`after` of the next page; null: this was the last")


class ContextCollectionSerializer(serializers.Serializer):
    collection = serializers.CharField()
    documents = serializers.IntegerField()


class ContextCollectionsSerializer(serializers.Serializer):
    items = ContextCollectionSerializer(many=True)


class ContextQuerySerializer(serializers.Serializer):
    filter = serializers.DictField(required=False, help_text="a MongoDB-style filter on key, text, updated_by and value")
    after = serializers.CharField(required=False)
    limit = serializers.IntegerField(required=False, help_text="1…200, default 50")


class ContextSearchSerializer(serializers.Serializer):
    text = serializers.CharField(required=False, help_text="this, or vector")
    vector = serializers.ListField(child=serializers.FloatField(), required=False)
    filter = serializers.DictField(required=False, help_text="as in queries; looks at the nearest 1,000")
    limit = serializers.IntegerField(required=False, help_text="1…200, default 10")


class ContextHitSerializer(ContextDocumentSerializer):
    score = serializers.FloatField(help_text="cosine similarity, -1…1")


class ContextHitsSerializer(serializers.Serializer):
    items = ContextHitSerializer(many=True)


class ContextSeedSerializer(serializers.Serializer):
    documents = serializers.ListField(child=serializers.DictField(), help_text="{key, value, text?, vector?} each, at most 1,000")


class ContextSeededSerializer(serializers.Serializer):
    stored = serializers.IntegerField()
    new = serializers.IntegerField()
