"""What a link, a host and a device say beside sizes: DLLPs, buffers, errors, ordering, translation, hops."""

import copy
import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sevpcie_core.errors import ConfigError
from sevpcie_core.experiment.hardware import engine_of
from sevpcie_core.experiment.runner import Task
from sevpcie_core.experiment.scenario import Scenario, load_scenario, load_scheme
from sevpcie_core.link.run import Outcome

SMALL: dict[str, Any] = {
    "name": "small",
    "link": "gen5x4",
    "requests": 400,
    "seeds": 1,
    "workload": [
        {
            "name": "w",
            "device": {
                "ssd": {
                    "preset": "nvme-dram",
                    "traffic": {"kind": "nvme", "queue_depth": 16, "block": "4KiB", "read_share": 0.5},
                }
            },
        }
    ],
}
# A link and a host on which nothing of this is.
BARE_LINK = {"base": "gen5x4", "data_link": dict.fromkeys(("ack_every", "update_every", "replay_bytes"), 0)}
BARE_LINK["data_link"] |= {"skip_every": 0, "bit_error_rate": 0, "credit": "0ns", "nak": "0ns"}
BARE_HOST = {
    "base": "server",
    "root_port": {"drain_tlp": "0ns", "drain_line": "0ns", "ordered": False},
    "credits": {"posted_headers": 0, "posted_data": 0, "non_posted_headers": 0},
    "iommu": {"entries": 0},
}


def small(device: Mapping[str, Any] | None = None, **changes: Any) -> Scenario:
    data = copy.deepcopy(SMALL) | changes
    if device:
        data["workload"][0]["device"]["ssd"]["preset"] = {"base": "nvme-dram", **device}
    return Scenario.from_dict(data)


def run(scenario: Scenario, scheme: str | Mapping[str, Any] = "none", policy: str = "all") -> Outcome:
    resolved = scenario.resolve()
    task = Task.prepare(resolved, resolved.workloads[0], 1)
    protected = load_scheme(scheme) if isinstance(scheme, str) else None
    if protected is None:
        arms = scenario.with_options(arms=[(scheme, policy)]).resolve().arms
        protected = arms[0].scheme
    return task.simulate(protected, policy, keep=400, ledger=True)


def mean(outcome: Outcome) -> float:
    return float(outcome.kept_ps.mean())


def test_shipped_links_and_hosts_have_everything_on() -> None:
    for name in ("nvme", "nic", "gpu", "mix"):
        resolved = load_scenario(name).resolve()
        assert resolved.host.iommu.entries
        assert resolved.host.credits.posted_headers
        assert resolved.host.root_port.drain_tlp_ps
        for workload in resolved.workloads:
            for device in workload.devices:
                link = device.link.data_link
                numbers = dataclasses.asdict(link)
                assert all(numbers.values()), numbers


def test_each_can_be_switched_off() -> None:
    infinite = {"credits": {"posted_headers": 0, "posted_data": 0}}
    bare = run(small(infinite, link=BARE_LINK, host=BARE_HOST))
    assert bare.maintenance_bytes == ((0, 0),)
    assert bare.iotlb == (0, 0)
    assert sum(c.stalls_ps["credits"] for c in bare.classes) == 0
    full = run(small())
    assert min(full.maintenance_bytes[0]) > 0
    assert full.iotlb[0] > 0
    assert mean(full) > mean(bare)


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("link", {"base": "gen5x4", "data_link": {"skip_bytes": 600}}),
        ("link", {"base": "gen5x4", "data_link": {"bit_error_rate": 1e-5, "nak": "1us"}}),
        ("host", {"base": "server", "credits": {"posted_headers": 5, "posted_data": 80}}),
        ("host", {"base": "server", "credits": {"non_posted_headers": 1}}),
        ("host", {"base": "server", "root_port": {"drain_line": "9ns"}}),
        ("host", {"base": "server", "iommu": {"page": 4096, "walk": "2us"}}),
        ("host", "server-remote"),
    ],
)
def test_each_costs_what_it_makes_wait(place: str, change: Any) -> None:
    assert mean(run(small(**{place: change}))) > mean(run(small()))


def test_a_hop_to_the_other_socket_is_paid_twice_by_a_read_and_once_by_a_write() -> None:
    near, far = (small(host=host).resolve().host for host in ("server", "server-remote"))
    assert {b - a for (_, a), (_, b) in zip(near.read_latency, far.read_latency, strict=True)} == {100_000}
    assert far.root_port == replace(near.root_port, write_latency_ps=50_000)


def test_what_a_scheme_asks_of_the_host() -> None:
    base = {"base": "sev-pcie", "name": "ours"}
    plain = run(small(), {**base, "host": {"hook_ns": 0}})
    hooked = run(small(), {**base, "host": {"hook_ns": 3000}})
    checked = run(small(), {**base, "host": {"rmp_check_ns": 3000}})
    # A hook per mapping, once per request, whose time is the host's; a check on the way of each write.
    assert sum(c.ledger_ps["staging"] for c in hooked.classes) == 400 * 3_000_000
    assert sum(c.ledger_ps["staging"] for c in plain.classes) == 0
    assert mean(hooked) > mean(plain)
    assert mean(checked) > mean(plain) + 3_000_000
    # What is not protected asks for neither.
    none = small(regions={"data": 0.0, "queue": 0.0})
    assert mean(run(none, {**base, "host": {"hook_ns": 3000, "rmp_check_ns": 3000}}, "selective")) == mean(
        run(none, "none")
    )


