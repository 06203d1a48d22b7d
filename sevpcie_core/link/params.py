"""Numbers that the simulator's kernels read, made once per run from the resolved scenario.

Rule: rows of int64 with named columns; all times are ps, all sizes bytes.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from .. import spec
from ..errors import MisuseError

# Columns of the link table, one row per device.
NUM: Final = 0  # ps per TLP byte, numerator ...
DEN: Final = 1  # ... and denominator; a link's position counts in 1/DEN ps
PROP: Final = 2  # propagation one way, and in flit mode the check of a flit, ps
MPS: Final = 3
MRRS: Final = 4
RCB: Final = 5
CPL_MAX: Final = 6  # most payload that the root complex puts in one completion
TAGS: Final = 7
DATA_LINK: Final = 8  # framing, sequence number and LCRC per TLP
PCRC: Final = 9  # 1: protected TLPs with payload carry PCRC
# Cipher engines: the same numbers at both ends of a link.
PIPE: Final = 10  # from the first byte into the sender's engine to the first byte out, ps
MAC: Final = 11  # from the last byte into an engine to the MAC, ps
CHECK: Final = 12  # from the last byte at the receiver's engine to the TLP's release, ps
PERIOD: Final = 13  # clock period, ps
INITIATION: Final = 14  # cycles between two TLPs at least
WIDTH: Final = 15  # bytes per cycle
SWITCH: Final = 16  # bubble when the key context changes, ps
KEY_MISS: Final = 17  # loading a context that the key cache has lost, ps
KEY_ENTRIES: Final = 18
QUANTUM_BYTES: Final = 19  # most of one write that enters the port before others get their turn
DEN_SHIFT: Final = 20  # DEN as a power of two (every link before Gen6), or -1
# What keeps a link going (DLLPs, ordered sets), and the buffers at its ends.
ACK_EVERY: Final = 21  # TLPs received per Ack; 0: none on the wire
UPDATE_EVERY: Final = 22  # TLPs drained per UpdateFC; 0: none on the wire
SKIP_EVERY: Final = 23  # bytes between two skip ordered sets; 0: none
SKIP_BYTES: Final = 24  # of one, on all lanes
CREDIT_PS: Final = 25  # from a buffer that falls free to its credit at the sender
CREDITS: Final = 26  # (headers, data) for posted and other TLPs, by 2 * (2 * direction + class); -1: infinite
REPLAY_UNITS: Final = 40  # of the replay buffer, 16 B each; -1: infinite
ERROR_EVERY: Final = 41  # bytes on the wire between two errors, in the mean; 0: none
NAK_PS: Final = 42  # from a TLP's arrival with an error to the first byte of its replay at the sender
DRAIN_TLP: Final = 34  # a posted write leaves the root port's buffer in this much, ps ...
DRAIN_LINE: Final = 35  # ... and this per 64 B begun
WRITE_LATENCY: Final = 36  # from there to visible in memory, ps
ORDERED: Final = 37  # 1: a read waits until the posted writes before it are visible
RMP_CHECK: Final = 38  # added to the way of a protected write, ps
HOLD_PS: Final = 39  # of CHECK: what is waiting for the MAC
RELAXED: Final = 43  # 1: unprotected data of the device carry the RO attribute, which is of use to writes
# What lies between this link and the root complex, if anything.
PATH: Final = 44  # 1: bursts pass a switch or the host's one engine
UPLINK: Final = 45  # row of the uplink that a device is behind, or 0
SWITCH_PS: Final = 46  # of an uplink: from the moment that a burst may go on to its entry into the next port
STORES: Final = 47  # of an uplink, 1: a burst may go on when its last byte is there; 0: it is cut through
LINK_STREAM: Final = 48  # 1: switches open and seal what passes them
SHARED: Final = 49  # 1: the host has one engine for all ports and both directions ...
FABRIC: Final = 50  # ... this far from each, ps one way
# Most TLPs that share a MAC, by sub-stream (posted, non-posted, completion); 1: none does.
UNIT_TLPS: Final = 51
SKID: Final = 54  # 1: a receiver releases a TLP before its MAC is checked
# In flit mode what a flit takes on the wire, in 1/DEN ps, a whole number of ps; 0: there are none.
FLIT: Final = 55
WIDTH_SHIFT: Final = 56  # log2 of the width, or -1 where that is none
IDO: Final = 57  # 1: unprotected requests of the device carry the IDO attribute
# Traffic with peers, other devices.
REDIRECTS: Final = 58  # of an uplink, 1: it goes up to the root complex, for ACS redirects it
TURN_PS: Final = 59  # of a link to a root port: from there to another root port's queue
PEER_READ: Final = 60  # of a device: from a peer's read request to its data, ps ...
PEER_EVERY: Final = 61  # ... and between two requests that it begins with
LINK_COLUMNS: Final = 62

# A burst keeps other traffic of its direction waiting for no longer than this.
_QUANTUM_PS: Final = 80_000

# Key contexts of one stream at one engine: its sub-streams (posted, non-posted, completion).
CONTEXTS: Final = 3


@dataclass(frozen=True)
class Credits:
    """A receiver's buffers, as its sender may fill them: headers in TLPs, data in units of 16 B; 0: infinite.

    PCIe Base r6.x, section 2.6.1. Headers and data of a class are both infinite or both not; data of
    non-posted requests are not counted, for reads have none.
    """

    posted_headers: int = 0
    posted_data: int = 0
    non_posted_headers: int = 0
    completion_headers: int = 0
    completion_data: int = 0


@dataclass(frozen=True)
class DataLink:
    """What a link carries beside TLPs: DLLPs of 8 B the other way, ordered sets on all lanes.

    ack_every : TLPs received per Ack; update_every : TLPs drained per UpdateFC; 0: none on the wire.
    credit_ps : from a buffer that falls free to its credit at the sender.
    skip_every : bytes between two skip ordered sets, 0: none; skip_bytes : bytes of wire that one takes.
    replay_bytes : of the sender's replay buffer, which keeps TLPs until they are acknowledged; 0: infinite.
    bit_error_rate : errors per bit on the wire (PCIe Base r6.x, section 4.3, allows 1e-12 up to Gen5).
    nak_ps : from the arrival of a TLP with an error to the first byte of its replay at the sender.
    """

    ack_every: int = 0
    update_every: int = 0
    credit_ps: int = 0
    skip_every: int = 0
    skip_bytes: int = 0
    replay_bytes: int = 0
    bit_error_rate: float = 0.0
    nak_ps: int = 0

    @property
    def error_every(self) -> int:
        """Mean bytes between two errors, 0 for none. Raises MisuseError for a rate that nothing passes."""
        rate = self.bit_error_rate
        if rate and not MIN_BIT_ERROR_RATE <= rate <= MAX_BIT_ERROR_RATE:
            allowed = f"0, or {MIN_BIT_ERROR_RATE:g} to {MAX_BIT_ERROR_RATE:g}"
            raise MisuseError(f"bit error rate {rate:g}; expected {allowed}")
        return round(1 / (8 * rate)) if rate else 0


@dataclass(frozen=True)
class RootPort:
    """What becomes of a posted write at the root port, ps.

    drain_tlp_ps : it leaves the port's buffer in this much per TLP; drain_line_ps : and this per 64 B begun.
    write_latency_ps : from there to visible in memory. ordered : a read that comes by the same root port
    waits for that (PCIe Base r6.x, section 2.4.1), unless IDO lets it pass. rmp_check_ps : added to the way
    of a protected one.
    """

    drain_tlp_ps: int = 0
    drain_line_ps: int = 0
    write_latency_ps: int = 0
    ordered: bool = True
    rmp_check_ps: int = 0


@dataclass(frozen=True)
class Iommu:
    """Address translation before all devices: one set-associative IOTLB and what walks the page tables.

    entries : a power of two, 0 for no translation; ways : of a set, the least recently used one is lost.
    page_shift : 12 for pages of 4 KiB, 21 for 2 MiB. walkers : misses that are walked side by side.
    walk : quantiles (probability, ps) of one walk.
    """

    entries: int = 0
    ways: int = 4
    page_shift: int = 12
    walkers: int = 1
    walk: tuple[tuple[float, int], ...] = ((0.0, 0), (1.0, 0))

    def __post_init__(self) -> None:
        """Raise MisuseError for what cannot be."""
        sets = self.entries // self.ways if self.ways > 0 else 0
        if self.entries and (self.ways < 1 or sets * self.ways != self.entries or sets & (sets - 1)):
            raise MisuseError(f"{self.entries} IOTLB entries of {self.ways} ways; expected 2**n sets")
        if not 12 <= self.page_shift <= 30 or not 1 <= self.walkers <= MAX_WALKERS:
            raise MisuseError(
                f"pages of 2**{self.page_shift} B, {self.walkers} walkers; expected 12..30, 1..64"
            )


@dataclass(frozen=True)
class Memory:
    """What lies behind the cache that the root complex reads from.

    miss_share : of reads, those that find nothing in the cache. cold_ps : what such a one takes more.
    refresh_ps, refresh_interval_ps : memory answers nobody for so long, at a random time of each interval; a
        read that comes then waits for the end, as all others do. 0: no refreshes. Less than 2**31 ps.
    """

    miss_share: float = 0.0
    cold_ps: int = 0
    refresh_ps: int = 0
    refresh_interval_ps: int = 0

    def __post_init__(self) -> None:
        """Raise MisuseError for what cannot be."""
        if not 0 <= self.miss_share <= 1 or self.cold_ps < 0:
            raise MisuseError(f"{self.miss_share} of reads miss, for {self.cold_ps} ps; expected 0..1, >= 0")
        if not (self.refresh_ps == 0 or 0 < self.refresh_ps < self.refresh_interval_ps < 2**31):
            raise MisuseError(
                f"refresh of {self.refresh_ps} in {self.refresh_interval_ps} ps; expected less, and < 2**31"
            )


@dataclass(frozen=True)
class Switch:
    """What joins the links of some devices to one uplink.

    latency_ps : from the moment that a burst may go on to its entry into the queue of the next port.
    cut_through : it may go on when it can leave without a gap on the next wire; else when all of it is there.
    redirects : what goes from one of the devices to another one goes up to the root complex, too (PCIe Base
    r6.x, section 6.12: ACS P2P Request Redirect and Completion Redirect); else it turns in the switch.
    """

    latency_ps: int = 0
    cut_through: bool = True
    redirects: bool = True


# What a set of TLPs waits for, in the order of `Credits`.
POSTED: Final = 0
OTHER: Final = 1
# Most entries of a credit ring: PCIe Base r6.x, section 2.6.1, allows 128 headers without scaling, 2048
# with the largest scale.
MAX_HEADERS: Final = 2048
MAX_WALKERS: Final = 64
MAX_REPLAY_BYTES: Final = 1 << 18
# An error in every 12 KiB: no burst of 4 KiB passes a much worse wire. The least is what fits a draw.
MAX_BIT_ERROR_RATE: Final = 1e-5
MIN_BIT_ERROR_RATE: Final = 1e-13
# PCIe Base r6.x, section 2.6.1: a data credit.
CREDIT_BYTES: Final = 16


@dataclass(frozen=True)
class EngineTiming:
    """A cipher engine in ps: what TLPs wait for it. A link without one has `NO_ENGINE`.

    hold_ps : of check_ps, what is waiting for the MAC; for the ledger alone.
    link_stream : switches open and seal what passes them; else it passes them sealed (a selective stream).
    shared : the host has one engine for all its ports and both directions, fabric_ps away from each; devices
    and switches have theirs at their ports.
    unit_tlps : most TLPs that share a MAC, by sub-stream (posted, non-posted, completion).
    skid : a receiver does not wait for a MAC, so not for that of a unit either.
    """

    pipe_ps: int
    mac_ps: int
    check_ps: int
    period_ps: int
    initiation_cycles: int
    bytes_per_clock: int
    switch_ps: int
    key_miss_ps: int
    key_entries: int
    pcrc: bool = False
    hold_ps: int = 0
    link_stream: bool = False
    shared: bool = False
    fabric_ps: int = 0
    unit_tlps: tuple[int, int, int] = (1, 1, 1)
    skid: bool = False

    def __post_init__(self) -> None:
        """Raise MisuseError for units that the standard does not have."""
        if not set(self.unit_tlps) <= set(spec.IDE_AGGREGATIONS):
            raise MisuseError(f"units of {self.unit_tlps} TLPs; expected each one of {spec.IDE_AGGREGATIONS}")


NO_ENGINE: Final = EngineTiming(0, 0, 0, 0, 0, 1, 0, 0, CONTEXTS)
# Neither limit nor cost: what a bare recurrence of engines and wire has.
INFINITE: Final = Credits()
BARE: Final = DataLink()
SINK: Final = RootPort()
NO_IOMMU: Final = Iommu()
CACHED: Final = Memory()


def engine_timing(
    *,
    clock_mhz: int,
    bytes_per_clock: int,
    initiation_cycles: int,
    keystream_ahead: int,
    rounds: int,
    xor_cycles: int,
    mac_cycles: int,
    switch_cycles: int,
    key_miss_cycles: int,
    key_entries: int,
    hold: bool,
    pcrc: bool,
    fabric_hop_ns: int = 0,
    shared: bool = False,
    link_stream: bool = False,
    contexts: int = CONTEXTS,
    unit_tlps: tuple[int, int, int] = (1, 1, 1),
) -> EngineTiming:
    """Turn an engine's structure into times. contexts : most that one engine has to do with.

    The counter is the IV, so a keystream made ahead leaves data only the XOR stage; else the AES rounds are
    exposed. A receiver that holds releases a TLP when its MAC is checked; one that skids does not wait.
    """
    period = round(1_000_000 / clock_mhz)
    pipe = xor_cycles + (0 if keystream_ahead else rounds)
    return EngineTiming(
        pipe_ps=pipe * period,
        mac_ps=mac_cycles * period,
        check_ps=(pipe + (mac_cycles if hold else 0)) * period,
        period_ps=period,
        initiation_cycles=initiation_cycles,
        bytes_per_clock=bytes_per_clock,
        switch_ps=switch_cycles * period,
        # Where every key fits, none is ever loaded.
        key_miss_ps=key_miss_cycles * period if key_entries < contexts else 0,
        key_entries=min(key_entries, contexts),
        pcrc=pcrc,
        hold_ps=mac_cycles * period if hold else 0,
        link_stream=link_stream,
        shared=shared,
        fabric_ps=fabric_hop_ns * 1000 if shared else 0,
        unit_tlps=unit_tlps,
        skid=not hold,
    )


def _shift(divisor: int) -> int:
    """Return log2 of a power of two, of others -1."""
    return divisor.bit_length() - 1 if divisor > 0 and divisor & (divisor - 1) == 0 else -1


def link_row(
    *,
    generation: int,
    lanes: int,
    mps: int,
    mrrs: int,
    rcb: int,
    completion_bytes: int,
    propagation_ps: int,
    tags: int,
    engine: EngineTiming = NO_ENGINE,
    up: Credits = INFINITE,
    down: Credits = INFINITE,
    data_link: DataLink = BARE,
    root_port: RootPort = SINK,
    relaxed: bool = False,
    ido: bool = False,
    flit_check_ps: int = 0,
) -> np.ndarray:
    """Return int64[LINK_COLUMNS], one device's row.

    up : buffers of the root port; down : of the device. In flit mode DLLPs have bytes of their own in each
    flit, so `data_link` puts none on the wire.
    relaxed : the device's data carry the RO attribute; ido : all its requests carry the IDO attribute.
    Neither has an effect on protected streams (PCIe Base r6.x, section 6.33).
    flit_check_ps : error correction and CRC of a flit at its receiver, in flit mode alone.

    Raises MisuseError for buffers that no TLP of the link fits, and for the check of flits that a link has
    not.
    """
    byte_time = spec.byte_time_ps(generation, lanes)
    flit = generation >= spec.FIRST_FLIT_GENERATION
    if flit_check_ps < 0 or (flit_check_ps and not flit):
        first = spec.FIRST_FLIT_GENERATION
        raise MisuseError(
            f"a flit check of {flit_check_ps} ps at Gen{generation}; expected 0, or more from Gen{first} on"
        )
    row = np.zeros(LINK_COLUMNS, np.int64)
    row[NUM] = byte_time.numerator
    row[DEN] = byte_time.denominator
    row[DEN_SHIFT] = _shift(byte_time.denominator)
    row[PROP] = propagation_ps + flit_check_ps
    row[FLIT] = spec.FLIT_TLP_BYTES * byte_time.numerator if flit else 0
    row[MPS] = mps
    row[MRRS] = mrrs
    row[RCB] = rcb
    row[CPL_MAX] = completion_bytes
    row[TAGS] = tags
    row[DATA_LINK] = spec.DATA_LINK_FLIT_BYTES if flit else spec.DATA_LINK_BYTES
    row[PCRC] = engine.pcrc
    row[PIPE] = engine.pipe_ps
    row[MAC] = engine.mac_ps
    row[CHECK] = engine.check_ps
    row[PERIOD] = engine.period_ps
    row[INITIATION] = engine.initiation_cycles
    row[WIDTH] = engine.bytes_per_clock
    row[WIDTH_SHIFT] = _shift(engine.bytes_per_clock)
    row[SWITCH] = engine.switch_ps
    row[KEY_MISS] = engine.key_miss_ps
    row[KEY_ENTRIES] = engine.key_entries
    row[ACK_EVERY] = 0 if flit else data_link.ack_every
    row[UPDATE_EVERY] = 0 if flit else data_link.update_every
    row[SKIP_EVERY] = 0 if flit else data_link.skip_every
    row[SKIP_BYTES] = 0 if flit else data_link.skip_bytes
    row[CREDIT_PS] = data_link.credit_ps
    row[ERROR_EVERY] = data_link.error_every
    row[NAK_PS] = data_link.nak_ps
    row[REPLAY_UNITS] = data_link.replay_bytes // CREDIT_BYTES if data_link.replay_bytes else -1
    for direction, credits in enumerate((up, down)):
        # The least that one burst takes: a write of MPS, a request, the completions of a request that may
        # start anywhere.
        for kind, headers, data, least_headers, least in (
            (POSTED, credits.posted_headers, credits.posted_data, 1, mps // CREDIT_BYTES),
            (OTHER, credits.non_posted_headers, 0, 1, 0)
            if direction == 0
            else (
                OTHER,
                credits.completion_headers,
                credits.completion_data,
                -(-mrrs // completion_bytes) + 1,
                mrrs // CREDIT_BYTES + 1,
            ),
        ):
            at = CREDITS + 2 * (2 * direction + kind)
            if (headers or data) and not (least_headers <= headers <= MAX_HEADERS and data >= least):
                raise MisuseError(
                    f"credits for {headers} headers and {data} units of data; expected {least_headers}.."
                    f"{MAX_HEADERS} headers and {least} units or more, or neither"
                )
            row[at] = headers or -1
            row[at + 1] = data if headers else -1
    row[DRAIN_TLP] = root_port.drain_tlp_ps
    row[DRAIN_LINE] = root_port.drain_line_ps
    row[WRITE_LATENCY] = root_port.write_latency_ps
    row[ORDERED] = root_port.ordered
    row[RMP_CHECK] = root_port.rmp_check_ps
    row[RELAXED] = relaxed
    row[IDO] = ido
    row[HOLD_PS] = engine.hold_ps
    row[LINK_STREAM] = engine.link_stream
    row[SHARED] = row[PATH] = engine.shared
    row[FABRIC] = engine.fabric_ps
    row[UNIT_TLPS : UNIT_TLPS + CONTEXTS] = engine.unit_tlps
    row[SKID] = engine.skid
    most = int(_QUANTUM_PS / byte_time)
    for credits in (up, down):
        # A quantum enters with all its credits.
        if credits.posted_headers:
            most = min(most, credits.posted_headers * mps, credits.posted_data * CREDIT_BYTES)
    row[QUANTUM_BYTES] = min(max(1 << (max(most, 1).bit_length() - 1), mps), spec.REQUEST_BOUNDARY)
    # The largest burst, with all that headers and encryption may add to it.
    least = 2 * max(mrrs, int(row[QUANTUM_BYTES])) + 256
    if data_link.replay_bytes and not least <= data_link.replay_bytes <= MAX_REPLAY_BYTES:
        raise MisuseError(
            f"a replay buffer of {data_link.replay_bytes} B; expected {least}..{MAX_REPLAY_BYTES}, or 0"
        )
    return row


# What the links of a way must agree on: TLPs pass a switch as they are, and a root complex too.
_SAME: Final = {"mps": MPS, "rcb": RCB, "completion_bytes": CPL_MAX, "data link bytes": DATA_LINK}


def behind_switches(
    links: np.ndarray, uplinks: Sequence[tuple[np.ndarray, Switch]], below: Sequence[int | None]
) -> np.ndarray:
    """Return the links of devices and of the switches that they are behind, int64[D + S, LINK_COLUMNS].

    links : int64[D, LINK_COLUMNS]. uplinks : of S switches, each with its link to a root port, made by
    `link_row` with the same engine. below : of each device the number of its switch, or None.

    A switch takes in whatever comes, so credits count on the last link of a way: `up` of the uplink, `down`
    of the device.

    Raises MisuseError for links that differ in the size of TLPs.
    """
    table = np.concatenate([links, *[row[None] for row, _ in uplinks]])
    for u, (_, switch) in enumerate(uplinks):
        row = table[len(links) + u]
        row[PATH] = 1
        row[SWITCH_PS] = switch.latency_ps
        row[STORES] = not switch.cut_through
        row[REDIRECTS] = switch.redirects
        row[CREDITS + 4 : CREDITS + 8] = -1
    for d, above in enumerate(below):
        if above is None:
            continue
        row, uplink = table[d], table[len(links) + above]
        for name, column in _SAME.items():
            if row[column] != uplink[column]:
                found = f"{name} {row[column]} behind an uplink with {uplink[column]}"
                raise MisuseError(f"device {d}: {found}; expected the same")
        row[PATH] = 1
        row[UPLINK] = len(links) + above
        row[QUANTUM_BYTES] = min(row[QUANTUM_BYTES], uplink[QUANTUM_BYTES])
        row[CREDITS : CREDITS + 4] = -1
    return table


@dataclass(frozen=True)
class Peer:
    """What a device is to others that read and write its memory.

    read_ps : from a request at the device to its data. every_ps : least time between two requests that it
    begins with. It takes what is written at once.
    """

    read_ps: int = 0
    every_ps: int = 0


def with_peers(
    links: np.ndarray, pairs: Collection[tuple[int, int]], peers: Sequence[Peer], turn_ps: int
) -> np.ndarray:
    """Return the links of devices that read and write each other's memory: all of them are parts of ways.

    links : int64[R, LINK_COLUMNS], of the devices, then of the switches (`behind_switches`). pairs : who
    reads or writes whose. peers : of each device. turn_ps : from one root port to another.

    The root complex and switches take in whatever comes: credits of writes count on the links of the one who
    writes and of the one who is written to, and come back from a root port when they are at the other one.

    Raises MisuseError for links that differ in the size of TLPs.
    """
    table = links.copy()
    table[:, PATH] = 1
    table[:, TURN_PS] = turn_ps
    for d, peer in enumerate(peers):
        table[d, PEER_READ] = peer.read_ps
        table[d, PEER_EVERY] = peer.every_ps
    for d, peer_of in pairs:
        ends = [d, peer_of]
        rows = ends + [int(row) for row in links[ends, UPLINK] if row > 0]
        for name, column in _SAME.items():
            if len(set(links[rows, column].tolist())) > 1:
                found = f"{name} {links[d, column]}, device {peer_of} on the way {links[rows, column].max()}"
                raise MisuseError(f"device {d}: {found}; expected the same")
        table[d, QUANTUM_BYTES] = min(table[d, QUANTUM_BYTES], *links[rows, QUANTUM_BYTES])
    return table
