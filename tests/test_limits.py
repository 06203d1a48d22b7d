"""What limits a row: scenarios in which the answer is plain, one per resource."""

import copy
from typing import Any

import pytest

from sevpcie_core import Scenario, compare
from sevpcie_core.experiment.limits import PLACES_OF, in_bursts, limited_by, spent
from sevpcie_core.link.places import PLACES

# A drive on a link, a host and with media that are all too fast to be seen.
EASY: dict[str, Any] = {
    "schema_version": 1,
    "name": "easy",
    "requests": 400,
    "seeds": 1,
    "link": {"base": "gen5x16", "propagation": "50ns"},
    "host": {
        "base": "server",
        "read_latency": {"p0": "100ns", "p100": "110ns"},
        "read_interval": "100ps",
        "credits": {"posted_headers": 0, "posted_data": 0, "non_posted_headers": 0},
        "iommu": {"entries": 0},
    },
    "workload": [
        {
            "name": "w",
            "device": {
                "ssd": {
                    "preset": {
                        "base": "nvme-dram",
                        "tags": 768,
                        "controller": "10ns",
                        "media_read": {"p0": "10ns", "p100": "20ns"},
                        "media_write": {"p0": "10ns", "p100": "20ns"},
                    },
                    "traffic": {"kind": "nvme", "queue_depth": 2, "read_share": 1.0},
                }
            },
        }
    ],
}


