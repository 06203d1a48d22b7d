"""The comparison end to end: paired arms, intervals, ranges, verdicts, and what the record says of them."""

import copy
from typing import Any

import pytest

from sevpcie_core import Comparison, Scenario, compare, load
from sevpcie_core.errors import ConfigError, NothingMeasuredError, SevPcieError
from sevpcie_core.experiment import overhead
from sevpcie_core.experiment.hardware import engine_of
from sevpcie_core.experiment.resolved import Arm, GpuTraffic
from sevpcie_core.experiment.runner import Task
from sevpcie_core.experiment.scenario import load_scenario, load_scheme
from sevpcie_core.report.table import summary_text
from sevpcie_core.workload.traces import read_gpu

SMALL: dict[str, Any] = {
    "schema_version": 1,
    "name": "small",
    "link": "gen5x4",
    "requests": 400,
    "workload": [
        {
            "name": "reads",
            "device": {
                "ssd": {
                    "preset": "nvme-dram",
                    "traffic": {"kind": "nvme", "queue_depth": 4, "block": "4KiB", "read_share": 0.7},
                }
            },
        }
    ],
}


def small(**changes: Any) -> Scenario:
    data = copy.deepcopy(SMALL) | changes
    if "duration" in changes:
        del data["requests"]
    return Scenario.from_dict(data)


@pytest.fixture(scope="module")
def done() -> Comparison:
    return compare(small())


def row(comparison: Comparison, scheme: str, policy: str, **keys: str) -> Any:
    wanted = {"scheme": scheme, "policy": policy, "class": "all"} | keys
    (found,) = [
        r
        for r in comparison.record.to_dict()["results"]
        if all(r[name] == value for name, value in wanted.items())
    ]
    return found


def arms_of(comparison: Comparison) -> list[tuple[str, str]]:
    """Return scheme and policy of the rows of all requests, in order."""
    return [(r.scheme, r.policy) for r in comparison.record.results if r.class_ == "all"]


def task(policy_scenario: Scenario | None = None) -> Task:
    resolved = (policy_scenario or small()).resolve()
    return Task.prepare(resolved, resolved.workloads[0], 1)


def test_policy_off_is_plaintext_exactly() -> None:
    work = task()
    plain = work.simulate(load_scheme("none"), "off", keep=400)
    off = work.simulate(load_scheme("sev-pcie"), "off", keep=400)
    assert (plain.kept_ps == off.kept_ps).all()
    assert [c.wire_bytes for c in plain.classes] == [c.wire_bytes for c in off.classes]
    assert plain.job_ps == off.job_ps


def test_selective_without_a_protected_buffer_is_plaintext_exactly() -> None:
    work = task(small(regions={"data": 0.0, "queue": 0.0, "mmio": 0.0, "msi": 0.0}))
    plain = work.simulate(load_scheme("none"), "off", keep=400)
    nothing = work.simulate(load_scheme("sev-pcie"), "selective", keep=400)
    assert (plain.kept_ps == nothing.kept_ps).all()


def test_selective_of_everything_is_all_exactly() -> None:
    work = task(small(regions={"data": 1.0, "queue": 1.0, "mmio": 1.0, "msi": 1.0}))
    chosen = work.simulate(load_scheme("sev-pcie"), "selective", keep=400)
    everything = work.simulate(load_scheme("sev-pcie"), "all", keep=400)
    assert (chosen.kept_ps == everything.kept_ps).all()


def test_aes_256_costs_time_only_where_the_rounds_are_exposed() -> None:
    work = task()
    short, long = load_scheme("sev-pcie"), load_scheme("pcie-ide")
    typical = [work.simulate(s, "all", keep=400).kept_ps for s in (short, long)]
    assert (typical[0] == typical[1]).all()
    exposed = [
        work.simulate(s, "all", "unfavourable:keystream_ahead", keep=400).kept_ps.mean()
        for s in (short, long)
    ]
    assert exposed[1] > exposed[0] > typical[0].mean()


