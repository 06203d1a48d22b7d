"""Platforms: a host, a link and a device whose plaintext behaviour was found by measurement.

Rule: few physical parameters and no curve. A preset lists which of its numbers are free (found with data, and
with which rows); every other one has a source. Times in files carry units, in here they are ps.

Loading, and what is wrong with a file, works as for the other presets (`problems.py`): file, line, key, value
and what is allowed.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field, ValidationError

from .. import spec
from ..link.params import NO_IOMMU, Credits, Iommu, Memory, link_row
from ..units import TIME_UNITS, format_time
from .fields import Choice, Number, Text, Whole
from .free import FreeTable, platform_file, problems
from .problems import Origin, first_problem
from .quantities import Size, Spread, Time
from .resolved import Quantiles
from .tables import (
    DataLinkTable,
    DeviceCreditsTable,
    HostCreditsTable,
    IommuTable,
    LinkShape,
    LinkTable,
    Preset,
    RootPortTable,
    Table,
)
from .toml_text import dumps
from .traffic import names_file

_MS: Final = 10**9
Cache = Literal["warm", "cold"]
# What a file of this kind calls itself; there are others (`copies.py`).
KIND: Final = "dma"

# How far a read from the cache is from the median, in spreads: an exponential tail, a decade per spread.
_SHAPE: Final = ((0.0, -1), (0.5, 0), (0.9, 1), (0.99, 2), (0.999, 3), (0.9999, 4), (1.0, 5))


class CreditsTable(HostCreditsTable, DeviceCreditsTable):
    """Buffers at both ends, as credits; 0 is infinite. Posted ones are the root port's."""


class MemoryTable(Preset):
    """The root complex and the memory behind it.

    read_latency is the median of a line in the cache. Of ten one takes `spread` longer, of a hundred one
    twice as much, and so on. A line that is not in the cache takes `cold` more, and waits
    for the end of a refresh of its rank if it meets one.
    """

    read_latency: Annotated[int, Time(_MS)]
    spread: Annotated[int, Time(_MS)] = 0
    cold: Annotated[int, Time(_MS)] = 0
    refresh: Annotated[int, Time(_MS)] = 0
    refresh_interval: Annotated[int, Time(_MS)] = 0
    cache_bytes: Annotated[int, Size(0, 1 << 40)] = 0
    read_interval: Annotated[int, Time(_MS)] = 0

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield a spread beyond 0 and refreshes that never end."""
        yield from super().problems()
        if self.spread > self.read_latency:
            most = format_time(self.read_latency)
            yield "spread", f"{format_time(self.spread)!r}; expected at most read_latency ({most!r})"
        if self.refresh and self.refresh >= self.refresh_interval:
            most = format_time(self.refresh_interval)
            yield "refresh", f"{format_time(self.refresh)!r}; expected less than refresh_interval ({most!r})"


class DmaTable(Preset):
    """A DMA device, see `workload.dma`."""

    slots: Annotated[int, Whole(1, 1 << 20)]
    tags: Annotated[int, Whole(1, spec.MAX_TAGS)]
    read_issue: Annotated[int, Time(_MS)] = 0
    write_issue: Annotated[int, Time(_MS)] = 0
    read_setup: Annotated[int, Time(_MS)] = 0
    write_setup: Annotated[int, Time(_MS)] = 0
    read_request: Annotated[int, Time(_MS)] = 0
    beat_bytes: Annotated[int, Size(4, 4096, 4)] = 64
    read_beat: Annotated[int, Time(_MS)] = 0
    write_beat: Annotated[int, Time(_MS)] = 0
    finish: Annotated[int, Time(_MS)] = 0
    finish_per_kib: Annotated[int, Time(_MS)] = 0


class CopyTable(Preset):
    """The copy engines of a GPU and the driver before them.

    Of copies in both directions at once the commands of one wait behind the data of the other, until all of
    these have passed or for `behind_reads` (of a copy to the host, behind data to the device) and
    `behind_writes` (the other way) at most.
    """

    h2d_setup: Annotated[int, Time(_MS)]
    d2h_setup: Annotated[int, Time(_MS)]
    interval: Annotated[int, Time(_MS)] = 0
    synchronise: Annotated[int, Time(_MS)] = 0
    behind_reads: Annotated[int, Time(_MS)] = 0
    behind_writes: Annotated[int, Time(_MS)] = 0


_UNITS: Final = ("ps", "ns", "us", "B", "TLPs", "requests", "walkers")


class FoundTable(FreeTable):
    """A number that was found with data."""

    unit: Annotated[str, Choice(_UNITS)]


class ResidualTable(Table):
    """What was left where the free numbers were found."""

    points: Annotated[int, Whole(1, 10**9)]
    mean_pct: Annotated[float, Number(0, 1e9)]
    max_pct: Annotated[float, Number(0, 1e9)]


class PlatformTable(Preset):
    """A platform file of kind `dma`."""

    kind: Annotated[Literal["dma"], Choice((KIND,))]
    systems: tuple[Annotated[str, Text()], ...] = ()
    link: LinkShape
    host: MemoryTable
    device: DmaTable
    data_link: DataLinkTable = DataLinkTable()
    credits: CreditsTable = CreditsTable()
    root_port: RootPortTable = RootPortTable()
    iommu: IommuTable | None = None
    copy_engine: CopyTable | None = None
    free: tuple[FoundTable, ...] = ()
    residual: dict[str, ResidualTable] = Field(default_factory=dict)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield free numbers that are not there, twice, or outside of their range."""
        yield from super().problems()
        parts = {name: getattr(self, name) for name in PARTS}
        units = {unit: scale(unit) for unit in _UNITS}
        yield from (("free", tail) for _, tail in problems(self.free, parts, units))


