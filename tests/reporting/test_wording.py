from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crack_pipeline.reporting.wording import distance, moment, number, plain, quantity, share


@given(st.text(st.characters(codec=None)))
def test_any_name_can_be_written(text):
    assert plain(plain(text)) == plain(text)
    assert not set(plain(text).encode()) & {0, 0x1B, 0x0D}


def test_what_can_be_written_stays_as_it_is():
    assert plain("שלום/brücke 🧱\n<b>") == "שלום/brücke 🧱\n<b>"


@pytest.mark.parametrize("hostile", ["a\0b", "a\udcffb", "a\u202eb", "a\u2066b", "a\x1bb", "a\x9bb"])
def test_what_cannot_is_seen_as_replaced(hostile):
    assert set(plain(hostile)) == {"a", "b", "\ufffd"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0.00"), (0.126, "0.13"), (9.5, "9.50"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346")],
)
def test_numbers_have_about_three_digits(value, shown):
    assert number(value) == shown


def test_units():
    assert quantity(3.2, "mm") == "3.20\N{NO-BREAK SPACE}mm"
    assert [distance(value) for value in (12, 999, 1000, 12_345)] == [
        text.replace(" ", "\N{NO-BREAK SPACE}") for text in ("12.0 mm", "999 mm", "1.00 m", "12.3 m")
    ]


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0 %"), (1e-5, "< 0.01 %"), (0.0034, "0.34 %"), (0.125, "12.5 %"), (1, "100 %")]
)
def test_shares(value, shown):
    assert share(value) == shown.replace(" ", "\N{NO-BREAK SPACE}")


def test_a_moment_says_in_which_zone():
    assert moment(datetime(2026, 3, 1, 9, 5, tzinfo=UTC)) == "1 March 2026, 09:05 (UTC+0000)"
    assert moment(datetime(2026, 3, 1, 9, 5, tzinfo=timezone(timedelta(hours=-2)))).endswith("(UTC-0200)")
