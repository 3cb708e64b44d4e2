"""The embedded vector search: compares with every vector of the collection, in the task store, whichever database that is."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy

from apps.core import bulk
from apps.workflows.context.vectors import Near
from apps.workflows.models_context import ContextVector

BATCH = 2000


class ExactIndex:
    """Compares with every vector of the collection: the right answer always, nothing to build or to keep in step. 10,000 documents
    take some 0.3 s on two busy cores, most of it reading: it is meant for collections up to some ten thousand."""

    def ensure(self, dims: int) -> None:
        """The table comes with the migrations."""

    def put(self, org_id: str, collection: str, vectors: Mapping[str, Sequence[float]]) -> None:
        stem = f"{org_id}/{collection}/"
        rows = {
            stem + key: ContextVector(
                id=stem + key, org_id=org_id, collection=collection, key=key, dims=len(vector), data=_unit(vector).tobytes()
            )
            for key, vector in vectors.items()
        }
        there = set(ContextVector.objects.filter(pk__in=list(rows)).values_list("pk", flat=True))
        bulk.insert_missing([row for pk, row in rows.items() if pk not in there])
        for pk in there:
            ContextVector.objects.filter(pk=pk).update(dims=rows[pk].dims, data=rows[pk].data)

    def remove(self, org_id: str, collection: str, keys: Iterable[str]) -> None:
        ContextVector.objects.filter(pk__in=[f"{org_id}/{collection}/{key}" for key in keys]).delete()

    def nearest(self, org_id: str, collection: str, vector: Sequence[float], limit: int) -> list[Near]:
        wanted = _unit(vector)
        best: list[tuple[float, str]] = []
        for keys, matrix in self._batches(org_id, collection, len(vector)):
            scores = matrix @ wanted
            found = [(-float(scores[place]), keys[place]) for place in _candidates(scores, limit)]
            best = heapq.nsmallest(limit, [*best, *found])
        return [Near(key=key, score=min(1.0, max(-1.0, -below))) for below, key in best]

    def _batches(self, org_id: str, collection: str, dims: int) -> Iterator[tuple[list[str], numpy.ndarray]]:
        rows = ContextVector.objects.filter(org_id=org_id, collection=collection, dims=dims).values_list("key", "data")
        keys: list[str] = []
        parts: list[bytes] = []
        for key, data in rows.iterator(chunk_size=BATCH):
            keys.append(key)
            parts.append(bytes(data))
            if len(keys) == BATCH:
                yield keys, _matrix(parts, dims)
                keys, parts = [], []
        if keys:
            yield keys, _matrix(parts, dims)


def _unit(vector: Sequence[float]) -> numpy.ndarray:
    # In double precision first: the length of a very long or very short vector must not overflow.
    values = numpy.asarray(vector, dtype=numpy.float64)
    values = values / numpy.abs(values).max()
    return (values / numpy.linalg.norm(values)).astype("<f4")


def _matrix(parts: Sequence[bytes], dims: int) -> numpy.ndarray:
    return numpy.frombuffer(b"".join(parts), dtype="<f4").reshape(len(parts), dims)


def _candidates(scores: numpy.ndarray, limit: int) -> Iterable[int]:
    """Places that may be among the best, all that equal the last of them included: the key decides between those."""
    if len(scores) <= limit:
        return range(len(scores))
    bound = numpy.partition(scores, len(scores) - limit)[len(scores) - limit]
    return numpy.flatnonzero(scores >= bound).tolist()