# Tables of a platform that hold numbers.
PARTS: Final = ("link", "host", "device", "data_link", "credits", "root_port", "iommu", "copy_engine")


def scale(unit: str) -> int:
    """Return base units (ps, or pieces) of a unit of a free parameter."""
    return TIME_UNITS.get(unit, 1)


@dataclass(frozen=True)
class Free:
    """A free parameter: where it stands, its value and plausible range in `unit`, and what fixed it."""

    key: str
    value: float
    unit: str
    low: float
    high: float
    meaning: str
    rows: str

    @property
    def whole(self) -> bool:
        """Whether it is a small count, of which the neighbours are worth trying (not a time, not bytes)."""
        return self.unit not in TIME_UNITS and self.unit != "B"


@dataclass(frozen=True)
class Platform:
    """A platform, checked. `table` is the file's content in base units, `raw` as it was written."""

    name: str
    table: PlatformTable
    raw: Mapping[str, Any]
    origin: Origin

    @property
    def free(self) -> tuple[Free, ...]:
        """The free parameters with their values."""
        return tuple(
            Free(f.key, self.value(f.key) / scale(f.unit), f.unit, f.low, f.high, f.meaning, f.rows)
            for f in self.table.free
        )

    def value(self, key: str) -> int:
        """Return the number at TABLE.KEY in base units."""
        table, _, name = key.partition(".")
        return int(getattr(getattr(self.table, table), name))

    def changed(self, values: Mapping[str, int]) -> "Platform":
        """Return the platform with other numbers, by TABLE.KEY in base units; nothing else is checked."""
        raw = deepcopy(dict(self.raw))
        parts: dict[str, Any] = {}
        for key, value in values.items():
            table, _, name = key.partition(".")
            part = parts.get(table, getattr(self.table, table))
            parts[table] = part.model_copy(update={name: value})
            time = isinstance(_rule(type(part), name), Time)
            raw.setdefault(table, {})[name] = format_time(value) if time else value
        return replace(self, table=self.table.model_copy(update=parts), raw=raw)

    def with_table(self, name: str, keys: Mapping[str, Any]) -> "Platform":
        """Return the platform with another table (residuals, say). Raises ConfigError as for a file."""
        return _checked({**self.raw, name: dict(keys)}, self.name, self.origin)

    def to_toml(self) -> str:
        """Return the file."""
        return dumps(self.raw)

    def row(self, *, mrrs: int | None = None, mps: int | None = None) -> np.ndarray:
        """Return the link's row of the simulator; sizes that a system has set differently go before."""
        t = self.table
        payload = mps or t.link.mps
        return link_row(
            generation=t.link.gen,
            lanes=t.link.lanes,
            mps=payload,
            mrrs=mrrs or t.link.mrrs,
            rcb=t.link.rcb,
            completion_bytes=min(t.link.completion_bytes or payload, payload),
            propagation_ps=t.link.propagation,
            flit_check_ps=t.link.flit_check,
            tags=t.device.tags,
            up=t.credits.build(),
            down=Credits(
                completion_headers=t.credits.completion_headers, completion_data=t.credits.completion_data
            ),
            data_link=t.data_link.build(),
            root_port=t.root_port.build(),
        )

    def references(self) -> dict[str, dict[str, Any]]:
        """Return link and host as a scenario has them.

        Reads are of lines in the cache, and the IOMMU is on if the platform has one, with walks that take
        the same time each. What is the device's (tags, buffers for completions, steps) is not in them.
        """
        t = self.table
        link = {**_keys(LinkTable, t.link), "title": t.title, "data_link": _keys(DataLinkTable, t.data_link)}
        host = {
            "title": t.title,
            "read_latency": Spread().text(self.read_latency()),
            "read_interval": format_time(t.host.read_interval),
            "root_port": _keys(RootPortTable, t.root_port),
            "credits": _keys(HostCreditsTable, t.credits),
        }
        if t.iommu is not None:
            host["iommu"] = _keys(IommuTable, t.iommu)
        return {"link": link, "host": host}

    def translation(self) -> Iommu:
        """Return the IOMMU, switched on."""
        io = self.table.iommu
        if io is None:
            return NO_IOMMU
        # What a walk reads lies in memory, and is refreshed like any data.
        share, wait = self._refresh()
        if not share:
            return io.build()
        return io.build(((0.0, io.walk), (1 - share, io.walk), (1.0, io.walk + wait)))

    def _refresh(self) -> tuple[float, int]:
        """Return how likely an access to memory meets a refresh, and how long it waits at most, ps.

        It meets one with the share of time that refreshes take, and waits for what is left of it.
        """
        host = self.table.host
        share = host.refresh / host.refresh_interval if host.refresh_interval else 0.0
        return round(share, 6), host.refresh

    def read_latency(self) -> Quantiles:
        """Return the distribution of the host's reads of what is in the cache."""
        host = self.table.host
        return tuple((p, host.read_latency + far * host.spread) for p, far in _SHAPE)

    def memory(self, cache: Cache = "warm", window: int = 0) -> Memory:
        """Return what reads find not in the cache, and what that takes.

        Parameters
        ----------
        cache : whether the window was in the cache before. window : bytes of it; of a warm one larger than
            the cache only a share is still there.
        """
        host = self.table.host
        share = 1.0 if cache == "cold" else 0.0
        if cache == "warm" and host.cache_bytes and window > host.cache_bytes:
            share = 1 - host.cache_bytes / window
        return Memory(share, host.cold, host.refresh, host.refresh_interval)