def test_relaxed_ordering_is_lost_on_protected_streams() -> None:
    """A drive that is read alone, on pages of 4 KiB, most of which are looked up."""

    def drive(flag: bool) -> Scenario:
        data = copy.deepcopy(SMALL)
        ssd = data["workload"][0]["device"]["ssd"]
        ssd["preset"] = {"base": "nvme-dram", "relaxed_ordering": flag}
        ssd["traffic"]["read_share"] = 1.0
        return Scenario.from_dict(data | {"host": {"base": "server", "iommu": {"page": 4096}}})

    strict, relaxed = drive(False), drive(True)
    assert mean(run(relaxed)) < mean(run(strict))
    assert mean(run(relaxed, "sev-pcie")) == mean(run(strict, "sev-pcie"))


def drives(**device: Any) -> Scenario:
    """Two drives behind a switch."""
    data = copy.deepcopy(SMALL)
    (workload,) = data["workload"]
    ssd = workload["device"]["ssd"] | {"preset": {"base": "nvme-dram", **device}, "switch": "s"}
    workload["device"] = {"a": ssd, "b": copy.deepcopy(ssd)}
    workload["switch"] = {"s": {"uplink": "gen5x4", "latency": "110ns"}}
    return Scenario.from_dict(data | {"host": {"base": "server", "root_port": {"write_latency": "2us"}}})


def test_id_based_ordering_is_lost_on_protected_streams() -> None:
    strict, by_id = (drives(id_based_ordering=flag) for flag in (False, True))
    assert mean(run(by_id)) < mean(run(strict))
    assert mean(run(by_id, "sev-pcie")) == mean(run(strict, "sev-pcie"))
    assert sum(c.ledger_ps["ordering"] for c in run(by_id, "sev-pcie").classes) > 0


def test_records_of_before_id_based_ordering_compare() -> None:
    assert small({"id_based_ordering": False}).digest() == small({}).digest()
    with_it = small({"id_based_ordering": True})
    assert with_it.digest() != small({}).digest()
    assert Scenario.from_dict(with_it.to_dict(inline=True)).digest() == with_it.digest()


@pytest.mark.parametrize("key", ["relaxed_ordering", "id_based_ordering"])
def test_attributes_of_requests_are_there_or_not(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"device\.ssd\.preset\.{key}: 'yes'; expected true or false"):
        small({key: "yes"})


def test_a_table_inside_a_preset_is_merged_key_by_key_with_its_sources() -> None:
    link = small(link={"base": "gen5x4", "data_link": {"nak": "9ns"}}).to_dict(inline=True)["link"]
    assert link["data_link"]["nak"] == "9ns"
    assert link["data_link"]["ack_every"] == 2
    assert "nak" not in link["data_link"]["source"]
    assert "ack_every" in link["data_link"]["source"]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            'link = { base = "gen5x4", data_link = { skip = 3 } }',
            2,
            "link.data_link: unknown key 'skip'; allowed: ",
        ),
        (
            'link = { base = "gen5x4", data_link = { bit_error_rate = 1.0 } }',
            2,
            "link.data_link.bit_error_rate: 1.0; expected a number from 0 to 1e-05",
        ),
        (
            'link = { base = "gen5x4", data_link = { bit_error_rate = 1e-20 } }',
            2,
            "link.data_link.bit_error_rate: 1e-20; expected 0, or 1e-13 at least",
        ),
        (
            'host = { base = "server", credits = { posted_data = 0 } }',
            2,
            "host.credits.posted_headers: 128 with posted_data 0; expected both or neither",
        ),
        (
            'host = { base = "server", iommu = { ways = 3 } }',
            2,
            "host.iommu.ways: 3 of 64 entries; expected 1, 2, 4 ... whole sets",
        ),
        (
            'host = { base = "server", credits = { completion_data = 3 } }',
            2,
            "host.credits: unknown key 'completion_data'; allowed: ",
        ),
        (
            'host = { base = "server", credits = { posted_headers = 1, posted_data = 4 } }',
            None,
            "workload[0].device.ssd: credits for 1 headers and 4 units of data; expected 1..2048 headers and "
            "16 units or more, or neither (link gen5x4, host server-custom)",
        ),
    ],
)
def test_one_line_says_what_is_wrong(text: str, line: int | None, words: str) -> None:
    rest = (
        '[[workload]]\nname = "w"\n[workload.device.ssd]\npreset = "nvme-dram"\n'
        '[workload.device.ssd.traffic]\nkind = "nvme"\n'
    )
    link = "" if text.startswith("link") else 'link = "gen5x4"\n'
    full = f'name = "mine"\n{text}\n{link}{rest}'
    with pytest.raises(ConfigError) as caught:
        Scenario.from_dict(tomllib.loads(full), name="mine.toml", text=full)
    assert words in str(caught.value)
    if line:
        assert str(caught.value).startswith(f"mine.toml:{line}: ")