def test_ends_of_the_range_are_ends() -> None:
    scheme = load_scheme("sev-pcie")
    best, middle, worst = (engine_of(scheme, v) for v in ("favourable", "typical", "unfavourable"))
    for name in ("pipe_ps", "mac_ps", "check_ps", "period_ps", "switch_ps"):
        assert getattr(best, name) <= getattr(middle, name) <= getattr(worst, name)
    assert best.bytes_per_clock >= worst.bytes_per_clock


def test_two_runs_have_one_digest_whatever_the_number_of_threads(done: Comparison) -> None:
    again = compare(small(), jobs=1)
    assert again.record.digest == done.record.digest
    assert compare(small(), seed=2).record.digest != done.record.digest


def test_the_baseline_has_no_overhead_and_comes_first(done: Comparison) -> None:
    first = done.record.to_dict()["results"][0]
    assert (first["scheme"], first["policy"], first["overhead"], first["verdict"]) == (
        "none",
        "off",
        None,
        None,
    )
    assert first["wire"]["ide_bytes"] == 0


def test_wire_bytes_add_up_and_ide_is_sixteen_per_protected_tlp(done: Comparison) -> None:
    plain = row(done, "none", "off")["wire"]
    everything = row(done, "sev-pcie", "all")["wire"]
    # An IDE Sync, 24 B beside prefix and MAC, for every 245 posted TLPs.
    syncs = everything["tlps"] - plain["tlps"]
    assert 0 < syncs < plain["tlps"] / 200
    assert everything["ide_bytes"] == 16 * everything["tlps"]
    assert everything["wire_bytes"] == plain["wire_bytes"] + everything["ide_bytes"] + 24 * syncs
    for wire in (plain, everything):
        parts = wire["payload_bytes"] + wire["header_bytes"] + wire["link_bytes"] + wire["ide_bytes"]
        assert parts == wire["wire_bytes"]
    assert 0 < row(done, "sev-pcie", "selective")["wire"]["ide_bytes"] < everything["ide_bytes"]


def test_overheads_are_paired_differences_of_what_the_rows_say(done: Comparison) -> None:
    plain, sealed = row(done, "none", "off"), row(done, "sev-pcie", "all")
    change = sealed["overhead"]["latency_p50"]
    pooled = sealed["latency_ns"]["p50"] - plain["latency_ns"]["p50"]
    assert change["added_ns"] == pytest.approx(pooled, rel=0.2, abs=5)
    assert change["ci_low_pct"] <= change["value_pct"] <= change["ci_high_pct"]
    assert change["range_low_pct"] <= change["value_pct"] <= change["range_high_pct"]
    assert change["value_pct"] > 0
    lost = sealed["overhead"]["throughput"]
    assert lost["added_ns"] is None
    assert lost["value_pct"] == pytest.approx(
        100 * (1 - sealed["throughput_gbps"] / plain["throughput_gbps"]), rel=0.05
    )


def test_another_baseline() -> None:
    found = compare(small(), baseline="pcie-ide", schemes=["sev-pcie"], policies=["all"])
    assert arms_of(found) == [("pcie-ide", "all"), ("sev-pcie", "all")]
    assert found.record.results[1].overhead is not None


@pytest.mark.parametrize(
    ("schemes", "policies", "arms"),
    [
        (["sev-pcie"], None, [("sev-pcie", "selective"), ("sev-pcie", "all")]),
        (["pcie-ide"], None, [("pcie-ide", "all")]),
        (None, ["all"], [("sev-pcie", "all"), ("pcie-ide", "all")]),
        (["pcie-ide"], ["selective"], [("pcie-ide", "selective")]),
    ],
)
def test_arms_by_scheme_and_policy(
    schemes: list[str] | None, policies: list[str] | None, arms: list[tuple[str, str]]
) -> None:
    found = compare(small(requests=50), schemes=schemes, policies=policies)
    assert arms_of(found) == [("none", "off"), *arms]


