"""Thresholds: the grammar, which rows they speak of, and above all the polarity of every outcome."""

import contextlib
import copy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import make_record

from sevpcie_core.errors import ConfigError
from sevpcie_core.gate import EXIT_CODES, judge, parse, read_thresholds, worst
from sevpcie_core.record import RunRecord, results_digest

PLAIN = make_record(["nvme"])
ONE = "nvme[scheme=sev-pcie,policy=all,workload=randread4k,class=dram]"


def with_change(record_dict, *, ci, span=(None, None), metric="latency_p99"):
    """Return a record in which the row of ONE has this overhead."""
    data = copy.deepcopy(record_dict)
    for row in data["results"]:
        if (row["workload"], row["class"], row["scheme"], row["policy"]) == (
            "randread4k",
            "dram",
            "sev-pcie",
            "all",
        ):
            low, high = ci
            row["overhead"][metric] = {
                "value_pct": 0.0 if low is None or high is None else (low + high) / 2,
                "added_ns": 1.0,
                "ci_low_pct": low,
                "ci_high_pct": high,
                "range_low_pct": span[0],
                "range_high_pct": span[1],
            }
    return RunRecord.from_dict(data | {"digest": results_digest(data["results"])})


def outcome(record, text):
    (judgement,) = judge(record, [parse(text)])
    return judgement.outcome


@pytest.mark.parametrize(
    ("ci", "span", "op", "expected"),
    [
        ((1, 2), (1, 2), "< 5%", "pass"),
        ((6, 7), (6, 7), "< 5%", "fail"),
        ((4, 6), (5, 5), "< 5%", "inconclusive"),
        # The range over the unknowns decides as much as the interval does.
        ((1, 2), (0, 9), "< 5%", "inconclusive"),
        ((6, 7), (2, 9), "< 5%", "inconclusive"),
        ((1, 2), (None, None), "< 5%", "pass"),
        # At the limit.
        ((1, 5), (1, 1), "< 5%", "inconclusive"),
        ((1, 5), (1, 1), "<= 5%", "pass"),
        ((5, 6), (5, 6), "< 5%", "fail"),
        ((5, 6), (5, 6), "<= 5%", "inconclusive"),
        # The other way round.
        ((6, 7), (6, 7), "> 5%", "pass"),
        ((1, 2), (1, 2), "> 5%", "fail"),
        ((4, 6), (4, 6), ">= 5%", "inconclusive"),
        ((-3, -2), (-3, -2), "< -1%", "pass"),
        # No interval, no decision.
        ((None, None), (1, 2), "< 5%", "inconclusive"),
    ],
)
def test_polarity(record_dict, ci, span, op, expected):
    record = with_change(record_dict, ci=ci, span=span)
    assert outcome(record, f"{ONE}.latency_p99.overhead {op}") == expected


ends = st.tuples(*[st.floats(-100, 100, allow_nan=False)] * 2).map(sorted)


@given(ci=ends, span=ends, limit=st.integers(-100, 100))
def test_less_and_greater_are_mirror_images(ci, span, limit):
    record = with_change(PLAIN, ci=tuple(ci), span=tuple(span))
    low, high = min(*ci, *span), max(*ci, *span)
    below = outcome(record, f"{ONE}.latency_p99.overhead < {limit}%")
    assert below == ("pass" if high < limit else "fail" if low >= limit else "inconclusive")
    at_least = outcome(record, f"{ONE}.latency_p99.overhead >= {limit}%")
    assert at_least == {"pass": "fail", "fail": "pass", "inconclusive": "inconclusive"}[below]


def test_absolute_metrics_are_points(record):
    row = next(r for r in record.results if r.key == ("nvme", "randread4k", "dram", "sev-pcie", "all"))
    p99_us = row.latency_ns.p99 / 1e3
    assert outcome(record, f"{ONE}.latency_p99 < {p99_us * 1.01:.6f}us") == "pass"
    assert outcome(record, f"{ONE}.latency_p99 < {p99_us * 0.99:.6f}us") == "fail"
    gigabytes = row.throughput_gbps / 8
    assert outcome(record, f"{ONE}.throughput > {gigabytes * 0.99:.6f} GB/s") == "pass"
    assert outcome(record, f"{ONE}.throughput > {gigabytes * 1.01:.6f} GB/s") == "fail"