def _keys(model: type[Preset], table: Preset) -> dict[str, Any]:
    """Return the keys of a table that another model has too, as a file writes them, and their sources."""
    fields = type(table).model_fields.keys() & model.model_fields.keys()
    keys = table.model_dump(include=set(fields) - {"title", "source"}, exclude_none=True)
    sources = {key: text for key, text in table.source.items() if key in keys}
    return {**keys, "source": sources} if sources else keys


def _rule(table: type[Table], name: str) -> object:
    """Return what a key of a table may be."""
    return table.model_fields[name].metadata[0]


def _checked(raw: Mapping[str, Any], name: str, origin: Origin) -> Platform:
    try:
        table = PlatformTable.model_validate(raw)
    except ValidationError as error:
        raise first_problem(error, raw, origin) from None
    for part in ("", *PARTS):
        found = getattr(table, part) if part else table
        for key, tail in found.problems() if found is not None else ():
            raise origin.error((part, key) if part else (key,), tail)
    return Platform(name, table, raw, origin)


def _load(reference: str, folder: Path | None = None) -> Platform:
    name, content, origin = platform_file(reference, KIND, folder=folder)
    return _checked(content, name, origin)


_shipped = lru_cache(maxsize=8)(_load)


def load_platform(reference: str, folder: Path | None = None) -> Platform:
    """Return a shipped platform by name, or one from a .toml file.

    folder : where a relative path starts; the current one by default.

    Raises ConfigError: no such platform, or a file that breaks a rule.
    """
    return _load(reference, folder) if names_file(reference) else _shipped(reference)
