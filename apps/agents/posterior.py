"""The Beta distribution: what is known of an agent's share of successes, and how well.

The cumulative distribution is the regularized incomplete beta function I_x(a, b), by the continued fraction of
Abramowitz & Stegun 26.5.8, evaluated with Lentz's method (Numerical Recipes, section 6.4). The quantile inverts it by
bisection: it cannot leave [0, 1] and needs no derivative, and 44 halvings give thirteen digits.
"""

from __future__ import annotations

import math
from functools import lru_cache

STEPS = 300
TINY = 1e-300
CLOSE = 1e-15
HALVINGS = 44


def cdf(x: float, a: float, b: float) -> float:
    """I_x(a, b): the probability that a Beta(a, b) variable is at most x. a, b > 0."""
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    # The fraction converges fast on one side of the mean; on the other its mirror image does.
    if x < (a + 1.0) / (a + b + 2.0):
        return front * _fraction(x, a, b) / a
    return 1.0 - front * _fraction(1.0 - x, b, a) / b


def quantile(p: float, a: float, b: float) -> float:
    """The x with cdf(x, a, b) = p."""
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if cdf(middle, a, b) < p:
            low = middle
        else:
            high = middle
    return (low + high) / 2


@lru_cache(maxsize=4096)  # all that nothing is known of have the same
def interval(a: float, b: float, mass: float = 0.9) -> tuple[float, float]:
    """The credible interval that holds `mass`, with the same probability on either side of it."""
    tail = (1.0 - mass) / 2
    return quantile(tail, a, b), quantile(1.0 - tail, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    c, d = 1.0, 1.0 / _away(1.0 - (a + b) * x / (a + 1.0))
    result = d
    for m in range(1, STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / _away(1.0 + term * d)
            c = _away(1.0 + term / c)
            result *= c * d
        if abs(c * d - 1.0) < CLOSE:
            break
    return result


def _away(value: float) -> float:
    """Not quite zero."""
    return value if abs(value) > TINY else TINY