def test_job_time_speaks_of_gpu_rows_alone(record):
    (judgement,) = judge(record, [parse("gpu[class=all].job < 1s")])
    assert {f.row[0] for f in judgement.findings} == {"gpu"}
    assert judgement.outcome == "fail"
    with pytest.raises(ConfigError, match="no row of the record has this metric"):
        judge(record, [parse("nvme.job < 1s")])


def test_a_percentile_without_samples_is_not_a_pass(record_dict):
    data = copy.deepcopy(record_dict)
    for row in data["results"]:
        row["latency_ns"]["p999"] = None
        if row["overhead"]:
            row["overhead"]["latency_p99"] = None
    record = RunRecord.from_dict(data | {"digest": results_digest(data["results"])})
    assert outcome(record, "nvme.latency_p999 < 1s") == "inconclusive"
    assert outcome(record, "nvme.latency_p99.overhead < 1000%") == "inconclusive"


def test_an_omitted_key_means_every_protected_row(record):
    (judgement,) = judge(record, [parse("nvme.latency_p50 < 1s")])
    rows = {f.row for f in judgement.findings}
    assert rows == {row.key for row in record.results if row.scenario == "nvme" and row.scheme != "none"}
    assert judgement.outcome == "pass"


def test_one_failing_row_fails_the_threshold(record_dict):
    record = with_change(record_dict, ci=(900, 901), span=(900, 901))
    assert outcome(record, "nvme.latency_p99.overhead < 500%") == "fail"


def test_plaintext_is_judged_by_name_only(record):
    (judgement,) = judge(record, [parse("nvme[scheme=none,class=all].latency_p50 < 1s")])
    assert {f.row[3] for f in judgement.findings} == {"none"}
    with pytest.raises(ConfigError, match="scheme=none is the baseline and has no overhead"):
        judge(record, [parse("nvme[scheme=none].latency_p50.overhead < 5%")])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nvm.latency_p99 < 1us", "no row with scenario 'nvm'; there are: gpu, nvme"),
        ("nvme[scheme=sev].latency_p99 < 1us", "no row with scheme 'sev'; there are: pcie-ide, sev-pcie"),
        ("nvme[workload=x].latency_p99 < 1us", "no row with workload 'x'; there are: mix70_30, randread4k"),
        ("nvme[scheme=pcie-ide,policy=selective].latency_p99 < 1us", "no row with policy 'selective'"),
        ("nvme[class=h2d].latency_p99 < 1us", "no row with class 'h2d'; there are: all, dram, tlc"),
    ],
)
def test_what_the_record_does_not_have_is_an_error(record, text, words):
    with pytest.raises(ConfigError) as caught:
        judge(record, [parse("nvme.latency_p50 < 1ns"), parse(text)])
    assert words in str(caught.value)


def test_an_interrupted_run_is_not_judged(record_dict):
    record = RunRecord.from_dict(record_dict | {"complete": False})
    with pytest.raises(ConfigError, match="interrupted"):
        judge(record, [parse("nvme.latency_p50 < 1s")])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected SCENARIO"),
        ("nvme", "expected SCENARIO"),
        ("nvme.latency_p99 = 5us", "expected SCENARIO"),
        ("nvme.latency_p99 <", "expected SCENARIO"),
        ("nvme[scheme=x.latency_p99 < 5us", "expected SCENARIO"),
        ("nvme.latency_p98 < 5us", "unknown metric 'latency_p98'; there are: latency_p50"),
        ("nvme.latency_p999.overhead < 5%", "unknown overhead of a metric 'latency_p999'"),
        ("nvme.overhead < 5%", "unknown metric 'overhead'"),
        (
            "nvme[color=red].latency_p99 < 5us",
            "'color=red'; expected each of workload, class, scheme, policy",
        ),
        ("nvme[scheme].latency_p99 < 5us", "'scheme'; expected each of"),
        ("nvme[scheme=].latency_p99 < 5us", "'scheme='; expected each of"),
        ("nvme[scheme=a,scheme=b].latency_p99 < 5us", "'scheme=b'; expected each of"),
        ("nvme.latency_p99.overhead < 5", "'5'; expected per cent"),
        ("nvme.latency_p99.overhead < 5us", "'5us'; expected per cent"),
        ("nvme.latency_p99.overhead < 5%%", "expected per cent"),
        ("nvme.latency_p99.overhead < nan%", "expected per cent"),
        ("nvme.latency_p99 < 5%", "'5%'; expected a time"),
        ("nvme.latency_p99 < 5", "no unit; expected a time"),
        ("nvme.throughput > 5us", "unknown unit 'us'; expected a rate"),
    ],
)
def test_grammar_errors_say_what_is_allowed(text, words):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_a_threshold_or_a_config_error(text):
    with contextlib.suppress(ConfigError):
        assert parse(text).scenario


