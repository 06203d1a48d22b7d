"""Two workloads side by side, as a document: for `sevpcie workload show A --against B`.

Rule: as in `looks`: programs are those of a comparison, and nothing is simulated. Each side is counted once,
in constant memory; distances are of these counts, so values that are within 0.1 % of each other are one. A
trace is replayed on the other side's device and link, so that what differs is the traffic.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..errors import ConfigError
from ..stats.hist import Histogram, bucket_bounds
from ..stats.twosample import Largest, Sample, ks_distance, ks_limit, total_variation, wasserstein
from ..workload.look import ClassLook, Look
from ..workload.nvme_steps import TRIM_BYTES
from ..workload.traces.pace import LINE_OVERHEAD, MIN_FRAME
from .fingerprint import versions
from .looks import View, views_of
from .named import find, names_scenario, refuse_reading
from .programs import warnings_of
from .told import Document, distribution
from .traffic import SAMPLE

SCHEMA_VERSION: Final = 1
# Of gaps over their mean: each gap is told by the lower end of a bucket of 0.1 %, and the mean is not.
_SLACK: Final = 0.002
_NS: Final = 1e-3
_SIDES: Final = ("one", "other")
_DATA_UP: Final = ("write", "up", "data")
_DATA_DOWN: Final = ("read", "up", "data")


def document(
    name: str,
    against: str,
    *,
    requests: int | None = None,
    quick: bool = False,
    seed: int | None = None,
    protect: Mapping[str, float] | None = None,
    progress: Callable[[str, int, int], object] = lambda stage, done, total: None,
    **reading: Any,
) -> Document:
    """Return what `sevpcie workload show NAME --against OTHER --json` prints.

    Parameters
    ----------
    name, against : as `named.find` takes them. reading : of each of the two that is a trace, as in `find`.
    requests, quick, seed, protect : as in `looks.document`, of each.

    Raises
    ------
    ConfigError, FormatError : as `looks.document`; devices of different kinds, or several on both sides;
        nothing that both have.
    """
    progress("reading", 0, 0)
    names = (name, against)
    if all(map(names_scenario, names)):
        refuse_reading(" and ".join(dict.fromkeys(names)), reading)
    sides: list[_Side] = []
    warnings: list[str] = []
    for asked in names:
        found = find(asked, **({} if names_scenario(asked) else reading))
        found = found._replace(scenario=found.scenario.with_options(seed=seed, regions=protect))
        resolved = found.scenario.resolve()
        devices = list(views_of(found, resolved, requests, quick))
        sides.append(_Side(asked, found.base, devices, found.recorded))
        warnings += warnings_of(resolved, {view.workload.name for view in devices})
    matched = list(_matched(*sides))
    if reading.get("link") is None:
        matched = [_on_one_device(*pair, sides) for pair in matched]
    pairs: list[Document] = []
    apart: list[str] = []
    for at, views in enumerate(matched):
        progress("looking", at, len(matched))
        looks = [view.look() for view in views]
        classes = [_classes(look, view) for look, view in zip(looks, views, strict=True)]
        if classes[0].keys() & classes[1].keys():
            titles = [side.title(view) for side, view in zip(sides, views, strict=True)]
            pairs.append(_pair(views, titles, looks, classes))
        else:
            told = zip(sides, views, classes, strict=True)
            has = ", ".join(f"{side.called(view)} has {' and '.join(c)}" for side, view, c in told)
            apart.append(f"--against: {has}; expected some of the same kind")
    if not pairs:
        raise ConfigError(apart[0])
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "workload show",
        "versions": versions(),
        "options": {
            "name": name,
            "against": against,
            "requests": requests,
            "quick": quick,
            "seed": sides[0].views[0].resolved.seed,
        },
        "warnings": list(dict.fromkeys([*warnings, *apart])),
        "pairs": pairs,
    }


class _Side(NamedTuple):
    """One of the two: what was asked for, the scenario or trace alone, its devices, whether it is a trace."""

    name: str
    base: str
    views: Sequence[View]
    recorded: bool

    def of(self, kind: str) -> list[View]:
        """Return its devices of a kind."""
        return [view for view in self.views if view.run.device.kind == kind]

    def called(self, view: View) -> str:
        """Return by which name one of its devices is asked for."""
        return self.base if self.recorded else f"{self.base}/{_part(view)}"

    def title(self, view: View) -> str:
        """Return what one of its devices is called above its numbers: without folders."""
        if not self.recorded:
            return f"{view.resolved.name}/{_part(view)}"
        return self.base if self.base.startswith(SAMPLE) else Path(self.base).name


def _part(view: View) -> str:
    """Return which device of a scenario it is."""
    several = len(view.workload.devices) > 1
    return f"{view.workload.name}/{view.run.name}" if several else view.workload.name


def _matched(one: _Side, other: _Side) -> Iterator[tuple[View, View]]:
    """Yield what stands side by side: devices of one kind, of which one side has a single one.

    Raises: ConfigError: there are none, or several on both sides.
    """
    kinds = [list(dict.fromkeys(view.run.device.kind for view in side.views)) for side in (one, other)]
    both = [kind for kind in kinds[0] if kind in kinds[1]]
    if not both:
        told = [f"{side.name} is of {' and '.join(k)}" for side, k in zip((one, other), kinds, strict=True)]
        raise ConfigError(f"--against: {', '.join(told)}; expected two of one kind")
    for kind in both:
        if len(one.of(kind)) > 1 and len(other.of(kind)) > 1:
            known = [other.called(view) for view in other.of(kind)]
            raise ConfigError(
                f"--against {other.name}: {len(known)} of kind {kind}; expected one of {', '.join(known)}"
            )
        yield from product(one.of(kind), other.of(kind))


def _on_one_device(one: View, other: View, sides: Sequence[_Side]) -> tuple[View, View]:
    """Return the two, a trace on the device and the link of what is none."""
    if sides[0].recorded and not sides[1].recorded:
        return _moved(one, other), other
    if sides[1].recorded and not sides[0].recorded:
        return one, _moved(other, one)
    return one, other


def _moved(trace: View, to: View) -> View:
    run = replace(trace.run, device=to.run.device, link=to.run.link)
    return replace(trace, workload=replace(trace.workload, devices=(run,)))


def _pair(
    views: Sequence[View],
    titles: Sequence[str],
    looks: Sequence[Look],
    classes: Sequence[Mapping[str, ClassLook]],
) -> Document:
    """Return two devices side by side."""
    facts = [{"name": name, **view.facts()} for name, view in zip(titles, views, strict=True)]
    # The shared ones first, in the order of the first.
    names = sorted(
        dict.fromkeys([*classes[0], *classes[1]]), key=lambda name: any(name not in c for c in classes)
    )
    return {
        "kind": views[0].run.device.kind,
        **dict(zip(_SIDES, facts, strict=True)),
        "classes": [_class(name, views, [mine.get(name) for mine in classes]) for name in names],
        "all": {
            "operations": dict(zip(_SIDES, (sum(look.operations.values()) for look in looks), strict=True)),
            "wire_bytes_per_operation": {
                way: dict(zip(_SIDES, (_wire(look, way) for look in looks), strict=True))
                for way in ("up", "down")
            },
            "transactions": _transactions([_whole(look) for look in looks]),
        },
    }


def _classes(found: Look, view: View) -> dict[str, ClassLook]:
    """Return the classes of operations; a drive's by what commands are, also where all are of one kind."""
    only = found.classes.get("nvme")
    if view.run.device.kind != "nvme" or only is None:
        return found.classes
    commands, moved = only.moved.get(_DATA_DOWN, (0, 0))
    if _DATA_UP in only.moved:
        return {"read": only}
    # What a write moves are blocks of 512 B.
    name = "nvme" if not commands else "trim" if moved == TRIM_BYTES * commands else "write"
    return {name: only}


