"""Resolved hardware and protection as the rows that the simulator reads.

Rule: the one place where a device, its link, its host and an engine meet.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..link.params import NO_ENGINE, EngineTiming, engine_timing, link_row
from .resolved import DeviceRun, Host, Scheme, at_variant

_PS_PER_NS = 1000


def engine_of(scheme: Scheme, variant: str = "typical") -> EngineTiming:
    """Return a scheme's engine with its parameters typical, at one end, or one of them at an end."""
    if scheme.mechanism != "ide":
        return NO_ENGINE
    values = at_variant(scheme.engine, variant)
    return engine_timing(**values, rounds=scheme.rounds, hold=scheme.mac_rule == "hold", pcrc=scheme.pcrc)


def host_work_of(scheme: Scheme, variant: str = "typical") -> Mapping[str, int]:
    """Return what a scheme asks of the host, in ps by the names of HOST_PARAMETERS without their unit."""
    values = at_variant(scheme.host, variant)
    return {name.removesuffix("_ns"): value * _PS_PER_NS for name, value in values.items()}


def row_of(host: Host, run: DeviceRun, engine: EngineTiming = NO_ENGINE, rmp_check_ps: int = 0) -> np.ndarray:
    """Return int64[LINK_COLUMNS], one device. Raises MisuseError for buffers that no TLP fits."""
    link = run.link
    return link_row(
        generation=link.gen,
        lanes=link.lanes,
        mps=link.mps,
        mrrs=link.mrrs,
        rcb=link.rcb,
        completion_bytes=link.completion_bytes,
        propagation_ps=link.propagation_ps,
        tags=run.device.tags,
        engine=engine,
        up=host.credits,
        down=run.device.credits,
        data_link=link.data_link,
        root_port=replace(host.root_port, rmp_check_ps=rmp_check_ps),
        relaxed=run.device.relaxed_ordering,
    )
