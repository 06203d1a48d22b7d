"""Closed forms: what a link carries at most, and how long one transfer takes while nothing else happens.

Rule: no event, no queue, no draw. The simulator must agree where its own answer has such a form, and tests
hold the two together; for everything else these are first looks. docs/model.md has the equations.

The bytes of a transfer come from `tlp.size` and `tlp.split`, as in the simulator.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, NamedTuple

from .. import spec
from ..errors import ConfigError
from ..tlp.size import (
    enables_bytes,
    ide_bytes,
    lower_address_bytes,
    padded_payload_bytes,
    request_header_bytes,
    wire_bytes,
)
from ..tlp.split import completion_bytes, piece, pieces
from .params import NO_ENGINE, EngineTiming

Kind = Literal["write", "read", "both"]
KINDS: Final[tuple[Kind, ...]] = ("write", "read", "both")
_PS_PER_S: Final = 10**12


@dataclass(frozen=True)
class Link:
    """A link between a device and the root complex, as closed forms see it.

    Parameters
    ----------
    generation : 1..7. lanes : 1..16.
    mps, mrrs, rcb : bytes. completion_bytes : most payload of one completion; None: mps.
    protected : TLPs are sealed. pcrc : those with content carry a PCRC.
    aggregation : TLPs of one MAC: 1, 2, 4 or 8; where payloads allow (256 DW).
    maintenance : Ack and UpdateFC as often as the standard's guideline has them, and skip ordered sets, take
        their share of the wire. The simulator does not have them.

    Raises ConfigError for a link that cannot be.
    """

    generation: int = 5
    lanes: int = 4
    mps: int = 256
    mrrs: int = 512
    rcb: int = 64
    completion_bytes: int | None = None
    protected: bool = False
    pcrc: bool = False
    aggregation: int = 1
    maintenance: bool = False

    def __post_init__(self) -> None:
        """Check every field."""
        for name, allowed in (
            ("generation", tuple(spec.GIGATRANSFERS)),
            ("lanes", spec.LANES),
            ("mps", spec.PAYLOAD_SIZES),
            ("mrrs", spec.PAYLOAD_SIZES),
            ("rcb", spec.READ_COMPLETION_BOUNDARIES),
            ("aggregation", spec.IDE_AGGREGATIONS),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise ConfigError(f"{name}: {value!r}; expected one of {', '.join(map(str, allowed))}")
        most = self.completion_limit
        if most % self.rcb or not self.rcb <= most <= self.mps:
            raise ConfigError(f"completion_bytes: {most}; expected a multiple of rcb, at most mps")

    @property
    def completion_limit(self) -> int:
        """Most payload of one completion."""
        return self.mps if self.completion_bytes is None else self.completion_bytes

    @property
    def flit(self) -> bool:
        """Whether the link is in flit mode."""
        return self.generation >= spec.FIRST_FLIT_GENERATION

    @property
    def byte_ps(self) -> Fraction:
        """The time of one TLP byte, ps."""
        return spec.byte_time_ps(self.generation, self.lanes)

    @property
    def bytes_per_s(self) -> float:
        """Bytes of TLPs and their framing that a direction carries in a second."""
        share = maintenance_share(self.generation, self.lanes, self.mps) if self.maintenance else 0.0
        return float(_PS_PER_S / self.byte_ps) * (1 - share)


class Bandwidth(NamedTuple):
    """What transfers of one size, one behind the other, come to.

    gbps : payload, Gb/s (of each direction, for "both"). up_bytes, down_bytes : on the wire per transfer,
    from the device and to it. limited_by : "up" or "down".
    """

    gbps: float
    up_bytes: int
    down_bytes: int
    limited_by: Literal["up", "down"]


# --- Bytes ------------------------------------------------------------------------------------------------


def maintenance_share(generation: int, lanes: int, mps: int) -> float:
    """Return the share of a direction that Ack and UpdateFC DLLPs and skip ordered sets take.

    One Ack and one UpdateFC in the time that the standard's latency guideline allows for each; nothing in
    flit mode, whose DLP bytes are not among those of TLPs.
    """
    if generation >= spec.FIRST_FLIT_GENERATION:
        return 0.0
    limit = spec.ack_limit_symbols(generation, lanes, mps)
    return 2 * spec.DLLP_BYTES / limit + spec.SKIP_SYMBOLS / spec.SKIP_INTERVAL_SYMBOLS


def write_tlps(link: Link, address: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (header bytes, payload bytes in whole DW) of the writes of a transfer."""
    for k in range(pieces(address, size, link.mps)):
        at, count = piece(address, size, link.mps, k)
        yield request_header_bytes(at) + enables_bytes(at, count, link.flit), padded_payload_bytes(at, count)