def test_parsed_form():
    threshold = parse(" nvme[ scheme = sev-pcie , class=dram ].latency_p99.overhead<=2.5 % ")
    assert (threshold.scenario, threshold.metric, threshold.overhead) == ("nvme", "latency_p99", True)
    assert (threshold.keys, threshold.op) == ({"scheme": "sev-pcie", "class": "dram"}, "<=")
    assert (threshold.limit, threshold.unit) == (2.5, "%")
    assert parse("my.pcap.gz.throughput > 5 GB/s").scenario == "my.pcap.gz"
    assert (parse("x.throughput > 5 GB/s").limit, parse("x.job < 2s").limit) == (40.0, 2000.0)
    assert parse("x.io_path_p50 < 1.5us").limit == 1500.0


def test_files_of_both_kinds():
    lines = "# limits\n\nnvme.latency_p99 < 1us  # tight\nnvme.latency_p50.overhead < 5%\n"
    toml = 'thresholds = ["nvme.latency_p99 < 1us", "nvme.latency_p50.overhead < 5%"]'
    assert read_thresholds(Path("a.txt"), lines) == read_thresholds(Path("a.toml"), toml)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "", "a.txt: no thresholds"),
        ("a.txt", "# nothing\n", "a.txt: no thresholds"),
        ("a.txt", "nvme.latency_p99 < 1us\nnonsense\n", "a.txt:2: 'nonsense'; expected SCENARIO"),
        ("a.toml", "", "a.toml: no thresholds"),
        ("a.toml", "thresholds = []", "a.toml: no thresholds"),
        ("a.toml", "thresholds = 3", "a.toml: thresholds: 3; expected a list"),
        ("a.toml", "thresholds = [1]", "a.toml: thresholds: [1]; expected a list"),
        ("a.toml", "threshold = []", "unknown key 'threshold'; allowed: thresholds"),
        ("a.toml", "thresholds = [", "a.toml:1: "),
        ("a.toml", 'thresholds = ["nvme.p < 1us"]', "a.toml: thresholds[0]: "),
    ],
)
def test_bad_files_are_named(name, text, words):
    with pytest.raises(ConfigError) as caught:
        read_thresholds(Path(name), text)
    assert words in str(caught.value)


def test_worst_and_exit_codes():
    assert [EXIT_CODES[worst(o)] for o in (["pass"], ["pass", "inconclusive"])] == [0, 4]
    assert EXIT_CODES[worst(["inconclusive", "fail", "pass"])] == 99


@pytest.mark.parametrize(
    "text",
    [
        "thresholds = " + "[" * 5000,
        "thresholds = " + "[" * 150 + "]" * 150,
        f"thresholds = [{'1' * 5000}]",
        f"thresholds = [0x{'f' * 5000}]",
        f'thresholds = ["nvme.latency_p99 < {"9" * 5000}ns"]',
        f'thresholds = ["nvme.latency_p99.overhead < {"9" * 5000}%"]',
        f'thresholds = ["nvme.throughput > {"9" * 5000} GB/s"]',
    ],
)
def test_what_python_cannot_hold_is_refused(text):
    with pytest.raises(ConfigError, match=r"^t\.toml"):
        read_thresholds(Path("t.toml"), text)
