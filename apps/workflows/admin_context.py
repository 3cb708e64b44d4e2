"""What sessions of an org may look up, for operators: read here, written over `/api/v1/context`."""

from __future__ import annotations

import json

from django.contrib import admin
from django.utils.text import Truncator

from apps.core import admin_cells as cells
from apps.core.admin import ReadOnlyAdmin
from apps.orgs.admin_filters import OrgFilter
from apps.workflows.models_context import ContextDocument


@admin.register(ContextDocument)
class ContextDocumentAdmin(ReadOnlyAdmin):
    list_display = ("key", "collection", "org_id", "about", "updated_at", "updated_by")
    list_display_links = ("key",)
    list_filter = (OrgFilter,)
    search_fields = ("=collection", "=key", "=org_id")
    search_help_text = "a collection, a key or an organization, exactly"
    ordering = ("org_id", "collection", "key")
    nothing_yet = "Nothing is kept here yet. PUT /api/v1/context/<collection>/documents/<key> does it (docs/context.md)."
    fields = ("org_id", "collection", "key", "value", "text", "created_at", "updated_at", "updated_by")

    @admin.display(description="text")
    def about(self, row: ContextDocument) -> str:
        return Truncator(row.text).chars(80) or "-"

    @admin.display(description="value")
    def value(self, row: ContextDocument) -> str:
        return cells.pretty(json.loads(row.body))