def request_tlps(link: Link, address: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the same of the read requests of a transfer."""
    for k in range(pieces(address, size, link.mrrs)):
        at, count = piece(address, size, link.mrrs, k)
        yield request_header_bytes(at) + enables_bytes(at, count, link.flit), 0


def completion_tlps(link: Link, address: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the same of the completions of a transfer."""
    for k in range(pieces(address, size, link.mrrs)):
        at, rest = piece(address, size, link.mrrs, k)
        while rest > 0:
            count = completion_bytes(at, rest, link.completion_limit, link.rcb)
            header = spec.HEADER_COMPLETION_BYTES + lower_address_bytes(at, link.flit)
            yield header, padded_payload_bytes(at, count)
            at += count
            rest -= count


def _wire(link: Link, tlps: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return of each TLP its bytes on the wire, and those of them that are a MAC."""
    data_link = spec.DATA_LINK_FLIT_BYTES if link.flit else spec.DATA_LINK_BYTES
    sizes = []
    unit = 0
    payload = 0
    rows = list(tlps)
    for i, (header, padded) in enumerate(rows):
        if not link.protected:
            sizes.append((int(wire_bytes(header, padded, data_link, False, False)), 0))
            continue
        unit += 1
        payload += padded
        following = rows[i + 1][1] if i + 1 < len(rows) else None
        closes = unit == link.aggregation or following is None
        closes = closes or payload + (following or 0) > spec.IDE_UNIT_DW * spec.DW_BYTES
        added = ide_bytes(closes, link.pcrc and payload > 0)
        wire = int(wire_bytes(header, padded, data_link, False, False)) + int(added)
        sizes.append((wire, spec.IDE_MAC_BYTES if closes else 0))
        if closes:
            unit = payload = 0
    return sizes


def _total(link: Link, tlps: Iterator[tuple[int, int]]) -> int:
    """Return the bytes of all TLPs on the wire."""
    return sum(wire for wire, _ in _wire(link, tlps))


# --- Bandwidth --------------------------------------------------------------------------------------------


def bandwidth(link: Link, kind: Kind, size: int, address: int = 1 << 33) -> Bandwidth:
    """Return the most that transfers of one size can come to on a link, whatever the device and the host.

    Parameters
    ----------
    kind : "write" (device to host), "read", or "both": as many writes as reads.
    size : bytes of one transfer. address : of its first byte; the default needs headers of four DW.

    Raises ConfigError for another kind, or a size below 1.
    """
    if kind not in KINDS:
        raise ConfigError(f"kind: {kind!r}; expected one of {', '.join(KINDS)}")
    if size < 1:
        raise ConfigError(f"size: {size}; expected 1 or more")
    up = down = 0
    if kind != "read":
        up += _total(link, write_tlps(link, address, size))
    if kind != "write":
        up += _total(link, request_tlps(link, address, size))
        down += _total(link, completion_tlps(link, address, size))
    most = max(up, down)
    return Bandwidth(8e-9 * size * link.bytes_per_s / most, up, down, "up" if up == most else "down")


# --- Latency of one transfer ------------------------------------------------------------------------------


def write_latency_ps(
    link: Link,
    size: int,
    address: int = 1 << 33,
    *,
    propagation_ps: int = 0,
    flit_check_ps: int = 0,
    engine: EngineTiming = NO_ENGINE,
) -> int:
    """Return the time from the start of a write to its last byte usable at the other end, ps.

    flit_check_ps : error correction and CRC of a flit. In flit mode a flit begins when the write starts.

    Raises ConfigError for a check of flits that the link has not.
    """
    way_ps = _way_ps(link, propagation_ps, flit_check_ps)
    return _burst_ps(link, write_tlps(link, address, size), 0, way_ps, engine)


def read_latency_ps(
    link: Link,
    size: int,
    address: int = 1 << 33,
    *,
    host_ps: int = 0,
    propagation_ps: int = 0,
    flit_check_ps: int = 0,
    engine: EngineTiming = NO_ENGINE,
) -> int:
    """Return the time from the start of a read of one request to its last byte at the device, ps.

    host_ps : of the root complex and memory. flit_check_ps : error correction and CRC of a flit. In flit mode
    a flit of each direction begins when the read starts.

    Raises ConfigError for a read of several requests: those share the link, which is for the simulator; and
    for a check of flits that the link has not.
    """
    way_ps = _way_ps(link, propagation_ps, flit_check_ps)
    if pieces(address, size, link.mrrs) != 1:
        raise ConfigError(f"{size} B at {address:#x} take several requests of {link.mrrs} B at most")
    there = _burst_ps(link, request_tlps(link, address, size), 0, way_ps, engine)
    return _burst_ps(link, completion_tlps(link, address, size), there + host_ps, way_ps, engine)


def _way_ps(link: Link, propagation_ps: int, flit_check_ps: int) -> int:
    """Return the time from the end of a byte, in flit mode of its flit, until its receiver can use it, ps."""
    if flit_check_ps < 0 or (flit_check_ps and not link.flit):
        allowed = f"0, or more from generation {spec.FIRST_FLIT_GENERATION} on"
        found = f"{flit_check_ps} at generation {link.generation}"
        raise ConfigError(f"flit_check_ps: {found}; expected {allowed}")
    return propagation_ps + flit_check_ps


def _sent_ps(link: Link, end: Fraction) -> int:
    """Return when a byte that ends then has left, in flit mode with all of its flit, rounded up, ps."""
    unit = spec.FLIT_TLP_BYTES * link.byte_ps if link.flit else Fraction(1)
    return int(-(-end // unit) * unit)


def _burst_ps(
    link: Link, tlps: Iterator[tuple[int, int]], ready: int, way_ps: int, engine: EngineTiming
) -> int:
    """Return when the last TLP of a burst that is ready at once can be used, on a link that is idle."""
    wires = _wire(link, tlps)
    if not link.protected:
        return _sent_ps(link, ready + sum(wire for wire, _ in wires) * link.byte_ps) + way_ps
    data_link = spec.DATA_LINK_FLIT_BYTES if link.flit else spec.DATA_LINK_BYTES
    position = Fraction(ready)
    free = ready
    taken = Fraction(0)
    for wire, mac in wires:
        on_wire = wire * link.byte_ps
        cycles = max(engine.initiation_cycles, -(-(wire - data_link - mac) // engine.bytes_per_clock))
        start = free
        free = start + cycles * engine.period_ps
        # The wire must not run dry between the first byte and the MAC, or the last byte of a TLP without one.
        made = free + engine.pipe_ps + (engine.mac_ps if mac else 0)
        position = max(position, Fraction(start + engine.pipe_ps), made - on_wire) + on_wire
        # The receiver's engine starts with the first byte at the earliest, and ends with the last.
        arrived = Fraction(_sent_ps(link, position) + way_ps)
        first = arrived - on_wire // 1
        if link.flit:
            first = Fraction(_sent_ps(link, position - on_wire + link.byte_ps) + way_ps)
        taken = max(arrived, max(taken, first) + cycles * engine.period_ps)
    return -int(-taken // 1) + engine.check_ps


# --- Compatibility ----------------------------------------------------------------------------------------


def pcie_model_rate(generation: int, lanes: int, mps: int) -> float:
    """Return the bytes of TLPs per second of a direction in the analytic model of pcie-bench."""
    share = 2 * spec.DLLP_BYTES / spec.ack_limit_symbols(generation, lanes, mps)
    share += spec.SKIP_SYMBOLS / spec.SKIP_INTERVAL_SYMBOLS
    return float(_PS_PER_S / spec.byte_time_ps(generation, lanes)) * (1 - share)


class ModelBytes(NamedTuple):
    """Bytes on the wire of transfers, as the analytic model of pcie-bench counts them.

    writes : of a posted write. requests, completions : of a read.
    """

    writes: int
    requests: int
    completions: int


def pcie_model_bytes(
    size: int,
    *,
    mps: int = 256,
    mrrs: int = 512,
    rcb: int = 64,
    rcb_chunks: bool = False,
    address_bits: int = 64,
    ecrc: bool = False,
) -> ModelBytes:
    """Return what a transfer of `size` bytes puts on the wire in the analytic model of pcie-bench."""
    digest = spec.DW_BYTES if ecrc else 0
    wide = address_bits == 64
    request = spec.DATA_LINK_BYTES + (spec.HEADER_4DW_BYTES if wide else spec.HEADER_3DW_BYTES) + digest
    answer = spec.DATA_LINK_BYTES + spec.HEADER_COMPLETION_BYTES + digest
    limit = rcb if rcb_chunks else mps
    whole, rest = divmod(size, mrrs)
    return ModelBytes(
        writes=size + request * -(-size // mps),
        requests=request * -(-size // mrrs),
        completions=size + answer * (whole * -(-mrrs // limit) + -(-rest // limit)),
    )


def pcie_model(
    generation: int,
    lanes: int,
    size: int,
    *,
    mps: int = 256,
    mrrs: int = 512,
    rcb: int = 64,
    rcb_chunks: bool = False,
    address_bits: int = 64,
    ecrc: bool = False,
) -> dict[Kind, float]:
    """Return what the analytic model of pcie-bench says of a transfer, Gb/s of payload by kind.

    Source: the published model of Neugebauer et al., "Understanding PCIe performance for end host
    networking", SIGCOMM 2018. It counts bytes, not DW, cuts without regard to addresses, and takes Ack,
    UpdateFC and skips from both directions alike, in flit mode too.
    """
    found = pcie_model_bytes(
        size, mps=mps, mrrs=mrrs, rcb=rcb, rcb_chunks=rcb_chunks, address_bits=address_bits, ecrc=ecrc
    )
    payload = 8e-9 * size * pcie_model_rate(generation, lanes, mps)
    return {
        "write": payload / found.writes,
        "read": payload / max(found.requests, found.completions),
        "both": payload / max(found.writes + found.requests, found.completions),
    }