def row_of(
    *,
    link: dict[str, Any] | None = None,
    host: dict[str, Any] | None = None,
    device: dict[str, Any] | None = None,
    traffic: dict[str, Any] | None = None,
    engine: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the row of the plaintext, or of the scheme if the engine is given."""
    data = copy.deepcopy(EASY)
    data["link"] |= link or {}
    for name, value in (host or {}).items():
        table = data["host"].get(name)
        data["host"][name] = {**table, **value} if isinstance(table, dict) and "p0" not in table else value
    ssd = data["workload"][0]["device"]["ssd"]
    ssd["preset"] |= device or {}
    if "iops" in (traffic or {}):
        del ssd["traffic"]["queue_depth"]
    ssd["traffic"] |= traffic or {}
    if engine is not None:
        data["arm"] = [{"policy": "all", "scheme": {"base": "pcie-ide", "name": "e", "engine": engine}}]
    record = compare(Scenario.from_dict(data), seeds=1).record.to_dict()
    (row,) = [
        row
        for row in record["results"]
        if row["class"] == "all" and (row["scheme"] == "none") == (engine is None)
    ]
    return row


WRITES = {"read_share": 0.0}


@pytest.mark.parametrize(
    ("limit", "change"),
    [
        # Buffers for four completions of 256 B, whose credits are back after 5 us: a link of 63 GB/s is idle.
        (
            "credits",
            {
                "link": {"data_link": {"credit": "5us"}},
                "device": {"credits": {"completion_headers": 4, "completion_data": 64}},
                "traffic": {**WRITES, "queue_depth": 16},
            },
        ),
        # The same beside media that take 50 us, while a request waits for a millisecond at the host's port.
        (
            "credits",
            {
                "link": {"data_link": {"credit": "5us"}},
                "device": {
                    "credits": {"completion_headers": 4, "completion_data": 64},
                    "media_write": {"p0": "50us", "p100": "51us"},
                },
                "traffic": {**WRITES, "queue_depth": 64},
            },
        ),
        # The same of the host's buffers, which the data of reads wait for.
        (
            "credits",
            {
                "link": {"data_link": {"credit": "5us"}},
                "host": {"credits": {"posted_headers": 8, "posted_data": 128}},
                "traffic": {"queue_depth": 16},
            },
        ),
        # Of requests only one may be on its way, and its credit takes 5 us.
        (
            "credits",
            {
                "link": {"data_link": {"credit": "5us"}},
                "host": {"credits": {"non_posted_headers": 1}},
                "traffic": {**WRITES, "queue_depth": 16},
            },
        ),
        # Two reads of 512 B in the half microsecond that one takes.
        ("tags", {"device": {"tags": 2}, "traffic": {**WRITES, "queue_depth": 16}}),
        # 64 KiB whose reads wait for tags, of which there are more than the link needs; it is idle
        # while the media work.
        (
            "link",
            {
                "link": {"lanes": 1},
                "device": {"tags": 64, "media_write": {"p0": "10us", "p100": "11us"}},
                "traffic": {**WRITES, "queue_depth": 1, "block": "64KiB"},
            },
        ),
        # The IOTLB holds one page, and one walker takes 3 us for each of the others.
        (
            "iommu",
            {
                "host": {"iommu": {"entries": 1, "ways": 1, "page": 4096, "walkers": 1, "walk": "3us"}},
                "traffic": {"queue_depth": 8},
            },
        ),
        # Eight walkers, most of them idle: the reads of a request that is alone wait for them.
        (
            "iommu",
            {
                "host": {"iommu": {"entries": 1, "ways": 1, "page": 4096, "walkers": 8, "walk": "3us"}},
                "traffic": {**WRITES, "queue_depth": 1},
            },
        ),
        # One read per 200 ns from memory, with tags for all that are wanted, and with too few.
        ("host", {"host": {"read_interval": "200ns"}, "traffic": {**WRITES, "queue_depth": 16}}),
        (
            "host",
            {
                "host": {"read_interval": "200ns"},
                "device": {"tags": 16},
                "traffic": {**WRITES, "queue_depth": 64},
            },
        ),
        # Memory takes 20 us, and is not full.
        ("host", {"host": {"read_latency": {"p0": "20us", "p100": "21us"}}}),
        # The root port's buffer drains a TLP in 500 ns; the wire that brings them is idle.
        ("host", {"host": {"root_port": {"drain_tlp": "500ns"}}}),
        # Media of 50 us; as many at once as are wanted, or one at a time.
        ("device", {"device": {"media_read": {"p0": "50us", "p100": "51us"}}}),
        ("device", {"device": {"media_read": {"p0": "50us", "p100": "51us"}, "dies": 1}}),
        # A pipeline of the device takes as long as anything.
        ("device", {"device": {"controller": "20us"}}),
        # 4 KiB on one lane of Gen1 take 17 us: full, or alone.
        ("link", {"link": {"gen": 1, "lanes": 1}, "traffic": {"queue_depth": 16}}),
        ("link", {"link": {"gen": 1, "lanes": 1}, "traffic": {"queue_depth": 1}}),
        # A byte per clock of 1 GHz on a link of 63 GB/s: full, or alone.
        ("engine", {"engine": {"bytes_per_clock": 1, "clock_mhz": 1000}, "traffic": {"queue_depth": 16}}),
        ("engine", {"engine": {"mac_cycles": 10_000}, "traffic": {"queue_depth": 1}}),
        # The same byte per clock, in two thirds of the time: quanta of one write, and reads in a queue.
        (
            "engine",
            {
                "device": {"media_read": {"p0": "8us", "p100": "9us"}},
                "engine": {"bytes_per_clock": 1, "clock_mhz": 1000},
                "traffic": {"queue_depth": 1, "block": "16KiB"},
            },
        ),
        (
            "engine",
            {
                "device": {"media_write": {"p0": "8us", "p100": "9us"}},
                "engine": {"bytes_per_clock": 1, "clock_mhz": 1000},
                "traffic": {**WRITES, "queue_depth": 1, "block": "16KiB"},
            },
        ),
    ],
)
def test_the_resource_that_limits_is_named(limit: str, change: dict[str, dict[str, Any]]) -> None:
    assert row_of(**change)["limited_by"] == limit


SLOW = {"gen": 1, "lanes": 1}


@pytest.mark.parametrize(("share", "wire"), [(1.0, "link upstream"), (0.0, "link downstream")])
@pytest.mark.parametrize("depth", [1, 16])
def test_of_links_the_busiest_wire_is_named(share: float, wire: str, depth: int) -> None:
    """A drive's reads send their data up, its writes fetch theirs down; the link is full, or just slowest."""
    found = row_of(link=SLOW, traffic={"read_share": share, "queue_depth": depth})
    assert (found["limited_by"], found["limited_at"]) == ("link", wire)


@pytest.mark.parametrize(("own", "uplink", "wire"), [(1, 2, "link upstream"), (2, 1, "uplink s1 upstream")])
def test_of_a_way_over_a_switch_the_busiest_link_is_named(own: int, uplink: int, wire: str) -> None:
    data = copy.deepcopy(EASY)
    data["link"] |= {"gen": own, "lanes": 1}
    (workload,) = data["workload"]
    workload["switch"] = {
        "s0": {"uplink": "gen1x1", "latency": "0ns"},
        "s1": {"uplink": data["link"] | {"gen": uplink}, "latency": "0ns"},
    }
    ssd = workload["device"]["ssd"] | {"switch": "s1"}
    workload["device"] = {"ssd": ssd, "other": ssd | {"switch": "s0", "link": "gen1x1"}}
    rows = compare(Scenario.from_dict(data)).record.to_dict()["results"]
    by_class = {row["class"]: row for row in rows if row["scheme"] == "none"}
    assert (by_class["ssd"]["limited_by"], by_class["ssd"]["limited_at"]) == ("link", wire)
    assert by_class["other"]["limited_at"].endswith("upstream")
    # Of rows of several devices it is not said, nor where another resource limits.
    assert "limited_at" not in by_class["all"]
    assert "limited_at" not in row_of(device={"controller": "20us"})


@pytest.mark.parametrize(("iops", "at"), [(2000, None), (20_000, None), (40_000, "link upstream in bursts")])
def test_a_load_that_queues_is_told(iops: int, at: str | None) -> None:
    """Reads at random moments on a lane that carries some 51,000 of them per second."""
    found = row_of(link=SLOW, traffic={"iops": iops})
    assert (found["limited_by"], found.get("limited_at")) == ("load", at)


def test_a_recording_with_bursts_is_limited_in_them(tmp_path: Any, capsys: Any) -> None:
    from sevpcie_core import cli

    path = tmp_path / "bursts.csv"
    rows = [f"{1000 * (i // 16)},read,0,65536\n" for i in range(320)]
    path.write_text("time_us,event,address,length\n" + "".join(rows))
    argv = ["compare", "--trace", str(path), "--link", "gen1x1", "--seeds", "1", "--scheme", "sev-pcie", "-q"]
    assert cli.main([*argv, "--speed", "0.1"]) == 0
    out = capsys.readouterr().out
    assert "link upstream in bursts" in " ".join(out.split())


@pytest.mark.parametrize(
    ("busy", "ledger", "found"),
    [
        ({}, {"media": 51, "arbitration": 49}, None),
        ({}, {"media": 49, "arbitration": 51}, "link"),
        ({"engine": 0.6}, {"media": 40, "arbitration": 60}, "engine"),
        ({}, {"media": 40, "credits": 60}, "credits"),
        ({}, {"media": 40, "tags": 60}, "tags"),
        # Own time of a place is no queue.
        ({}, {"host": 90, "serialisation": 10}, None),
        ({}, {}, None),
    ],
)
def test_queues_are_seen_by_their_share(
    busy: dict[str, float], ledger: dict[str, float], found: str | None
) -> None:
    assert in_bursts(IDLE | busy, ledger) == found


def test_every_place_of_the_ledger_belongs_to_one_resource() -> None:
    placed = [place for places in PLACES_OF.values() for place in places]
    assert sorted([*placed, "arbitration"]) == sorted(PLACES)
    ledger = {place: 2.0**i for i, place in enumerate(PLACES)}
    assert sum(spent(ledger).values()) == pytest.approx(sum(ledger.values()))


IDLE = dict.fromkeys(("link", "tags", "credits", "iommu", "engine", "host", "device"), 0.5)


@pytest.mark.parametrize(
    ("busy", "open_loop", "ledger", "limit"),
    [
        ({"link": 0.95}, True, {"media": 9}, "link"),
        ({"link": 0.949}, True, {"media": 9}, "load"),
        ({"link": 0.949}, False, {"media": 9}, "device"),
        # Who waits at a full resource holds its tag: more tags would change nothing.
        ({"tags": 1.0, "host": 0.96}, False, {"tags": 9}, "host"),
        ({"tags": 1.0, "host": 0.9}, False, {"host": 9}, "tags"),
        # A queue behind a head that waits for credits, and one behind a head on the wire.
        ({}, False, {"arbitration": 60, "credits": 8, "serialisation": 2, "host": 20}, "credits"),
        ({}, False, {"arbitration": 60, "credits": 2, "serialisation": 8, "host": 20}, "link"),
        ({}, False, {"arbitration": 60, "host": 20}, "link"),
        # Tags that are held in queues, and tags that are held on the way.
        ({}, False, {"tags": 60, "arbitration": 9, "serialisation": 1, "host": 5}, "link"),
        ({}, False, {"tags": 60, "arbitration": 1, "serialisation": 1, "host": 9}, "tags"),
        ({}, False, {}, "device"),
    ],
)
def test_full_then_load_then_where_requests_wait(
    busy: dict[str, float], open_loop: bool, ledger: dict[str, float], limit: str
) -> None:
    assert limited_by([IDLE, IDLE | busy], open_loop, ledger) == limit