def _class(name: str, views: Sequence[View], found: Sequence[ClassLook | None]) -> Document:
    """Return one class of both sides, None where a side has none of it."""
    sizes = [look.sizes if look is not None and look.sizes.total_ps else None for look in found]
    gaps = [look.gaps if look is not None and look.gaps.samples else None for look in found]
    spread = _distances(gaps, _NS)
    return {
        "class": name,
        "operations": dict(zip(_SIDES, (look.count if look else 0 for look in found), strict=True)),
        "rate": dict(zip(_SIDES, map(_rate, views, found), strict=True)),
        "sizes": {**_told(sizes, "bytes", 1), "distance": _distances(sizes, 1, counted=True)},
        "gaps": {**_told(gaps, "ns", _NS), "distance": spread, "over_mean": _over_mean(gaps)},
        "transactions": _transactions([None if look is None else (look.count, look.moved) for look in found]),
    }


def _rate(view: View, found: ClassLook | None) -> Document | None:
    """Return how often an operation is asked for, and of frames the load in bits of the line (key `rate`)."""
    if found is None or not found.gaps.total_ps:
        return None
    per_s = 1e12 * found.gaps.samples / found.gaps.total_ps
    if view.run.device.kind != "nic":
        return {"operations_per_s": per_s}
    low, _ = bucket_bounds(found.sizes.index)
    bits = 8 * int(((low.clip(MIN_FRAME) + LINE_OVERHEAD) * found.sizes.count).sum())
    return {"operations_per_s": per_s, "line_gbps": 1e-9 * per_s * bits / found.count}


