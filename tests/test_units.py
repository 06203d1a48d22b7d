"""Text with units to integers and back."""

import contextlib
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevpcie_core import units
from sevpcie_core.errors import ConfigError

QUANTITIES = [
    (units.parse_bytes, units.format_bytes, units.BYTE_UNITS, "B"),
    (units.parse_time_ps, units.format_time, units.TIME_UNITS, "ps"),
    (units.parse_rate_bps, units.format_rate, units.RATE_UNITS, "b/s"),
    (units.parse_operations, units.format_operations, units.OPERATION_UNITS, "ops/s"),
]
IDS = ["bytes", "time", "rate", "operations"]


@pytest.mark.parametrize(("parse", "write", "known", "base"), QUANTITIES, ids=IDS)
@given(value=st.integers(0, 2**63 - 1) | st.integers(0, 2**20).map(lambda n: n * 10**12))
def test_what_is_written_is_read_back(parse, write, known, base, value):
    assert parse(write(value)) == value


@pytest.mark.parametrize(("parse", "write", "known", "base"), QUANTITIES, ids=IDS)
@given(data=st.data(), thousandths=st.integers(0, 10**6))
def test_every_unit_is_exact(parse, write, known, base, data, thousandths):
    unit = data.draw(st.sampled_from(sorted(known)))
    text = f"{thousandths // 1000}.{thousandths % 1000:03d}{unit}"
    exact = Fraction(thousandths, 1000) * known[unit]
    if exact.denominator == 1:
        assert parse(text) == exact
    else:
        with pytest.raises(ConfigError, match="not a whole number of"):
            parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (4096, 4096),
        ("4096", 4096),
        ("64KiB", 65536),
        (" 64 KiB ", 65536),
        ("64kB", 64000),
        ("1.5MB", 1_500_000),
        ("0.5KiB", 512),
        (".5KiB", 512),
        ("2.GiB", 2**31),
        (0, 0),
    ],
)
def test_bytes(text, expected):
    assert units.parse_bytes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10us", 10**7), ("10µs", 10**7), ("1.3ns", 1300), ("0", 0), (0, 0), ("0.0", 0), ("1s", 10**12)],
)
def test_times(text, expected):
    assert units.parse_time_ps(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("400Gb/s", 4 * 10**11),
        ("50GB/s", 4 * 10**11),
        ("1KiB/s", 8192),
        (1000, 1000),
        ("2.5 Gb/s", 25 * 10**8),
    ],
)
def test_rates(text, expected):
    assert units.parse_rate_bps(text) == expected


@pytest.mark.parametrize(
    ("parse", "value", "meant"),
    [
        (units.parse_bytes, "64KB", "kB or KiB"),
        (units.parse_bytes, "64K", "kB or KiB"),
        (units.parse_bytes, "1mb", "MB or MiB"),
        (units.parse_bytes, "4kib", "KiB"),
        (units.parse_rate_bps, "60Gbps", "Gb/s"),
        (units.parse_rate_bps, "60GBps", "GB/s"),
        (units.parse_rate_bps, "60gib/s", "Gib/s"),
        (units.parse_operations, "5Kops/s", "kops/s"),
        (units.parse_time_ps, "3US", "us"),
        (units.parse_time_ps, "3h", None),
        (units.parse_bytes, "4 parsecs", None),
        (units.parse_rate_bps, "3ops", None),
    ],
)
def test_a_unit_that_may_be_meant_is_named(
    parse: Callable[[object], int], value: str, meant: str | None
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(value)
    _, asks, near = str(caught.value).partition("; did you mean ")
    assert (near == f"{meant}?") if meant else not asks


@pytest.mark.parametrize(
    ("parse", "value", "said"),
    [
        (units.parse_bytes, -1, "-1; expected a size of 0 or more"),
        (units.parse_bytes, "-4KiB", "'-4KiB'; expected a size"),
        (units.parse_bytes, "4 parsecs", "unknown unit 'parsecs'"),
        (units.parse_bytes, "4kib", "unknown unit 'kib'"),
        (units.parse_bytes, "0.5B", "not a whole number of B"),
        (units.parse_bytes, "", "''; expected"),
        (units.parse_bytes, "1e3", "unknown unit 'e'|expected a size"),
        (units.parse_bytes, "nan", "'nan'; expected"),
        (units.parse_bytes, "٤KiB", "expected a size"),
        (units.parse_bytes, 4.0, "4.0; expected"),
        (units.parse_bytes, True, "True; expected"),
        (units.parse_bytes, None, "None; expected"),
        (units.parse_bytes, "9" * 19 + "TB", "too large"),
        (units.parse_bytes, "9" * 1000, r"\.\.\.; expected"),
        (units.parse_bytes, 10**100, "expected"),
        (units.parse_time_ps, "10", "'10': no unit; expected a time"),
        (units.parse_time_ps, 10, "10: no unit"),
        (units.parse_time_ps, "0.5ps", "not a whole number of ps"),
        (units.parse_time_ps, "-1ns", "expected a time of 0 or more"),
        (units.parse_time_ps, "1GB", "unknown unit 'GB'"),
        (units.parse_rate_bps, "400Gbps", "unknown unit 'Gbps'|expected a rate"),
        (units.parse_rate_bps, "-1Gb/s", "expected a rate"),
    ],
)
def test_what_is_refused(parse, value, said):
    with pytest.raises(ConfigError, match=said) as caught:
        parse(value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("parse", [units.parse_bytes, units.parse_time_ps, units.parse_rate_bps])
def test_numbers_that_python_does_not_write(parse):
    with pytest.raises(ConfigError, match="a number of more than 64 digits; expected"):
        parse(10**5000)


@given(st.text(max_size=40) | st.integers() | st.floats() | st.none() | st.booleans())
def test_a_parser_returns_a_size_or_says_why(value):
    for parse, *_ in QUANTITIES:
        with contextlib.suppress(ConfigError):
            assert 0 <= parse(value) <= units.INT64_MAX


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (units.format_bytes, 65536, "64KiB"),
        (units.format_bytes, 1514, "1514B"),
        (units.format_bytes, 0, "0B"),
        (units.format_time, 1_300_000, "1300ns"),
        (units.format_time, 0, "0ps"),
        (units.format_rate, 4 * 10**11, "400Gb/s"),
        (units.format_time_ns, 1_234_560, "1,234.6 ns"),
        (units.format_duration, 12_345_678, "12.3 us"),
        (units.format_duration, 999_499, "999 ns"),
        (units.format_duration, 1_500, "1.50 ns"),
        (units.format_duration, 42, "42.0 ps"),
        (units.format_duration, 0, "0.00 ps"),
        (units.format_duration, -2 * 10**9, "-2.00 ms"),
    ],
)
def test_writing(write, value, text):
    assert write(value) == text


def test_negative_sizes_are_not_written():
    with pytest.raises(ConfigError, match="-1; expected 0 or more"):
        units.format_bytes(-1)
