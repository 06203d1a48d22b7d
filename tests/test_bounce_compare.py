"""The scheme `bounce-buffer` in a comparison: a plain link, ranges and verdicts as any other scheme's."""

import copy
from typing import Any

import pytest

from sevpcie_core import Comparison, Scenario, compare
from sevpcie_core.experiment import staged
from sevpcie_core.experiment.hardware import engine_of
from sevpcie_core.experiment.resolved import BOUNCE_PARAMETERS
from sevpcie_core.experiment.runner import Task
from sevpcie_core.experiment.scenario import json_schema, load_scheme
from sevpcie_core.link.params import NO_ENGINE
from sevpcie_core.report import view
from sevpcie_core.report.sentence import basis, meaning
from sevpcie_core.report.table import summary_text

# A drive that nothing hides, and a GPU whose job is a shipped recording.
SMALL: dict[str, Any] = {
    "schema_version": 1,
    "name": "small",
    "link": "gen5x4",
    "requests": 300,
    "workload": [
        {
            "name": "mixed",
            "device": {
                "ssd": {
                    "preset": "nvme-dram",
                    "traffic": {"kind": "nvme", "queue_depth": 1, "block": "4KiB", "read_share": 0.7},
                },
                "gpu": {"preset": "gpu-gen5", "traffic": {"kind": "gpu", "trace": "sample:kv_swap"}},
            },
        }
    ],
}
# Whole ranges at one value: nothing is unknown.
KNOWN = {"cores": 4, "copy_mb_per_s": 10_000, "copy_setup_ns": 200} | {
    "cipher_mb_per_s": 3359,
    "cipher_setup_ns": 20_000,
}


def small(**changes: Any) -> Scenario:
    return Scenario.from_dict(copy.deepcopy(SMALL) | changes)


def known(**changes: int) -> dict[str, Any]:
    return {"base": "bounce-buffer", "name": "copies", "bounce": KNOWN | changes}


@pytest.fixture(scope="module")
def done() -> Comparison:
    return compare(small())


def row(comparison: Comparison, scheme: str, policy: str, cls: str) -> Any:
    key = (scheme, policy, cls)
    (found,) = [
        r for r in comparison.record.to_dict()["results"] if (r["scheme"], r["policy"], r["class"]) == key
    ]
    return found


def test_it_is_a_row_of_what_is_compared_by_default(done: Comparison) -> None:
    found = done.record.to_dict()["results"]
    assert {(r["scheme"], r["policy"]) for r in found if r["scheme"] == "bounce-buffer"} == {
        ("bounce-buffer", "selective")
    }
    assert [a.title for a in view.arms(done.record.to_dict())] == [
        "SEV-PCIe selective",
        "SEV-PCIe all",
        "PCIe IDE all",
        "bounce buffer selective",
    ]


@pytest.mark.parametrize("cls", ["all", "ssd", "gpu"])
def test_the_link_is_plain(done: Comparison, cls: str) -> None:
    plain, bounce = row(done, "none", "off", cls), row(done, "bounce-buffer", "selective", cls)
    assert bounce["wire"] == plain["wire"]
    assert bounce["wire"]["ide_bytes"] == 0
    assert bounce["requests"] == plain["requests"]


def test_it_has_overheads_ranges_and_verdicts(done: Comparison) -> None:
    for cls in ("ssd", "gpu"):
        told = row(done, "bounce-buffer", "selective", cls)
        p50 = told["overhead"]["latency_p50"]
        assert p50["range_low_pct"] < p50["value_pct"] < p50["range_high_pct"]
        assert p50["ci_low_pct"] is not None
        # Staging is no time of the medium: the I/O path has it.
        assert told["overhead"]["io_path_p50"]["added_ns"] == pytest.approx(p50["added_ns"], rel=0.05)
    assert row(done, "bounce-buffer", "selective", "gpu")["verdict"] == {
        "end_to_end": "over",
        "io_path": "over",
    }


def test_a_gpu_wants_ciphertext_and_a_drive_a_copy() -> None:
    scheme = load_scheme("bounce-buffer")
    typical = {name: r.typical for name, r in scheme.bounce.items()}
    gpu, drive = (staged.staging_of(scheme, kind) for kind in ("gpu", "nvme"))
    assert (gpu.mb_per_s, gpu.setup_ps) == (typical["cipher_mb_per_s"], 1000 * typical["cipher_setup_ns"])
    assert (drive.mb_per_s, drive.setup_ps) == (typical["copy_mb_per_s"], 1000 * typical["copy_setup_ns"])
    assert gpu.cores == drive.cores == typical["cores"]


@pytest.mark.parametrize("name", BOUNCE_PARAMETERS)
def test_ends_of_one_parameter_alone(name: str) -> None:
    scheme = load_scheme("bounce-buffer")
    kind = "gpu" if name.startswith("cipher") else "nvme"
    middle, worst = (staged.staging_of(scheme, kind, v) for v in ("typical", f"unfavourable:{name}"))
    all_worst = staged.staging_of(scheme, kind, "unfavourable")
    assert middle != worst
    field = {"cores": "cores", "copy_mb_per_s": "mb_per_s", "cipher_mb_per_s": "mb_per_s"}.get(
        name, "setup_ps"
    )
    assert getattr(worst, field) == getattr(all_worst, field)
    if field != "cores":
        assert worst.time_ps(4096, 1) > middle.time_ps(4096, 1)


