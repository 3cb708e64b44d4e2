"""A JSON column that gives objects back with their keys in the order in which they came.

SQLite and MongoDB keep that order anyway; PostgreSQL's `jsonb` sorts keys, so there the column is `json`. It cannot be
searched, compared or grouped by: for documents whose order means something, and that are only stored and read.
"""

from __future__ import annotations

from typing import Any

from django.db import models


class OrderedJSON(models.JSONField):
    def db_type(self, connection: Any) -> str | None:
        return "json" if connection.vendor == "postgresql" else super().db_type(connection)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        if connection.vendor != "postgresql" or value is None:
            return super().get_db_prep_value(value, connection, prepared)
        from psycopg.types.json import Json  # Django would send jsonb, and the order were lost before it is stored

        return Json(value)

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        # psycopg reads `json` itself; `jsonb` Django has told it to leave alone.
        return value if connection.vendor == "postgresql" else super().from_db_value(value, expression, connection)
