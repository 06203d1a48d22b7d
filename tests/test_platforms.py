"""Platforms: few free numbers, a source for every other one, and errors that name file, line and key."""

import tomllib

import numpy as np
import pytest

from sevpcie_core.errors import ConfigError
from sevpcie_core.experiment import presets
from sevpcie_core.experiment.platforms import PARTS, Platform, load_platform
from sevpcie_core.link import params
from sevpcie_core.link.params import Memory
from sevpcie_core.units import TIME_UNITS

SHIPPED = [
    name
    for name in presets.names("platforms")
    if tomllib.loads((presets.ROOT / "platforms" / f"{name}.toml").read_text())["kind"] == "dma"
]
# The most numbers that may be found with data.
MOST_FREE = {"e5-nfp6000": 14, "xeon-h100": 12}

SMALL = """title = "small"
kind = "dma"

[link]
gen = 3
lanes = 8
mps = 256
mrrs = 512
rcb = 64
propagation = "0ns"

[host]
read_latency = "300ns"
spread = "10ns"
cold = "50ns"
refresh = "260ns"
refresh_interval = "7.8us"
cache_bytes = "1MiB"

[iommu]
entries = 64
ways = 4
walkers = 4
walk = "200ns"

[device]
slots = 8
tags = 32

[[free]]
key = "host.cold"
unit = "ns"
low = 10
high = 100
meaning = "memory"
rows = "some"

[[free]]
key = "device.tags"
unit = "requests"
low = 1
high = 64
meaning = "tags"
rows = "others"
"""


@pytest.fixture
def load(tmp_path):
    """Return `load(text)`, which writes a platform file and loads it."""

    def write(text: str) -> Platform:
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return load_platform(str(path))

    return write


def test_what_is_shipped():
    assert set(SHIPPED) == set(MOST_FREE)


@pytest.mark.parametrize("name", SHIPPED)
def test_free_numbers_are_few_and_every_other_one_has_a_source(name):
    platform = load_platform(name)
    free = {f.key for f in platform.free}
    assert len(free) <= MOST_FREE[name]
    assert all(f.low < f.value < f.high and len(f.meaning) > 15 and f.rows for f in platform.free)
    for part in PARTS:
        table = getattr(platform.table, part)
        if table is None:
            continue
        for key in table.model_fields_set - {"title", "source"}:
            assert f"{part}.{key}" in free or len(table.source[key]) > 10, f"{part}.{key}"
    # Nothing that a standard fixes, nor what a system was set to.
    assert not {f.split(".")[0] for f in free} & {"link", "credits"}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_platform_becomes_a_row_and_writes_itself(name, load):
    platform = load_platform(name)
    row = platform.row(mrrs=1024)
    assert row[params.MRRS] == 1024
    assert row[params.TAGS] == platform.table.device.tags
    again = load(platform.to_toml())
    assert again.table == platform.table


def test_changed_numbers_go_into_the_file(load):
    platform = load(SMALL).changed({"host.cold": 61_234, "device.tags": 40})
    assert (platform.value("host.cold"), platform.value("device.tags")) == (61_234, 40)
    assert [f.value for f in platform.free] == [61.234, 40]
    text = platform.to_toml()
    assert 'cold = "61234ps"' in text
    assert load(text).table == platform.table
    assert load(text).with_table("residual", {"a": {"points": 2, "mean_pct": 1.5, "max_pct": 2}}).to_toml()


def quantile(points, p: float) -> float:
    return float(np.interp(p, *np.array(points).T))


def test_reads_of_the_host(load):
    platform = load(SMALL)
    warm = platform.read_latency()
    # One in ten takes the spread longer, one in a hundred twice as much.
    assert [quantile(warm, p) for p in (0.5, 0.9, 0.99)] == [300_000, 310_000, 320_000]
    assert platform.memory("cold", 1 << 20) == Memory(1.0, 50_000, 260_000, 7_800_000)
    assert platform.memory("warm", 1 << 20).miss_share == 0
    # A quarter of a window of four caches is in the cache.
    assert platform.memory("warm", 1 << 22).miss_share == 0.75
    iommu = platform.translation()
    assert (iommu.entries, iommu.walkers, iommu.page_shift) == (64, 4, 12)
    assert quantile(iommu.walk, 0.5) == 200_000


def test_without_an_iommu_nothing_is_translated(load):
    text = SMALL[: SMALL.index("[iommu]")] + SMALL[SMALL.index("[device]") :]
    assert load(text).translation().entries == 0


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('cold = "50ns"', "cold = 50", "mine.toml:15: host.cold: 50: no unit"),
        ("tags = 32", "tags = 0", "device.tags: 0; expected a whole number from 1"),
        ("tags = 32", "tag = 32", "unknown key 'tag'.*did you mean 'tags'"),
        ('spread = "10ns"', 'spread = "400ns"', "host.spread: '400ns'; expected at most read_latency"),
        ('refresh = "260ns"', 'refresh = "8us"', "refresh: '8us'; expected less than refresh_interval"),
        ("ways = 4", "ways = 5", "iommu.ways: 5 of 64 entries"),
        ('key = "host.cold"', 'key = "host.colt"', "key = 'host.colt'; expected TABLE.KEY"),
        ('key = "host.cold"', 'key = "device.tags"', "free: device.tags in ns; expected a unit of time"),
        ("high = 100", "high = 40", "host.cold = 50 ns; expected 10 to 40"),
        ('unit = "ns"', 'unit = "furlongs"', "unit: 'furlongs'; expected 'ps'"),
        ('kind = "dma"', 'kind = "copies"', "mine.toml:2: kind: 'copies'; expected 'dma'"),
        ('kind = "dma"\n', "", "kind: nothing; expected 'dma'"),
        # A platform has that table of its own.
        ('propagation = "0ns"', 'propagation = "0ns"\ndata_link = {}', "unknown key 'data_link'"),
        ("[link]", "[credits]\nposted_headers = 4\n\n[link]", "credits.posted_headers: 4 with posted_data 0"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(old, new, words, load):
    assert old in SMALL
    with pytest.raises(ConfigError, match=words) as caught:
        load(SMALL.replace(old, new, 1))
    assert "\n" not in str(caught.value)


def test_a_platform_that_is_not_there_or_of_another_kind(tmp_path):
    with pytest.raises(ConfigError, match=r"expected one of e5-nfp6000.*did you mean 'e5-nfp6000'"):
        load_platform("e5-nfp600")
    with pytest.raises(ConfigError, match="no such file"):
        load_platform(str(tmp_path / "none.toml"))
    with pytest.raises(
        ConfigError, match="'h100-tdx' is of another kind; expected one of e5-nfp6000, xeon-h100, or"
    ):
        load_platform("h100-tdx")


def test_units_of_free_numbers_are_times_or_counts():
    for name in SHIPPED:
        for free in load_platform(name).free:
            assert free.whole == (free.unit not in TIME_UNITS and free.unit != "B")
