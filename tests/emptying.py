"""After a test that committed: empty the tables it wrote to, and no others.

Django's own way deletes from every table and then makes content types and permissions anew, which takes longer than most tests.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from django.core.management import call_command
from django.db import connections, transaction

KEPT = {"django_content_type", "auth_permission"}
"""Made from the models, the same in every test."""


def empty(case: Any) -> None:
    """In place of `TransactionTestCase._fixture_teardown`."""
    for alias in case._databases_names(include_mirrors=False):
        if connections[alias].vendor == "sqlite":
            _empty(alias)
        else:
            call_command("flush", verbosity=0, interactive=False, database=alias, reset_sequences=False)


def _empty(alias: str) -> None:
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute(" UNION ALL ".join(f"SELECT '{table}' WHERE EXISTS (SELECT 1 FROM \"{table}\")" for table in _tables(alias)))  # noqa: S608
        for (table,) in cursor.fetchall():
            cursor.execute(f'DELETE FROM "{table}"')  # noqa: S608


@lru_cache(maxsize=8)
def _tables(alias: str) -> list[str]:
    found = connections[alias].introspection.django_table_names(only_existing=True, include_views=False)
    return sorted(set(found) - KEPT)