def test_arms_whose_scheme_is_a_table_can_be_chosen_too() -> None:
    fast = {"base": "sev-pcie", "name": "fast", "engine": {"mac_cycles": 1}}
    scenario = small(
        requests=50, arm=[{"scheme": fast, "policy": "all"}, {"scheme": "pcie-ide", "policy": "all"}]
    )
    assert arms_of(compare(scenario, schemes=["fast"])) == [("none", "off"), ("fast", "all")]
    assert len(arms_of(compare(scenario, policies=["all"]))) == 3


def test_an_unknown_scheme_says_what_there_is() -> None:
    with pytest.raises(ConfigError, match="sev-pcie"):
        compare(small(), schemes=["sevpcie"])


def test_fewer_than_five_seeds_decide_nothing() -> None:
    found = row(compare(small(), seeds=4), "sev-pcie", "all")
    assert found["overhead"]["latency_p50"]["ci_low_pct"] is None
    assert found["verdict"] == {"end_to_end": "inconclusive", "io_path": "inconclusive"}
    assert found["decided_by"] == "seeds"


def test_few_requests_report_no_percentile_that_they_do_not_carry() -> None:
    found = row(compare(small(requests=3)), "sev-pcie", "all")
    assert found["requests"] == 15
    assert found["latency_ns"]["p50"] is None
    assert found["latency_ns"]["mean"] > 0
    assert found["overhead"]["latency_p50"] is None
    assert found["decided_by"] == "samples"


def test_a_wide_budget_is_kept_and_a_narrow_one_is_not() -> None:
    assert row(compare(small(), budget_pct=300.0), "sev-pcie", "all")["verdict"]["end_to_end"] == "within"
    assert row(compare(small(), budget_pct=0.001), "sev-pcie", "all")["verdict"]["end_to_end"] == "over"


def test_an_open_verdict_names_the_parameter_that_it_hangs_on() -> None:
    measured = row(compare(small()), "sev-pcie", "all")["overhead"]["latency_p50"]
    # A budget between the interval over seeds and the unfavourable end of the engine.
    budget = (measured["ci_high_pct"] + measured["range_high_pct"]) / 2
    found = row(compare(small(), budget_pct=budget), "sev-pcie", "all")
    assert found["verdict"]["end_to_end"] == "inconclusive"
    assert found["decided_by"] == "engine.keystream_ahead"


def test_where_the_typical_engine_is_over_the_favourable_side_is_what_is_open() -> None:
    workload = copy.deepcopy(SMALL["workload"])
    workload[0]["device"]["ssd"]["traffic"]["queue_depth"] = 1
    measured = row(compare(small(workload=workload)), "sev-pcie", "all")["overhead"]
    budget = (measured["latency_p50"]["ci_low_pct"] + measured["latency_p50"]["range_low_pct"]) / 2
    found = row(compare(small(workload=workload), budget_pct=budget), "sev-pcie", "all")
    assert found["verdict"]["end_to_end"] == "inconclusive"
    # Keystream is ahead already: it cannot bring the latency down.
    assert found["decided_by"] in ("engine.mac_cycles", "engine.clock_mhz")


def test_p99_of_seeds_too_short_for_it_is_not_told() -> None:
    found = row(compare(small(requests=60), seeds=20), "sev-pcie", "all")
    assert found["latency_ns"]["p99"] is not None
    assert found["overhead"]["latency_p99"] is None


def test_a_run_without_a_request_measured_nothing() -> None:
    traffic = {"kind": "nic", "direction": "rx", "sizes": 1514, "rate": "1Gb/s"}
    workload = [{"name": "late", "device": {"nic": {"preset": "nic-400g", "traffic": traffic}}}]
    with pytest.raises(NothingMeasuredError, match="nothing was measured") as caught:
        compare(small(duration="1ps", workload=workload))
    assert caught.value.exit_code == 5


def test_the_same_scenario_twice_is_refused_before_it_runs() -> None:
    with pytest.raises(ConfigError, match="twice"):
        compare([small(), small()])


