"""Resolved hardware and protection as the rows that the simulator reads.

Rule: the one place where a device, its link, its host and an engine meet.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..link.hop import CONTEXTS_PER_DEVICE
from ..link.params import (
    CONTEXTS,
    NO_ENGINE,
    EngineTiming,
    Peer,
    Switch,
    behind_switches,
    engine_timing,
    link_row,
    with_peers,
)
from .resolved import DeviceRun, GpuDevice, Host, Link, Scheme, WorkloadRun, at_variant

_PS_PER_NS = 1000


def contexts_of(scheme: Scheme, workload: WorkloadRun) -> int:
    """Return the key contexts of the engine that has most of them.

    An engine at a port has the sub-streams of one stream, at a root port of a switch those of the selective
    streams of all devices behind it; one that the ports share has those of all devices in both directions.
    """
    if scheme.shared_engine:
        return CONTEXTS_PER_DEVICE * len(workload.devices)
    behind = [sum(run.switch == s.name for run in workload.devices) for s in workload.switches]
    return CONTEXTS * max([1, *behind] if scheme.stream_kind == "selective" else [1])


def engine_of(scheme: Scheme, variant: str = "typical", contexts: int = CONTEXTS) -> EngineTiming:
    """Return a scheme's engine with its parameters typical, at one end, or one of them at an end.

    contexts : most that one engine has keys for, see `contexts_of`.
    """
    if scheme.mechanism != "ide":
        return NO_ENGINE
    values = at_variant(scheme.engine, variant)
    posted, non_posted, completion = scheme.aggregation or (1, 1, 1)
    return engine_timing(
        **values,
        rounds=scheme.rounds,
        hold=scheme.mac_rule == "hold",
        pcrc=scheme.pcrc,
        shared=scheme.shared_engine,
        link_stream=scheme.stream_kind == "link",
        contexts=contexts,
        unit_tlps=(posted, non_posted, completion),
    )


def host_work_of(scheme: Scheme, variant: str = "typical") -> Mapping[str, int]:
    """Return what a scheme asks of the host, in ps by the names of HOST_PARAMETERS without their unit."""
    values = at_variant(scheme.host, variant)
    return {name.removesuffix("_ns"): value * _PS_PER_NS for name, value in values.items()}


def _row(
    host: Host, link: Link, run: DeviceRun, engine: EngineTiming, rmp_check_ps: int, tags: int, mrrs: int
) -> np.ndarray:
    return link_row(
        generation=link.gen,
        lanes=link.lanes,
        mps=link.mps,
        mrrs=mrrs,
        rcb=link.rcb,
        completion_bytes=link.completion_bytes,
        propagation_ps=link.propagation_ps,
        flit_check_ps=link.flit_check_ps,
        tags=tags,
        engine=engine,
        up=host.credits,
        down=run.device.credits,
        data_link=link.data_link,
        root_port=replace(host.root_port, rmp_check_ps=rmp_check_ps),
        relaxed=run.device.relaxed_ordering,
        ido=run.device.id_based_ordering,
    )


def row_of(host: Host, run: DeviceRun, engine: EngineTiming = NO_ENGINE, rmp_check_ps: int = 0) -> np.ndarray:
    """Return int64[LINK_COLUMNS], one device. Raises MisuseError for buffers that no TLP fits."""
    return _row(host, run.link, run, engine, rmp_check_ps, run.device.tags, run.sizes.mrrs)


def uplink_row(
    host: Host, uplink: Link, run: DeviceRun, engine: EngineTiming = NO_ENGINE, rmp_check_ps: int = 0
) -> np.ndarray:
    """Return int64[LINK_COLUMNS], a switch's link to its root port. Raises MisuseError as `row_of`.

    Tags are the devices' own; any of them stands for the buffers, of which an uplink has the host's only.
    """
    return _row(host, uplink, run, engine, rmp_check_ps, 1, uplink.mrrs)


def rows_of(
    host: Host, workload: WorkloadRun, engine: EngineTiming = NO_ENGINE, rmp_check_ps: int = 0
) -> np.ndarray:
    """Return int64[devices + switches, LINK_COLUMNS].

    Raises MisuseError for buffers that no TLP fits, and for links of one way that differ in the size of TLPs.
    """
    links = _host_ways(host, workload, engine, rmp_check_ps)
    peers = peers_of(workload)
    pairs = [(d, peer) for d, peer in enumerate(peers) if peer is not None]
    if not pairs:
        return links
    memory = [
        Peer(run.device.peer_read_ps, run.device.peer_interval_ps)
        if isinstance(run.device, GpuDevice)
        else Peer()
        for run in workload.devices
    ]
    return with_peers(links, pairs, memory, host.peer_latency_ps)


def peers_of(workload: WorkloadRun) -> list[int | None]:
    """Return of each device the number of the one that its data lie in, None for the host."""
    names = [run.name for run in workload.devices]
    return [names.index(run.peer) if run.peer else None for run in workload.devices]


def _host_ways(host: Host, workload: WorkloadRun, engine: EngineTiming, rmp_check_ps: int) -> np.ndarray:
    """Return the rows of the ways between devices and the host."""
    links = np.stack([row_of(host, run, engine, rmp_check_ps) for run in workload.devices])
    if not workload.switches:
        return links
    names = [switch.name for switch in workload.switches]
    uplinks = [
        (
            uplink_row(host, switch.uplink, workload.devices[0], engine, rmp_check_ps),
            Switch(switch.latency_ps, switch.cut_through, switch.acs_redirect),
        )
        for switch in workload.switches
    ]
    below = [names.index(run.switch) if run.switch else None for run in workload.devices]
    return behind_switches(links, uplinks, below)