def _told(histograms: Sequence[Histogram | None], unit: str, scale: float) -> Document:
    return {
        side: None if found is None else distribution(found, unit, scale)
        for side, found in zip(_SIDES, histograms, strict=True)
    }


def _samples(histograms: Sequence[Histogram | None]) -> tuple[Sample, Sample] | None:
    one, other = histograms
    return None if one is None or other is None else (Sample.counted(one), Sample.counted(other))


def _distances(
    histograms: Sequence[Histogram | None], scale: float, counted: bool = False
) -> Document | None:
    """Return how far two samples are from each other; `counted`: they have few different values."""
    samples = _samples(histograms)
    if samples is None:
        return None
    return {
        **_ks(ks_distance(*samples), scale, samples),
        "total_variation": total_variation(*samples) if counted else None,
        "wasserstein": scale * wasserstein(*samples),
    }


def _over_mean(histograms: Sequence[Histogram | None]) -> Document | None:
    """Return the distances of two samples each in units of its own mean: of how values vary, at any rate."""
    one, other = histograms
    samples = _samples(histograms)
    if samples is None or one is None or other is None or not one.total_ps or not other.total_ps:
        return None
    scaled = samples[0].scaled(1 / one.mean_ps), samples[1].scaled(1 / other.mean_ps)
    return {
        **_ks(ks_distance(*scaled, slack=_SLACK), 1, scaled),
        "total_variation": None,
        "wasserstein": wasserstein(*scaled),
    }


def _ks(found: Largest, scale: float, samples: tuple[Sample, Sample]) -> Document:
    return {
        "ks": found.distance,
        "ks_limit": ks_limit(samples[0].n, samples[1].n),
        "ks_at": scale * found.at,
        "share_one": found.one,
        "share_other": found.other,
    }


_Moved = tuple[int, Mapping[tuple[str, str, str], tuple[int, int]]]
"""A number of operations, and their transactions as `ClassLook.moved`."""


def _whole(found: Look) -> _Moved:
    """Return all operations of a device."""
    moved: dict[tuple[str, str, str], tuple[int, int]] = {}
    for t in found.transactions:
        key = (t.kind, t.direction, t.buffer)
        count, total = moved.get(key, (0, 0))
        moved[key] = (count + t.sizes.count, total + t.sizes.total)
    return sum(found.operations.values()), moved


def _wire(found: Look, way: str) -> float:
    """Return bytes on the wire in one direction, per operation."""
    total = sum(t.wire_bytes for t in found.tlps if t.direction == way)
    return total / (sum(found.operations.values()) or 1)


def _transactions(found: Sequence[_Moved | None]) -> list[Document]:
    """Return the transactions per operation of both sides, by kind and buffer."""
    keys = dict.fromkeys(key for moved in found if moved is not None for key in moved[1])
    return [
        {
            **dict(zip(("kind", "direction", "buffer"), key, strict=True)),
            **{
                side: None if moved is None else _per_operation(moved[0], *moved[1].get(key, (0, 0)))
                for side, moved in zip(_SIDES, found, strict=True)
            },
        }
        for key in keys
    ]


def _per_operation(operations: int, count: int, moved: int) -> Document:
    per = operations or 1
    return {"count_per_operation": count / per, "bytes_per_operation": moved / per}