def test_different_budgets_are_refused() -> None:
    with pytest.raises(ConfigError, match="different budgets"):
        compare([small(), small(name="other", budget_pct=7.0)])
    assert compare([small(), small(name="other", budget_pct=7.0)], budget_pct=6.0)


@pytest.mark.parametrize("media", ["900s", "1800s"])
def test_more_time_than_a_run_can_hold_is_an_error_and_not_a_number(media: str) -> None:
    scenario = copy.deepcopy(SMALL)
    device = scenario["workload"][0]["device"]["ssd"]
    device["preset"] = {"base": "nvme-dram", "media_read": media, "media_write": media, "dies": 1}
    with pytest.raises(SevPcieError, match="simulated time"):
        compare(Scenario.from_dict(scenario))


def test_a_slow_medium_dilutes_end_to_end_and_not_the_io_path() -> None:
    def with_media(time: str) -> Any:
        scenario = copy.deepcopy(SMALL)
        device = scenario["workload"][0]["device"]["ssd"]
        device["preset"] = {"base": "nvme-dram", "media_read": time, "media_write": time}
        return row(compare(Scenario.from_dict(scenario)), "sev-pcie", "all")["overhead"]

    fast, slow = with_media("1us"), with_media("1ms")
    assert slow["latency_p50"]["value_pct"] < 0.2 * fast["latency_p50"]["value_pct"]
    assert slow["io_path_p50"]["value_pct"] > 0.5 * fast["io_path_p50"]["value_pct"]


def test_devices_share_the_host_and_have_rows_of_their_own() -> None:
    scenario = copy.deepcopy(SMALL)
    scenario["workload"][0]["device"]["second"] = copy.deepcopy(scenario["workload"][0]["device"]["ssd"])
    found = compare(Scenario.from_dict(scenario))
    classes = list(dict.fromkeys(r.class_ for r in found.record.results))
    kinds = ["ssd/read", "ssd/write", "second/read", "second/write"]
    assert classes == ["all", "ssd", *kinds[:2], "second", *kinds[2:]]
    together, one, other = (row(found, "none", "off", **{"class": c}) for c in ("all", "ssd", "second"))
    assert together["requests"] == one["requests"] + other["requests"] == 4000
    assert together["wire"]["tlps"] == one["wire"]["tlps"] + other["wire"]["tlps"]


def test_reads_and_writes_are_apart_and_sum_up(done: Comparison) -> None:
    for scheme, policy in arms_of(done):
        whole, reads, writes = (row(done, scheme, policy, **{"class": c}) for c in ("all", "read", "write"))
        # 400 requests per seed, of which 70 % were to be drawn as reads.
        assert reads["requests"] + writes["requests"] == whole["requests"] == 2000
        assert reads["requests"] == pytest.approx(1400, abs=80)
        for key in ("payload_bytes", "wire_bytes", "tlps", "ide_bytes"):
            assert reads["wire"][key] + writes["wire"][key] == whole["wire"][key]
        mean = sum(r["latency_ns"]["mean"] * r["requests"] for r in (reads, writes)) / 2000
        assert mean == pytest.approx(whole["latency_ns"]["mean"])
        # The median of both lies between two humps.
        medians = [r["latency_ns"]["p50"] for r in (writes, whole, reads)]
        assert medians in (sorted(medians), sorted(medians, reverse=True))
    assert [r.class_ for r in done.record.results].count("read") == len(arms_of(done))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_drive_with_one_kind_of_request_has_one_row(share: float) -> None:
    workload = copy.deepcopy(SMALL["workload"])
    workload[0]["device"]["ssd"]["traffic"]["read_share"] = share
    assert {r.class_ for r in compare(small(workload=workload, requests=20)).record.results} == {"all"}


def test_a_duration_ends_a_run() -> None:
    short, long = (row(compare(small(duration=d)), "none", "off") for d in ("200us", "400us"))
    assert long["requests"] == pytest.approx(2 * short["requests"], rel=0.1)


