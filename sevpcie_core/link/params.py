"""Numbers that the simulator's kernels read, made once per run from the resolved scenario.

Rule: rows of int64 with named columns; all times are ps, all sizes bytes.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from .. import spec

# Columns of the link table, one row per device.
NUM: Final = 0  # ps per TLP byte, numerator ...
DEN: Final = 1  # ... and denominator; a link's position counts in 1/DEN ps
PROP: Final = 2  # propagation one way, ps
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
LINK_COLUMNS: Final = 21

# A burst keeps other traffic of its direction waiting for no longer than this.
_QUANTUM_PS: Final = 80_000

# Key contexts of one stream at one engine: its sub-streams (posted, non-posted, completion).
CONTEXTS: Final = 3


@dataclass(frozen=True)
class EngineTiming:
    """A cipher engine in ps: what TLPs wait for it. A link without one has `NO_ENGINE`."""

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


NO_ENGINE: Final = EngineTiming(0, 0, 0, 0, 0, 1, 0, 0, CONTEXTS)


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
) -> EngineTiming:
    """Turn an engine's structure into times.

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
        key_miss_ps=key_miss_cycles * period if key_entries < CONTEXTS else 0,
        key_entries=min(key_entries, CONTEXTS),
        pcrc=pcrc,
    )


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
) -> np.ndarray:
    """Return int64[LINK_COLUMNS], one device's row."""
    byte_time = spec.byte_time_ps(generation, lanes)
    flit = generation >= spec.FIRST_FLIT_GENERATION
    row = np.zeros(LINK_COLUMNS, np.int64)
    row[NUM] = byte_time.numerator
    row[DEN] = byte_time.denominator
    whole = byte_time.denominator
    row[DEN_SHIFT] = whole.bit_length() - 1 if whole & (whole - 1) == 0 else -1
    row[PROP] = propagation_ps
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
    row[SWITCH] = engine.switch_ps
    row[KEY_MISS] = engine.key_miss_ps
    row[KEY_ENTRIES] = engine.key_entries
    most = int(_QUANTUM_PS / byte_time)
    row[QUANTUM_BYTES] = min(max(1 << (max(most, 1).bit_length() - 1), mps), spec.REQUEST_BOUNDARY)
    return row
