"""Sealing: a batch of TLPs becomes the bytes that go on the wire.

Rule: plan, then encrypt, then hand out. Counters move in the plan; if anything after it raises, they stay
where they are and nothing leaves.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import spec
from ..crypto.batch import seal_batch
from ..crypto.packet import PACKET
from ..errors import MisuseError
from ..tlp.batch import Batch
from ..tlp.codec import pack
from . import tx_units
from .choose import classify
from .header_encryption import PCRC_HEADER_BYTES
from .layout import (
    ASK_ALONE,
    ASK_IF_ELIGIBLE,
    ASK_PROTECT,
    ASK_TEE,
    MESSAGE_BYTES,
    PIECE,
    SEALED,
    SealCode,
    Slot,
)
from .plan_seal import plan
from .states import Event, Reason, State
from .stream import Stream

U8 = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_] | bool | None

# What a TLP can gain on the wire, and what an IDE Sync takes.
_ADDED = spec.IDE_PREFIX_BYTES + spec.IDE_PCRC_BYTES + spec.IDE_MAC_BYTES
_SYNC = MESSAGE_BYTES + _ADDED


@dataclass
class SealPlan:
    """A call's wire image, still plain, and the invocations that seal it."""

    work: U8
    packets: npt.NDArray[np.void]
    pieces: npt.NDArray[np.void]
    offsets: npt.NDArray[np.int64]
    status: npt.NDArray[np.void]


def seal_stream(
    batch: Batch,
    stream: Stream,
    *,
    protect: Bools = None,
    alone: Bools = None,
    tee: Bools = None,
    sync: bool = False,
) -> tuple[U8, npt.NDArray[np.int64], npt.NDArray[np.void]]:
    """Seal a batch for a stream.

    Parameters
    ----------
    batch : TLPs without IDE prefix, in order.
    stream : the sender's end.
    protect : bool[n] or one for all: which TLPs the stream carries. None: all that may ride on it.
    alone : bool[n] or one for all: never aggregated (doorbells, interrupts).
    tee : bool[n] or one for all: the T bit.
    sync : end with an IDE Sync, as a heartbeat.

    Returns
    -------
    wire : u1[:]. offsets : i8[m + 1]: wire TLP i is wire[offsets[i] : offsets[i + 1]].
    status : SEALED[n], one row per TLP of the batch.

    Raises
    ------
    MisuseError : arrays of another length than the batch.
    FormatError : a TLP of the batch is ill-formed. No counter has moved.
    """
    data, offsets = pack(batch)
    with stream._taken():
        planned = plan_batch(batch, data, offsets, stream, protect, alone, tee, sync)
        seal_plan(planned, stream)
    return planned.work[: planned.offsets[-1]], planned.offsets, planned.status


def plan_batch(
    batch: Batch,
    data: U8,
    offsets: npt.NDArray[np.int64],
    stream: Stream,
    protect: Bools,
    alone: Bools,
    tee: Bools,
    sync: bool,
) -> SealPlan:
    """Take counters for a batch and lay out its wire image. The caller has the stream."""
    n = len(batch.tlps)
    if batch.flit != stream.config.flit:
        raise MisuseError("the batch and the stream are not both in flit mode, or both not")
    asks = _asks(n, protect, alone, tee)
    settings = stream._settings
    secure = stream.state is State.SECURE
    status = np.zeros(n, SEALED)
    status["wire_index"] = -1
    status["unit"] = -1
    following = np.empty(n, np.int64)
    tlps = np.require(batch.tlps, requirements=["C", "W"])
    classify(tlps, data, offsets, asks, settings, secure, status, following)
    sealed = status["code"] == SealCode.SEALED
    uses_keys = bool(sealed.any()) or (sync and secure)
    if uses_keys and not stream._halves["tx"].all_in(int(stream._tx[0]["k"]), Slot.STARTED):
        # The key set in use was stopped.
        stream._apply(Event.CHECK_FAILED, Reason.KEY_STOPPED)
        status["code"][sealed] = SealCode.DROPPED_INSECURE
        secure = False

    # Upper bounds: every TLP closes a unit and may be followed by a Sync's share; a Sync at each start and
    # end.
    syncs = n // spec.IDE_SYNC_AT + 3
    image = len(data) + n * _ADDED + syncs * _SYNC
    gathers = int(settings[0]["phe"]) != 0 or int(settings[0]["unit_tlps"]) != _UNITS_OF_ONE
    gathered = len(data) + n * _ADDED + syncs * _SYNC if gathers else 0
    work = np.empty(image + PCRC_HEADER_BYTES + gathered, np.uint8)
    packets = np.zeros(n + syncs, PACKET)
    pieces = np.zeros(n + syncs if gathers else 0, PIECE)
    wire_offsets = np.empty(n + syncs + 1, np.int64)
    counts = np.zeros(tx_units.COUNTS, np.int64)
    counts[tx_units.GATHERED] = image
    stream._units["tlps"] = 0
    plan(
        tlps,
        data,
        offsets,
        asks,
        following,
        settings,
        stream._halves["tx"].slots,
        stream._tx,
        stream._units,
        stream._members,
        work,
        packets,
        pieces,
        status,
        wire_offsets,
        sync and secure,
        counts,
    )
    wire_tlps, units = counts[tx_units.WIRE_TLPS], counts[tx_units.UNITS]
    return SealPlan(
        work, packets[:units], pieces[: counts[tx_units.PIECES]], wire_offsets[: wire_tlps + 1], status
    )


def seal_plan(planned: SealPlan, stream: Stream) -> None:
    """Encrypt a planned wire image in place. The caller has the stream."""
    if len(planned.packets) == 0:
        return
    table = stream._halves["tx"].table
    work = planned.work
    seal_batch(table, planned.packets, work, work, work, stream.profile.mac_bytes)
    if len(planned.pieces):
        tx_units.scatter(stream._settings, planned.pieces, work)


_UNITS_OF_ONE = 0x01_01_01


def _asks(n: int, protect: Bools, alone: Bools, tee: Bools) -> U8:
    """Return ASK bits for n TLPs."""
    asks = np.full(n, ASK_PROTECT | ASK_IF_ELIGIBLE if protect is None else 0, np.uint8)
    for name, given, bit in (
        ("protect", protect, ASK_PROTECT),
        ("alone", alone, ASK_ALONE),
        ("tee", tee, ASK_TEE),
    ):
        if given is None:
            continue
        flags = np.asarray(given)
        if flags.dtype != np.bool_ or flags.shape not in ((), (n,)):
            raise MisuseError(f"{name} is not one bool, nor bool[{n}]")
        asks |= flags.astype(np.uint8) * np.uint8(bit)
    return asks
