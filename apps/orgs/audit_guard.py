"""The database itself refuses to change or delete a line of the audit trail, whoever asks: triggers on SQLite and PostgreSQL.

Made after every migration rather than by one: SQLite forgets a table's triggers when a migration rebuilds the table.
"""

from __future__ import annotations

from typing import Any

from apps.orgs.models import Change, Purge

SENTENCE = "the audit trail is append-only"


def install(sender: Any = None, *, using: str = "default", **_signal: Any) -> None:
    """Receiver of `post_migrate`; does nothing twice."""
    from django.db import connections, router, transaction

    connection = connections[using]
    table = Change._meta.db_table
    if router.db_for_write(Change) != using or table not in connection.introspection.table_names():
        return
    with transaction.atomic(using=using), connection.cursor() as cursor:
        for statement in _STATEMENTS.get(connection.vendor, ()):
            cursor.execute(statement.format(table=table, purges=Purge._meta.db_table, sentence=SENTENCE))


def remove(using: str = "default") -> None:
    from django.db import connections

    connection, table = connections[using], Change._meta.db_table
    on = "" if connection.vendor == "sqlite" else f" ON {table}"
    with connection.cursor() as cursor:
        for name in ("no_update", "no_delete"):
            cursor.execute(f"DROP TRIGGER IF EXISTS {table}_{name}{on}")


# A line goes only with its org, while that is being purged: a line that the platform itself keeps says so.
_STATEMENTS = {
    "sqlite": (
        "DROP TRIGGER IF EXISTS {table}_no_update",
        "DROP TRIGGER IF EXISTS {table}_no_delete",
        "CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} BEGIN SELECT RAISE(ABORT, '{sentence}'); END",
        "CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} "
        "WHEN NOT EXISTS (SELECT 1 FROM {purges} WHERE org_id = OLD.org_id) BEGIN SELECT RAISE(ABORT, '{sentence}'); END",
    ),
    "postgresql": (
        "CREATE OR REPLACE FUNCTION {table}_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF TG_OP = 'DELETE' AND EXISTS (SELECT 1 FROM {purges} WHERE org_id = OLD.org_id) THEN RETURN OLD; END IF; "
        "RAISE EXCEPTION '{sentence}'; END $$",
        *(
            statement
            for verb in ("UPDATE", "DELETE")
            for statement in (
                f"DROP TRIGGER IF EXISTS {{table}}_no_{verb.lower()} ON {{table}}",
                f"CREATE TRIGGER {{table}}_no_{verb.lower()} BEFORE {verb} ON {{table}} "
                "FOR EACH ROW EXECUTE FUNCTION {table}_append_only()",
            )
        ),
    ),
}
