"""Vector search by PostgreSQL's extension pgvector: one table, one HNSW index over cosine distance.

The role needs the right to `CREATE EXTENSION vector`, or somebody did it before. Filters by org and collection narrow what the
index finds; with pgvector 0.8 or newer it goes on searching until the limit is met, older ones may find less.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import psycopg

from apps.workflows.context.vectors import Near, VectorsAway

TABLE = "context_vectors_pg"
INDEXED_DIMS_MAX = 2000
"""pgvector's bound for an HNSW index; longer vectors are compared one by one."""
EF_SEARCH_MAX = 1000

CREATE = (
    "CREATE EXTENSION IF NOT EXISTS vector",
    f"CREATE TABLE IF NOT EXISTS {TABLE} (org_id text NOT NULL, collection text NOT NULL, key text NOT NULL, "
    "embedding vector({dims}) NOT NULL, PRIMARY KEY (org_id, collection, key))",
)
CREATE_INDEX = f"CREATE INDEX IF NOT EXISTS {TABLE}_hnsw ON {TABLE} USING hnsw (embedding vector_cosine_ops)"
PUT = (
    f"INSERT INTO {TABLE} (org_id, collection, key, embedding) VALUES (%s, %s, %s, %s::vector) "  # noqa: S608 - a constant
    "ON CONFLICT (org_id, collection, key) DO UPDATE SET embedding = excluded.embedding"
)
REMOVE = f"DELETE FROM {TABLE} WHERE org_id = %s AND collection = %s AND key = ANY(%s)"  # noqa: S608
NEAREST = (
    f"SELECT key, 1 - (embedding <=> %(vector)s::vector) FROM {TABLE} "  # noqa: S608
    "WHERE org_id = %(org)s AND collection = %(collection)s ORDER BY embedding <=> %(vector)s::vector LIMIT %(limit)s"
)
_LOCK = 0x6A70_7665
"""Advisory lock: two processes that make the table at once would collide in the catalogue."""

Answer = TypeVar("Answer")


class PostgresIndex:
    """A connection per thread, made when needed and made again when it broke."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._mine = threading.local()
        self._ensured = False

    def ensure(self, dims: int) -> None:
        def make(connection: psycopg.Connection) -> None:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
                for statement in CREATE:
                    connection.execute(statement.format(dims=int(dims)))
                if dims <= INDEXED_DIMS_MAX:
                    connection.execute(CREATE_INDEX)

        if not self._ensured:
            self._run(make)
            self._ensured = True

    def put(self, org_id: str, collection: str, vectors: Mapping[str, Sequence[float]]) -> None:
        if not vectors:
            return
        rows = [(org_id, collection, key, _text(vector)) for key, vector in vectors.items()]
        self.ensure(len(next(iter(vectors.values()))))

        def write(connection: psycopg.Connection) -> None:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(PUT, rows)

        self._run(write)

    def remove(self, org_id: str, collection: str, keys: Iterable[str]) -> None:
        if wanted := list(keys):
            self._run(lambda connection: connection.execute(REMOVE, [org_id, collection, wanted]))

    def nearest(self, org_id: str, collection: str, vector: Sequence[float], limit: int) -> list[Near]:
        self.ensure(len(vector))
        values = {"org": org_id, "collection": collection, "vector": _text(vector), "limit": limit}

        def look(connection: psycopg.Connection) -> list[tuple[str, float]]:
            with connection.transaction():
                connection.execute(f"SET LOCAL hnsw.ef_search = {min(EF_SEARCH_MAX, max(40, 2 * int(limit)))}")
                connection.execute("SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true)")
                return connection.execute(NEAREST, values).fetchall()

        found = [Near(key=key, score=min(1.0, max(-1.0, float(score)))) for key, score in self._run(look)]
        return sorted(found, key=lambda near: (-near.score, near.key))

    def _run(self, work: Callable[[psycopg.Connection], Answer]) -> Answer:
        try:
            try:
                return work(self._connection())
            except psycopg.OperationalError:
                # The server was restarted since; a fresh connection tells whether it is back. All statements may be repeated.
                self._forget()
                return work(self._connection())
        except psycopg.Error as error:
            self._forget()
            raise VectorsAway(problem=str(error).splitlines()[0][:200] if str(error) else type(error).__name__) from error

    def _connection(self) -> psycopg.Connection:
        connection: psycopg.Connection | None = getattr(self._mine, "connection", None)
        if connection is None or connection.closed:
            connection = self._mine.connection = psycopg.connect(self._url, autocommit=True, connect_timeout=5)
        return connection

    def _forget(self) -> None:
        connection: Any = getattr(self._mine, "connection", None)
        self._mine.connection = None
        if connection is not None:
            connection.close()


def _text(vector: Sequence[float]) -> str:
    return f"[{','.join(map(repr, map(float, vector)))}]"
