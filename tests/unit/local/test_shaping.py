import pytest

from fastrelay.local.shaping import Shape, loss_rules, parse_delay, parse_loss, parse_rate


@pytest.mark.parametrize(
    ("text", "bits"),
    [("3mbit", 3e6), ("3M", 3e6), ("800kbit/s", 800e3), ("1.5Gbps", 1.5e9), ("64000", 64e3)],
)
def test_rates_as_people_write_them(text, bits):
    assert parse_rate(text) == bits


@pytest.mark.parametrize(("text", "part"), [("5%", 0.05), ("0.05", 0.05), ("0", 0), ("100%", 1)])
def test_losses(text, part):
    assert parse_loss(text) == pytest.approx(part)


@pytest.mark.parametrize(("text", "seconds"), [("40ms", 0.04), ("0.04s", 0.04), ("40", 0.04)])
def test_delays(text, seconds):
    assert parse_delay(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("parse", "text", "advice"),
    [
        (parse_rate, "1.2.3mbit", "write it like 3mbit"),
        (parse_rate, "fast", "write it like 3mbit"),
        (parse_loss, "5 percent", "write it like 5%"),
        (parse_delay, "-3ms", "write it like 40ms"),
    ],
)
def test_nonsense_is_answered_with_an_example(parse, text, advice):
    with pytest.raises(ValueError, match=advice):
        parse(text)


@pytest.mark.parametrize("wrong", [{"rate": 10}, {"loss": 1.5}, {"loss": -0.1}, {"delay": 60}])
def test_impossible_shapes_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Shape(**wrong)


def test_loss_drops_both_directions_of_lossy_links_only():
    rules = loss_rules({"relay": Shape(), "viewer-1": Shape(loss=0.05)})
    assert 'iifname "viewer-1" numgen random mod 100000 < 5000 drop' in rules
    assert 'oifname "viewer-1" numgen random mod 100000 < 5000 drop' in rules
    assert '"relay"' not in rules


def test_no_loss_needs_no_rules():
    assert loss_rules({"viewer-1": Shape(rate=1e6)}) == ""