def test_the_latency_of_one_request_at_a_time_grows_by_its_copy() -> None:
    found = compare(small(arm=[{"scheme": known(), "policy": "all"}], seeds=1))
    added = row(found, "copies", "all", "ssd")["overhead"]["latency_p50"]["added_ns"]
    # A bucket of the histogram is a few ns wide.
    assert added == pytest.approx(200 + 4096 / 10, abs=5)


def test_what_is_known_has_no_range() -> None:
    found = compare(small(arm=[{"scheme": known(), "policy": "selective"}], seeds=5))
    p50 = row(found, "copies", "selective", "ssd")["overhead"]["latency_p50"]
    assert p50["range_low_pct"] is None
    assert row(found, "copies", "selective", "ssd")["verdict"]["end_to_end"] == "over"


def test_an_open_verdict_names_the_parameter() -> None:
    wide = known(
        copy_setup_ns={"low": 0, "typical": 100, "high": 3000, "source": "test"}, copy_mb_per_s=10**6
    )
    found = compare(small(arm=[{"scheme": wide, "policy": "selective"}]))
    assert row(found, "copies", "selective", "ssd")["decided_by"] == "bounce.copy_setup_ns"


def test_what_is_not_protected_is_not_copied() -> None:
    found = compare(small(regions={"data": 0.0}, seeds=1, arm=[{"scheme": known(), "policy": "selective"}]))
    for cls in ("ssd", "gpu"):
        told = row(found, "copies", "selective", cls)
        assert told["latency_ns"] == row(found, "none", "off", cls)["latency_ns"]
        assert told["overhead"]["latency_p50"]["value_pct"] == 0


def test_copies_of_no_time_cost_nothing() -> None:
    free = {name: 10**9 if better == "high" else 0 for name, better in BOUNCE_PARAMETERS.items()}
    scenario = small(
        arm=[{"scheme": known(**free | {"cores": 4}), "policy": "all"}],
        seeds=1,
    ).resolve()
    task = Task.prepare(scenario, scenario.workloads[0], 1)
    plain = task.simulate(load_scheme("none"), "off", keep=300)
    # 10^15 B/s leave 4 ps of a block, and 9 ns of the largest copy; what they put off may put off others.
    bounce = task.simulate(scenario.arms[0].scheme, "all", keep=300)
    assert abs(bounce.kept_ps - plain.kept_ps).mean() < 1000
    assert engine_of(scenario.arms[0].scheme) == NO_ENGINE


def test_one_core_at_work_all_the_time_limits_as_the_host() -> None:
    device = {
        "nic": {
            "preset": "nic-400g",
            "traffic": {"kind": "nic", "direction": "rx", "sizes": 1514, "rate": "200Gb/s"},
        }
    }
    slow = known(cores=1, copy_setup_ns=1000)
    scenario = small(
        link="gen5x16",
        workload=[{"name": "rx", "device": device}],
        arm=[{"scheme": slow, "policy": "all"}],
        seeds=1,
    )
    found = compare(scenario)
    assert row(found, "none", "off", "all")["limited_by"] == "load"
    assert row(found, "copies", "all", "all")["limited_by"] == "host"


def test_as_a_baseline_it_shows_what_link_encryption_saves() -> None:
    found = compare(small(seeds=1), baseline="bounce-buffer", schemes=["pcie-ide"], policies=["all"])
    told = row(found, "pcie-ide", "all", "gpu")
    assert told["overhead"]["latency_p50"]["value_pct"] < -50


def test_a_run_is_the_same_again(done: Comparison) -> None:
    assert compare(small()).record.digest == done.record.digest


def test_sentences_tell_the_link_from_copies(done: Comparison) -> None:
    record = done.record.to_dict()
    said = " ".join([*meaning(record), *basis(record)])
    assert "Largest added latency on the link: +" in said
    assert "; beside a plain link: +" in said
    assert "A bounce buffer leaves the link plain" in said
    assert "of link encryption and of bounce buffers over plaintext" in summary_text(record).splitlines()[0]
    only = compare(small(seeds=1), schemes=["bounce-buffer"]).record.to_dict()
    said = " ".join([*meaning(only), *basis(only)])
    assert "engine" not in said
    assert "Largest added latency: +" in said
    assert summary_text(only).startswith("Added latency of bounce buffers over plaintext")


def test_a_scheme_of_another_name_is_known_by_its_mechanism() -> None:
    record = compare(small(arm=[{"scheme": known(), "policy": "all"}], seeds=1)).record.to_dict()
    assert not view.on_the_link(record, view.arms(record)[0])


def test_the_schema_has_its_keys() -> None:
    definitions = json_schema()["$defs"]
    assert list(definitions["BounceTable"]["properties"]) == list(BOUNCE_PARAMETERS)
    assert "bounce" in definitions["SchemeTable"]["properties"]["mechanism"]["enum"]
    assert "required" not in definitions["BounceTable"]