DOCS = Path(__file__).resolve().parent.parent / "docs" / "scenarios.md"


def buffers(link: Mapping[str, Any], host: Mapping[str, Any], device: Mapping[str, Any]) -> None:
    """Load a scenario with these buffers of a Gen5 x4 link with an MPS of 256 B and an MRRS of 512 B."""
    Scenario.from_dict(
        {
            "name": "b",
            "link": {"base": "gen5x4", "data_link": dict(link)},
            "host": {"base": "server", "credits": dict(host)},
            "workload": [
                {
                    "name": "w",
                    "device": {
                        "ssd": {
                            "preset": {"base": "nvme-dram", "credits": dict(device)},
                            "traffic": {"kind": "nvme"},
                        }
                    },
                }
            ],
        }
    )


@pytest.mark.parametrize(
    ("where", "others", "key", "least", "most"),
    [
        ("host", {"posted_data": 16}, "posted_headers", 1, 2048),
        ("host", {"posted_headers": 1}, "posted_data", 16, 32768),
        ("host", {}, "non_posted_headers", 1, 2048),
        ("device", {"posted_headers": 1}, "posted_data", 16, 32768),
        ("device", {"completion_data": 33}, "completion_headers", 3, 2048),
        ("device", {"completion_headers": 3}, "completion_data", 33, 32768),
        # 2 x 1,024 B, for two reads go at a time at that rate, and 256 B.
        ("link", {}, "replay_bytes", 2304, 1 << 18),
    ],
)
def test_buffers_have_the_bounds_that_the_page_gives(where, others, key, least, most) -> None:
    def load(value: int) -> None:
        tables: dict[str, Mapping[str, Any]] = {"link": {}, "host": {}, "device": {}}
        buffers(**(tables | {where: {**others, key: value}}))

    load(least)
    load(most)
    for value in (least - 1, most + 1):
        # 0 alone is infinite; beside another number of its kind it is a mistake.
        if value or others:
            with pytest.raises(ConfigError):
                load(value)
    row = next(
        line for line in DOCS.read_text().splitlines() if line.startswith("| `") and f"`{key}`" in line[:60]
    )
    assert str(most) in row or "256 KiB" in row


def test_the_page_has_a_scheme_with_one_engine_for_all() -> None:
    (example,) = re.findall(r"`scheme = (\{[^`]*one-for-all[^`]*\})`", DOCS.read_text())
    scheme = arm(tomllib.loads(f"scheme = {example}")["scheme"]).resolve().arms[0].scheme
    assert scheme.shared_engine
    assert scheme.engine["fabric_hop_ns"].typical == 20


# --- TLPs that share a MAC ---


def by(units: Mapping[str, int], name: str = "units", **more: Any) -> dict[str, Any]:
    return {"base": "pcie-ide", "name": name, "aggregation": dict(units), **more}


def arm(scheme: Mapping[str, Any]) -> Scenario:
    return small(arm=[{"scheme": dict(scheme), "policy": "all"}])


def test_a_scheme_says_how_many_tlps_share_a_mac() -> None:
    scenario = arm(by({"posted": 4, "completion": 8}))
    scheme = scenario.resolve().arms[0].scheme
    assert scheme.aggregation == (4, 1, 8)
    assert engine_of(scheme).unit_tlps == (4, 1, 8)
    assert not engine_of(scheme).skid
    skids = arm(by({"posted": 4}, mac_rule="skid")).resolve().arms[0].scheme
    assert engine_of(skids).skid
    for shipped in ("pcie-ide", "sev-pcie", "sev-pcie-shared"):
        assert engine_of(load_scheme(shipped)).unit_tlps == (1, 1, 1)
    for inline in (False, True):
        assert Scenario.from_dict(scenario.to_dict(inline=inline)).digest() == scenario.digest()


def test_one_tlp_per_mac_is_what_a_scheme_without_the_table_has() -> None:
    """Records of before compare; any other number is another scheme."""
    alone = arm({"base": "pcie-ide", "name": "units"})
    assert arm(by({})).digest() == arm(by({"posted": 1, "non_posted": 1})).digest() == alone.digest()
    assert arm(by({"completion": 2})).digest() != alone.digest()


def test_shared_macs_save_time_and_bytes_of_a_full_link() -> None:
    """Completions come by two, writes by four; requests and what has one TLP keep their MACs."""
    scenario = small()
    runs = [run(scenario, by({"posted": n, "completion": n}, f"by{n}")) for n in (1, 2, 4)]
    bytes_by = [outcome.classes[0].ide_bytes for outcome in runs]
    assert bytes_by == sorted(bytes_by, reverse=True)
    assert bytes_by[2] < 0.8 * bytes_by[0]
    times = [mean(outcome) for outcome in runs]
    assert mean(run(scenario)) < times[2] < times[0]