def test_a_record_can_be_saved_loaded_and_looked_at(done: Comparison, tmp_path: Any) -> None:
    path = tmp_path / "record.json"
    done.save(path)
    again = load(path)
    assert again.record == done.record
    assert again.to_json() == done.to_json() == path.read_text()
    assert len(again.frame()) == len(done.record.results)
    assert "reads" in again._repr_html_()


def test_progress_names_its_stages() -> None:
    stages: list[tuple[str, int, int]] = []
    compare(small(requests=20), progress=lambda stage, done, total: stages.append((stage, done, total)))
    names = list(dict.fromkeys(s[0] for s in stages))
    assert names[:4] == ["reading", "preparing", "compiling", "simulating"]
    # The first of them may be long, and nothing compiles then.
    begun = stages.index(("simulating", 0, 5))
    assert stages[begun - 1] == ("compiling", 0, 0)
    assert stages[begun + 1 : begun + 6] == [("simulating", done, 5) for done in range(1, 6)]


def test_an_interrupt_stops_the_threads() -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "simulating" and done >= 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(small(requests=20), progress=interrupt)


def test_the_speed_of_the_simulator_is_in_the_record(done: Comparison) -> None:
    simulator = done.record.simulator
    assert simulator.tlps_per_s == pytest.approx(simulator.tlps / simulator.seconds)
    assert simulator.tlps > 400 * 5 * 4 * 20


# --- The verdict by itself --------------------------------------------------------------------------------


def metric(value: float, ci: tuple[float, float] | None, ends: tuple[float, float]) -> overhead.Change:
    low, high = ci or (None, None)
    return overhead.Change(value, None, low, high, *ends)


@pytest.mark.parametrize(
    ("metrics", "word", "reason"),
    [
        ([metric(1, (0.9, 1.1), (0.5, 2)), metric(2, (1.9, 2.1), (1, 4.9))], "within", None),
        ([metric(1, (0.9, 1.1), (0.5, 2)), metric(6, (5.5, 6.5), (5.1, 9))], "over", None),
        ([metric(1, (0.9, 1.1), (0.5, 2)), metric(2, (1.9, 2.1), (1, 5.1))], "inconclusive", ""),
        ([metric(6, (5.5, 6.5), (4.9, 9))], "inconclusive", ""),
        ([metric(5, (4.0, 6.0), (5, 5))], "inconclusive", overhead.SEEDS),
        ([metric(1, None, (0.5, 2))], "inconclusive", overhead.SEEDS),
        ([None, None], "inconclusive", overhead.SAMPLES),
        ([None, metric(1, (1, 1), (1, 1))], "within", None),
        ([metric(5, (5, 5), (5, 5))], "inconclusive", overhead.SEEDS),
    ],
)
def test_verdicts(metrics: list[overhead.Change | None], word: str, reason: str | None) -> None:
    assert overhead.verdict(metrics, 5.0) == (word, reason)


def test_worse_is_positive_for_times_and_for_rates() -> None:
    assert overhead.relative_pct(100, 110, more_is_worse=True) == pytest.approx(10)
    assert overhead.relative_pct(100, 110, more_is_worse=False) == pytest.approx(-10)
    assert overhead.relative_pct(0, 5, more_is_worse=True) == 0


def test_the_range_is_the_mean_at_its_ends() -> None:
    ends = ([101.0, 103, 102, 102, 102], [112.0, 114, 113, 113, 113])
    change = overhead.change([100.0] * 5, [102.0, 104, 103, 103, 103], ends, time_unit_ns=0.001)
    assert change.value_pct == pytest.approx(3.0)
    assert change.range_low_pct == pytest.approx(2.0)
    assert change.range_high_pct == pytest.approx(13.0)
    assert change.added_ns == pytest.approx(0.003)


