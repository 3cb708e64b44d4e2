"""The embedded embedder: lexical, without a model, a network or training. The same text has the same vector everywhere."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy

_WORD = re.compile(r"\w+")
_TRIGRAM_WEIGHT = 0.3


class HashingEmbedder:
    """Lexical: each word, and with less weight each run of three letters in it, falls on one of `dims` places (feature
    hashing); a word that comes often counts by the root of how often. Texts are near when they share words or stems."""

    dims = 384

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> list[float]:
        vector = numpy.zeros(self.dims)
        words = Counter(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))
        for word, times in words.items():
            for place, sign, weight in _places(word, self.dims):
                vector[place] += sign * weight * times**0.5
        length = float(numpy.linalg.norm(vector))
        return (vector / length).tolist() if length else vector.tolist()


@lru_cache(maxsize=20_000)
def _places(word: str, dims: int) -> tuple[tuple[int, int, float], ...]:
    padded = f"^{word}$"
    grams = [padded[start : start + 3] for start in range(len(padded) - 2)] if len(word) > 2 else []
    return (_place(f"w{word}", dims, 1.0), *(_place(f"g{gram}", dims, _TRIGRAM_WEIGHT) for gram in grams))


def _place(feature: str, dims: int, weight: float) -> tuple[int, int, float]:
    number = int.from_bytes(hashlib.blake2b(feature.encode(errors="replace"), digest_size=8).digest(), "big")
    return (number >> 1) % dims, 1 if number & 1 else -1, weight
