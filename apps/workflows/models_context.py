"""Rows of what sessions know (`context.py`). They live in the task store."""

from __future__ import annotations

from django.db import models


class ContextWrite(models.Model):
    """One write to a session's context: it happened when this row is there. Its id is the session and the version, so
    of two writers who want to be the next, one has to look again."""

    store = "tasks"

    id = models.CharField(primary_key=True, max_length=420, db_column="_id", help_text="session@version")
    session_key = models.CharField("session", max_length=400, help_text="org/session")
    version = models.IntegerField(help_text="1, 2, … within the session")
    writer = models.CharField(max_length=1024, help_text="who wrote; each writes once")
    digest = models.CharField(max_length=32, help_text="of what was written; its values carry it too")
    keys = models.JSONField(help_text="names of what was written")
    at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["session_key", "version"], name="context_versions"),
            models.Index(fields=["session_key", "writer"], name="context_writers"),
        ]
        verbose_name = "context write"

    def __str__(self) -> str:
        return self.id


class ContextValue(models.Model):
    """One value of one write, or a part of a long one. JSON text: no store changes what is in it."""

    store = "tasks"

    id = models.CharField(primary_key=True, max_length=480, db_column="_id", help_text="write.digest/place.part")
    session_key = models.CharField("session", max_length=400)
    key = models.CharField(max_length=512)
    version = models.IntegerField()
    digest = models.CharField(max_length=32)
    part = models.IntegerField(default=0)
    parts = models.IntegerField(default=1)
    value = models.TextField()

    class Meta:
        indexes = [models.Index(fields=["session_key", "key", "version"], name="context_keys")]
        verbose_name = "context value"

    def __str__(self) -> str:
        return self.id


class ContextDocument(models.Model):
    """What an org lets its sessions look up (`documents.py`): JSON under a key in a collection."""

    store = "tasks"

    id = models.CharField(primary_key=True, max_length=320, db_column="_id", help_text="org/collection/key")
    org_id = models.CharField("org", max_length=64)
    collection = models.CharField(max_length=64)
    key = models.CharField(max_length=180)
    body = models.TextField(help_text="a JSON object")
    text = models.TextField(blank=True, default="", help_text="what vector search compares")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    updated_by = models.CharField(max_length=255)

    class Meta:
        indexes = [models.Index(fields=["org_id", "collection", "key"], name="context_documents")]
        verbose_name = "context document"

    def __str__(self) -> str:
        return self.id


class ContextVector(models.Model):
    """The vector of a document, for the embedded search. Derived from it: may be deleted and made again."""

    store = "tasks"

    id = models.CharField(primary_key=True, max_length=320, db_column="_id", help_text="org/collection/key")
    org_id = models.CharField("org", max_length=64)
    collection = models.CharField(max_length=64)
    key = models.CharField(max_length=180)
    dims = models.IntegerField()
    data = models.BinaryField(help_text="float32, little-endian, of length 1")

    class Meta:
        indexes = [models.Index(fields=["org_id", "collection", "dims"], name="context_vectors")]
        verbose_name = "context vector"

    def __str__(self) -> str:
        return self.id
