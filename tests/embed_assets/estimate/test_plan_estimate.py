"""The plan's arithmetic: by hand where a hand can, by its laws elsewhere."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_assets.estimate.estimate import Offer, Starts, Work, load_seconds, offer, recommended_strides, total, work
from embed_assets.estimate.figures import Figure, How
from embed_assets.estimate.tokens import Counts
from resources.skypilot.prices import Quote

positive = st.floats(1e-3, 1e9, allow_nan=False)
HOW = st.sampled_from(list(How))


@st.composite
def figures(draw: st.DrawFn) -> Figure:
    low, value, high = sorted(draw(st.tuples(positive, positive, positive)))
    return Figure(low, value, high, draw(HOW))


def counts(tokens: float, duplicates: float | None = None) -> Counts:
    one = Figure.exact(1.0, How.STATED)
    return Counts(Figure.exact(tokens, How.STATED), one, duplicates, {}, 0, "")


def job(**changes: Any) -> Offer:
    given = {"rows": 1e6, "tokens": 100.0, "speed": 2000.0, "spot": 0.3, "strides": 50, "load": 100.0, "start": 240.0}
    given |= changes
    todo = work(Figure.exact(given["rows"], How.STATED), counts(given["tokens"]), 3584, 2)
    rate = Figure.exact(given["speed"], How.STATED)
    starts = Starts(given["start"], Figure.exact(given["load"], How.STATED), once=bool(changes.get("once")))
    return offer("L4", todo, rate, Quote(given["spot"], 0.8), starts, int(given["strides"]), 2048)


def test_amazon_books_by_hand() -> None:
    """29.5 M rows of 100 tokens at 2,000 tokens/s: 1,475,000 s of an L4; 500 starts of 240 + 100 s."""
    made = job(rows=29.5e6, strides=500)
    engine, starts = 29.5e6 * 100 / 2000, 500 * 340.0
    assert engine == 1_475_000
    assert made.engine_hours is not None and made.engine_hours.value == pytest.approx(409.7, abs=0.05)
    assert made.hours is not None and made.hours.value == pytest.approx((engine + starts) / 3600) == pytest.approx(
        456.94, abs=0.01
    )
    assert made.spot_usd is not None and made.spot_usd.value == pytest.approx(456.94 * 0.3, abs=0.01)
    assert made.on_demand_usd is not None and made.on_demand_usd.value == pytest.approx(456.94 * 0.8, abs=0.01)
    assert made.wall_hours[500].value == pytest.approx((2950 + 340) / 3600)
    assert made.wall_hours[250].value == pytest.approx(2 * (2950 + 340) / 3600)
    assert made.load_share == pytest.approx(100 / 3050)
    assert made.recommended_strides == 456  # 1,475,000 s / 456 = 3,235 s, of which 100 s are 3.0 %
    assert made.checkpoint_seconds == pytest.approx(2048 * 100 / 2000)
    assert made.preemption_seconds == pytest.approx(340 + 51.2)


@given(a=figures(), b=figures())
def test_figures_stay_ranges_and_as_sure_as_the_weaker(a: Figure, b: Figure) -> None:
    for made in (a * b, a / b, a + b, a * 2.0):
        assert made.low <= made.value <= made.high
    order = list(How)
    assert order.index((a * b).how) == max(order.index(a.how), order.index(b.how))


def test_a_range_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="does not hold"):
        Figure(2, 1, 3, How.STATED)
    with pytest.raises(ValueError, match="does not hold"):
        Figure(math.nan, 1, 3, How.STATED)


@given(
    key=st.sampled_from(["rows", "tokens", "spot", "strides", "load", "start"]),
    factor=st.floats(1.0, 50.0),
    rows=st.floats(1e3, 1e8),
    speed=st.floats(10, 1e5),
)
def test_more_work_dearer_machines_and_slower_starts_never_cost_less(
    key: str, factor: float, rows: float, speed: float
) -> None:
    base: dict[str, Any] = {
        "rows": rows,
        "speed": speed,
        "strides": 50,
        "tokens": 100.0,
        "spot": 0.3,
        "load": 100.0,
        "start": 240.0,
    }
    less, more = job(**base), job(**{**base, key: base[key] * factor})
    assert less.spot_usd is not None and more.spot_usd is not None
    assert more.spot_usd.value >= less.spot_usd.value * (1 - 1e-12)
    assert more.spot_usd.low >= less.spot_usd.low * (1 - 1e-12)
    faster = job(**{**base, "speed": speed * factor})
    assert faster.spot_usd is not None and faster.spot_usd.value <= less.spot_usd.value * (1 + 1e-12)


@given(strides=st.integers(1, 10_000), rows=st.floats(1e3, 1e8))
def test_more_jobs_at_once_never_take_longer_and_one_takes_all_the_hours(strides: int, rows: float) -> None:
    made = job(strides=strides, rows=rows)
    walls = [made.wall_hours[jobs].value for jobs in sorted(made.wall_hours)]
    assert walls == sorted(walls, reverse=True)
    assert made.hours is not None and walls[0] == pytest.approx(made.hours.value)
    assert max(made.wall_hours) == strides


@given(engine=st.floats(1, 1e9), load=st.floats(0.1, 1e4), rows=st.floats(1, 1e9))
def test_recommended_strides_keep_loading_under_three_percent(engine: float, load: float, rows: float) -> None:
    strides = recommended_strides(engine, load, rows)
    assert 1 <= strides <= min(10_000, max(rows, 1))
    share = load / (load + engine / strides)
    assert strides == 1 or share <= 0.03 * (1 + 1e-9)
    if strides < min(10_000, int(rows)):
        assert load / (load + engine / (strides + 1)) > 0.03 * (1 - 1e-9), "one more would still do"
    assert recommended_strides(2 * engine, load, rows) >= strides


def test_a_worker_that_stays_loads_the_model_once() -> None:
    each, once = job(start=0.0), job(start=0.0, once=True)
    assert each.hours is not None and once.hours is not None
    assert (each.hours.value - once.hours.value) * 3600 == pytest.approx(49 * 100)
    assert once.recommended_strides is None


def test_duplicates_are_not_computed_but_are_stored() -> None:
    rows = Figure.exact(1000, How.MEASURED)
    with_, without = work(rows, counts(10, 0.25), 8, 4), work(rows, counts(10), 8, 4)
    assert with_.computed_tokens == Figure(7500, 7500, 10_000, How.STATED)
    assert without.computed_tokens == without.tokens == with_.tokens
    assert with_.output_bytes == without.output_bytes
    assert without.output_bytes is not None and without.output_bytes.high == 1000 * (8 * 4 + 40)


@pytest.mark.parametrize(("quote", "known"), [(Quote(None, None, reason="why"), False), (Quote(0.5, None), True)])
def test_an_unknown_price_is_an_unknown_cost(quote: Quote, known: bool) -> None:
    todo = work(Figure.exact(1e6, How.STATED), counts(100), None, 4)
    starts = Starts(0.0, Figure.exact(1, How.STATED))
    made = offer("L4", todo, Figure.exact(100, How.STATED), quote, starts, 5, 100)
    assert (made.spot_usd is not None) is known and made.on_demand_usd is None
    assert todo.output_bytes is None


def test_an_unknown_speed_leaves_all_of_it_unknown() -> None:
    todo: Work = work(Figure.exact(1e6, How.STATED), counts(100), 8, 4)
    made = offer("X", todo, None, Quote(1.0, 2.0), Starts(0.0, Figure.exact(1, How.STATED)), 5, 100)
    assert made.hours is made.spot_usd is made.load_share is None and "tokens_per_second" in made.reason


def test_totals_are_unknown_where_a_part_is() -> None:
    one = Figure.exact(1.0, How.STATED)
    assert total([one, one]) == Figure.exact(2.0, How.STATED)
    assert total([one, None]) is None and total([]) is None


def test_loading_is_measured_or_stated_before_it_is_assumed() -> None:
    assert load_seconds(5.0, 9.0, 1e9) == Figure.exact(5.0, How.STATED)
    assert load_seconds(None, 9.0, 1e9).how is How.MEASURED
    assert load_seconds(None, None, 15e9).value == pytest.approx(40 + 60)
