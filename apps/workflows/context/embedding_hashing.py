"""The embedded embedder: lexical, without a model, a network or training. The same text has the same vector everywhere."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

_WORD = re.compile(r"\w+")
_TRIGRAM_WEIGHT = 0.3


class HashingEmbedder:
    """Lexical: each word, and with less weight each run of three letters in it, falls on one of `dims` places (feature
    hashing); a word that comes often counts by the root of how often. Texts are near when they share words or stems."""

    dims = 384

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> list[float]:
        # Plain floats: one by one they are several times faster than numpy's.
        vector = [0.0] * self.dims
        words = Counter(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))
        for word, times in words.items():
            root = times**0.5
            for place, weight in _places(word, self.dims):
                vector[place] += weight * root
        length = math.hypot(*vector)
        return [value / length for value in vector] if length else vector


@lru_cache(maxsize=20_000)
def _places(word: str, dims: int) -> tuple[tuple[int, float], ...]:
    padded = f"^{word}$"
    grams = [padded[start : start + 3] for start in range(len(padded) - 2)] if len(word) > 2 else []
    return (_place(f"w{word}", dims, 1.0), *(_place(f"g{gram}", dims, _TRIGRAM_WEIGHT) for gram in grams))


def _place(feature: str, dims: int, weight: float) -> tuple[int, float]:
    number = int.from_bytes(hashlib.blake2b(feature.encode(errors="replace"), digest_size=8).digest(), "big")
    return (number >> 1) % dims, weight if number & 1 else -weight