@pytest.mark.parametrize(
    ("spans", "medians", "grows"),
    [
        # A queue from nothing to 100 at the end: half of the requests wait for more than 50.
        ([(1000, 1100)], [(10, 60)], True),
        # Every request is late by 50, the last one too.
        ([(1000, 1050)], [(10, 60)], False),
        # What ends 0.9 % later, or less than doubles the median, is no growing queue.
        ([(10_000, 10_090)], [(10, 60)], False),
        ([(1000, 1100)], [(60, 110)], False),
        # Seeds count together.
        ([(1000, 1300), (1000, 1000)], [(10, 160), (10, 10)], True),
        ([(1000, 1000)], [(10, 10)], False),
    ],
)
def test_when_more_arrives_than_is_carried(spans: Any, medians: Any, grows: bool) -> None:
    assert overhead.outgrown(spans, medians) is grows


def test_a_row_says_where_more_arrives_than_is_carried() -> None:
    """One core copies 1 or 10 GB/s into the buffer; frames come at 2.5 GB/s, or a closed loop waits."""
    copies = {"low": 1000, "typical": 10000, "high": 10000, "source": "test"}
    bounce = {"cores": 1, "copy_setup_ns": 0, "copy_mb_per_s": copies}
    arm = [{"policy": "all", "scheme": {"base": "bounce-buffer", "name": "one-core", "bounce": bounce}}]
    frames = {"kind": "nic", "direction": "rx", "sizes": 1514, "rate": "20Gb/s"}
    workload = [{"name": "frames", "device": {"nic": {"preset": "nic-400g", "traffic": frames}}}]
    for link, work, expected in (("gen5x16", workload, ["unfavourable"]), ("gen5x4", SMALL["workload"], [])):
        found = row(compare(small(link=link, workload=work, arm=arm, seeds=1)), "one-core", "all")
        assert found.get("saturated", []) == expected
    copies |= {"low": 500, "typical": 500, "high": 10000}
    found = row(compare(small(link="gen5x16", workload=workload, arm=arm, seeds=1)), "one-core", "all")
    assert found["saturated"] == ["typical", "unfavourable"]


# --- The shipped scenarios ---------------------------------------------------------------------------------


def test_recorded_jobs_take_as_long_as_recorded() -> None:
    resolved = load_scenario("gpu").resolve()
    plain = Arm(load_scheme("none"), "off")
    for workload in resolved.workloads:
        work = Task.prepare(resolved, workload, 1)
        traffic = workload.devices[0].traffic
        assert isinstance(traffic, GpuTraffic)
        records = read_gpu(traffic.trace.path)
        recorded = int((records["t_ps"] + records["dur_ps"]).max() - records["t_ps"][0])
        samples, _, _ = work.run(plain)
        job = samples["all"].job_ps
        assert job is not None
        assert job == pytest.approx(recorded, rel=0.03), workload.name


def test_a_gpu_job_beside_others_has_its_time():
    """In a mix as alone, in the record and in the table; not where others end it."""
    mix = load_scenario("inference").to_dict()
    (workload,) = mix["workload"]
    workload["device"]["gpu"]["requests"] = 600
    alone = copy.deepcopy(mix)
    del alone["workload"][0]["device"]["clients"]
    ended = copy.deepcopy(mix)
    ended["duration"] = "2ms"
    del ended["requests"]
    del ended["workload"][0]["device"]["gpu"]["requests"]
    behind = copy.deepcopy(mix)
    devices = behind["workload"][0]["device"]
    del devices["gpu"]["requests"], devices["clients"]["background"]
    devices["gpu"]["background"] = True
    times = {}
    for name, data in (("mix", mix), ("alone", alone), ("ended", ended), ("behind", behind)):
        ended_by = {} if name == "ended" else {"requests": 600}
        record = compare(Scenario.from_dict(data | ended_by), seeds=1, schemes=["sev-pcie"]).record.to_dict()
        rows = [r for r in record["results"] if r["class"] == ("all" if name == "alone" else "gpu")]
        times[name] = [row["job_ms"] for row in rows]
        assert ("job time" in summary_text(record)) == (times[name][0] is not None)
        assert all((row["overhead"] or {}).get("job") is None for row in rows) == (times[name][0] is None)
    assert times["ended"] == times["behind"] == [None] * 3
    # The clients' frames are few: the job takes as long beside them.
    assert times["mix"] == pytest.approx(times["alone"], rel=0.01)
