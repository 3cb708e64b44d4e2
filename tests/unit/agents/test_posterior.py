"""The Beta distribution against what is known of it in closed form."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.agents.posterior import cdf, interval, quantile

shapes = st.floats(0.05, 2000)
shares = st.floats(0.001, 0.999)


@given(shares)
def test_the_uniform_is_its_own_quantile(p):
    assert quantile(p, 1, 1) == pytest.approx(p, abs=1e-10)


@given(shares, st.floats(0.1, 50))
def test_one_shape_of_one_has_a_closed_form(p, a):
    assert quantile(p, a, 1) == pytest.approx(p ** (1 / a), abs=1e-9)
    assert quantile(p, 1, a) == pytest.approx(1 - (1 - p) ** (1 / a), abs=1e-9)


@given(shares)
def test_the_arcsine_distribution(p):
    assert quantile(p, 0.5, 0.5) == pytest.approx(math.sin(math.pi * p / 2) ** 2, abs=1e-9)


@given(st.integers(1, 60), st.integers(1, 60), shares)
def test_whole_shapes_are_a_binomial_sum(a, b, x):
    n = a + b - 1
    assert cdf(x, a, b) == pytest.approx(sum(math.comb(n, j) * x**j * (1 - x) ** (n - j) for j in range(a, n + 1)), abs=1e-10)


@given(shapes, shapes, shares)
def test_seen_in_a_mirror_it_is_the_same(a, b, x):
    assert cdf(x, a, b) == pytest.approx(1 - cdf(1 - x, b, a), abs=1e-9)


@given(shapes, shapes, st.lists(shares, min_size=2, max_size=2).map(sorted))
def test_it_rises_and_stays_between_nothing_and_all(a, b, points):
    low, high = (cdf(x, a, b) for x in points)
    assert -1e-12 <= low <= high + 1e-12 <= 1 + 1e-11


@given(st.floats(0.5, 2000), st.floats(0.5, 2000), st.floats(0.01, 0.99))
def test_a_quantile_is_the_inverse(a, b, p):
    assert cdf(quantile(p, a, b), a, b) == pytest.approx(p, abs=1e-6)


@pytest.mark.parametrize(
    ("shape", "low", "high"),
    [((1, 1), 0.05, 0.95), ((2, 2), 0.135350, 0.864650), ((51, 51), 0.419069, 0.580931), ((10, 2), 0.636, 0.967)],
)
def test_ninety_percent_lies_between_the_twentieths(shape, low, high):
    assert interval(*shape) == (pytest.approx(low, abs=6e-4), pytest.approx(high, abs=6e-4))


def test_the_interval_narrows_with_evidence():
    widths = [high - low for low, high in (interval(n + 1, n + 1) for n in (0, 1, 10, 100, 1000))]
    assert widths == sorted(widths, reverse=True)
