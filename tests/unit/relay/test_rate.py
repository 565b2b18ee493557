"""Token buckets in one number, against one that counts tokens."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from fastrelay.relay.rate import Meter, Rate

S = 1_000_000_000


def test_a_burst_then_one_by_one() -> None:
    rate, meter = Rate(per_second=4, burst=3), Meter()
    assert [meter.take(rate, 10 * S) for _ in range(4)] == [True, True, True, False]
    assert meter.blocked(rate) == 10.25 * S
    assert not meter.take(rate, round(10.125 * S))
    assert meter.take(rate, round(10.25 * S))
    assert not meter.take(rate, round(10.375 * S))
    assert [meter.take(rate, 20 * S) for _ in range(4)] == [True, True, True, False]


def test_what_is_charged_regardless_has_to_be_waited_for() -> None:
    rate, meter = Rate(per_second=1, burst=1), Meter()
    for _ in range(5):
        meter.charge(rate, 0)
    assert meter.blocked(rate) == meter.empty_at == 5 * S


@given(
    st.sampled_from([1, 2, 8, 64]),
    st.integers(1, 20),
    st.lists(st.integers(0, 200), max_size=80),
)
def test_it_is_a_token_bucket(per_second: int, burst: int, pauses: list[int]) -> None:
    rate, meter = Rate(per_second, burst), Meter()
    tokens, before = Fraction(burst), Fraction(0)
    now = Fraction(1)
    for pause in pauses:
        now += Fraction(pause, 256)  # whole nanoseconds, as are the intervals
        tokens = min(Fraction(burst), tokens + (now - before) * per_second)
        before = now
        expected = tokens >= 1
        tokens -= int(expected)
        assert meter.take(rate, int(now * S)) is expected
