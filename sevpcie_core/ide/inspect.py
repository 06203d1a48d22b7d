"""One unit, taken apart for a person: every input and output of its AES-GCM invocation by name.

Rule: nothing is computed here. A stream of its own, whose state is forced to what the caller says, goes
through the kernels that every stream uses, and the parts are read from their plan. The caller chooses the
counter, so the caller answers for it; no `Stream` that anybody else holds can be reached from here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from .. import spec
from ..errors import IntegrityError, MisuseError
from ..tlp.codec import pack, parse
from .config import Kind, StreamConfig
from .eligible import may_ride, sub_stream_of
from .framing import clear_trailer_flags, find, traffic_class
from .keysets import expand
from .layout import OpenCode, SealCode, Slot
from .open import open_stream
from .prefix import pr_sent_of
from .profile import LAST_COUNTER, IvFixed, Profile, profile_named
from .seal import plan_batch, seal_plan
from .states import Reason, State
from .stream import Direction, Stream

U8 = npt.NDArray[np.uint8]

_POSTED: Final = spec.SUB_STREAM_POSTED
_SUBS: Final = spec.IDE_SUB_STREAMS
_PREFIX_BYTES: Final = spec.IDE_PREFIX_BYTES
_PCRC_BYTES: Final = spec.IDE_PCRC_BYTES
# Posted TLPs that the forced receiver has seen: no carried value is too high.
_MANY: Final = 1 << 32

# What each rule says, for people. docs/stream.md has the list with sources.
RULES: Final = {
    Reason.LENGTH: "its length is not what its header and prefix say",
    Reason.STREAM_ID: "it carries another Stream ID",
    Reason.PREFIX: "the IDE prefix is not the first End-End prefix, or there are two",
    Reason.SUB_STREAM: "the sub-stream is a reserved one",
    Reason.SUB_STREAM_TYPE: "a TLP of this kind belongs to another sub-stream",
    Reason.TYPE: "a TLP of this kind may not ride on this stream",
    Reason.TRAFFIC_CLASS: "it has another traffic class",
    Reason.ECRC: "it has TD = 1",
    Reason.K_TOGGLE: "K changes within a unit",
    Reason.KEY_NOT_STARTED: "there is no key for its sub-stream and K",
    Reason.KEY_RETIRED: "its key set was replaced",
    Reason.KEY_STOPPED: "its key set was stopped",
    Reason.COUNTER: "the counter is above the hard limit",
    Reason.AGGREGATION: "M = 0 where aggregation is not supported",
    Reason.AGGREGATION_COUNT: "too many TLPs with M = 0 in a row",
    Reason.AGGREGATION_SIZE: "a unit of several TLPs has more than 256 DW of payload",
    Reason.PCRC_WITHOUT_MAC: "P = 1 with M = 0",
    Reason.PCRC_UNEXPECTED: "P = 1 where there is no content, or PCRC is not enabled",
    Reason.SYNC: "an IDE Sync is not routed as it must be, or has M = 0",
    Reason.SYNC_MISSING: "PR_Sent_Counter is above 245: an IDE Sync is missing",
    Reason.ORDERING: "PR_Sent_Counter is above what has been received",
    Reason.MAC: "the MAC does not match",
    Reason.PCRC_MISSING: "the PCRC is missing",
    Reason.PCRC_WRONG: "the PCRC does not match",
}
# Why a TLP cannot be sealed.
_REFUSALS: Final = {
    SealCode.REFUSED_TYPE: "a TLP of this kind may not ride on this stream (IDE Syncs it makes itself)",
    SealCode.REFUSED_TC: "the TLPs have different traffic classes",
    SealCode.REFUSED_ECRC: "it has TD = 1, and an IDE TLP carries no ECRC",
    SealCode.REFUSED_PREFIX: "it has an IDE prefix already, or more than 56 B of prefixes and header",
}
_SUB_STREAMS: Final = ("posted", "non-posted", "completion")
# What a TLP of a unit was taken for, where no rule of the stream is broken.
_OUTCOMES: Final = {
    OpenCode.PLAIN: "it has no IDE prefix",
    OpenCode.HELD: "its unit is not complete: no TLP with M = 1",
    OpenCode.MALFORMED: "it is no TLP",
}


@dataclass(frozen=True)
class SealedParts:
    """A sealed unit.

    Attributes
    ----------
    prefix : the IDE prefixes (flit mode: OHC-C), TLP after TLP.
    aad, iv, plaintext : what goes into AES-GCM; plaintext with the PCRC.
    ciphertext : what comes out, the encrypted PCRC included.
    pcrc : the PCRC before encryption, as in plaintext; empty without one.
    mac : 12 bytes.
    tlps : the wire image of each TLP, local prefixes to MAC, without LCRC. wire : all of them.
    """

    prefix: bytes
    aad: bytes
    iv: bytes
    plaintext: bytes
    ciphertext: bytes
    pcrc: bytes
    mac: bytes
    tlps: tuple[bytes, ...]

    @property
    def wire(self) -> bytes:
        """All TLPs of the unit, one behind the other."""
        return b"".join(self.tlps)


def seal_once(
    tlps: Sequence[bytes],
    *,
    profile: Profile | str = "pcie-ide",
    key: bytes,
    stream_id: int = 1,
    sub_stream: int | None = None,
    counter: int = spec.IDE_FIRST_COUNTER,
    k: int = 0,
    t: int = 0,
    pr_sent: int = 0,
    pcrc: bool = False,
    kind: Kind = "selective",
    phe: int = 0,
    iv_fixed: IvFixed | None = None,
    flit: bool = False,
) -> SealedParts:
    """Seal one unit with a counter of the caller's choice.

    Parameters
    ----------
    tlps : 1 to 8 TLPs of one sub-stream, header and plain payload, without IDE prefix.
    key : of the profile's size.
    sub_stream : must be that of the TLPs; None: whatever they belong to.
    counter : 0..2**64 - 2. k, t : 0 or 1; t for all TLPs.
    pr_sent : PR_Sent_Counter of the first TLP, 0..245; of posted TLPs 0.
    iv_fixed : None: the profile's.

    Raises
    ------
    MisuseError : a value out of range, TLPs that cannot form a unit of this stream.
    FormatError : a TLP that is none.
    """
    sizes = np.cumsum([0, *map(len, tlps)])
    batch = parse(np.frombuffer(b"".join(tlps), np.uint8), sizes, flit=flit)
    tc = int(batch.tlps[0]["tc"]) if len(tlps) else 0
    config = _config(len(tlps), tc, profile, stream_id, kind, pcrc, phe, iv_fixed, flit)
    for name, value, most in (("t", t, 1), ("pr_sent", pr_sent, spec.IDE_SYNC_AT)):
        _in_range(name, value, most)
    subs = {sub_stream_of(int(code)) for code in batch.tlps["kind"]}
    belong = " and ".join(_SUB_STREAMS[sub] for sub in sorted(subs) if sub < _SUBS)
    if len(subs) > 1:
        raise MisuseError(f"the TLPs of a unit belong to one sub-stream, and these to {belong}")
    if sub_stream is not None and sub_stream not in subs:
        _in_range("sub_stream", sub_stream, _SUBS - 1)
        raise MisuseError(f"sub-stream {_SUB_STREAMS[sub_stream]}: the TLP belongs to {belong or 'none'}")
    if pr_sent and _POSTED in subs:
        raise MisuseError(f"pr_sent is {pr_sent}, and of posted TLPs always 0")
    stream = _forced(config, "tx", key, counter, k, None)
    stream._tx["k"] = k
    stream._tx["npr"] = stream._tx["cpl"] = pr_sent
    data, offsets = pack(batch)
    plan = plan_batch(batch, data, offsets, stream, True, None, bool(t), False)
    for place, row in enumerate(plan.status):
        if row["code"] != SealCode.SEALED:
            code = SealCode(int(row["code"]))
            why = _REFUSALS.get(code, code.name)
            if code is SealCode.REFUSED_TYPE and kind == "selective":
                rides = bool(may_ride(int(batch.tlps[place]["kind"]), True, True))
                why += "; a Link stream takes it" if rides else ""
            raise MisuseError(f"TLP {place} cannot be sealed: {why}")
    if len(plan.packets) != 1:
        raise MisuseError("the TLPs do not fit into one unit: at most 256 DW of payload")
    packet = plan.packets[0]
    aad = _cut(plan.work, packet["aad"], packet["aad_bytes"])
    plaintext = _cut(plan.work, packet["text"], packet["text_bytes"])
    seal_plan(plan, stream)
    tlps_out = [_cut(plan.work, a, b - a) for a, b in pairwise(plan.offsets)]
    places = [find(plan.work, start, end, flit)[0] for start, end in pairwise(plan.offsets)]
    prefixes = [_cut(plan.work, at, _PREFIX_BYTES) for at in places]
    return SealedParts(
        prefix=b"".join(prefixes),
        aad=aad,
        iv=int(packet["fixed"]).to_bytes(4, "big") + int(packet["counter"]).to_bytes(8, "big"),
        plaintext=plaintext,
        ciphertext=_cut(plan.work, packet["text"], packet["text_bytes"]),
        pcrc=plaintext[len(plaintext) - _PCRC_BYTES :] if plan.status[-1]["p"] else b"",
        mac=_cut(plan.work, packet["tag"], spec.IDE_MAC_BYTES),
        tlps=tuple(tlps_out),
    )


def open_once(
    tlps: Sequence[bytes],
    *,
    profile: Profile | str = "pcie-ide",
    key: bytes,
    stream_id: int = 1,
    sub_stream: int | None = None,
    counter: int = spec.IDE_FIRST_COUNTER,
    k: int | None = None,
    t: int | None = None,
    pr_sent: int | None = None,
    pcrc: bool = False,
    kind: Kind = "selective",
    phe: int = 0,
    iv_fixed: IvFixed | None = None,
    flit: bool = False,
) -> list[bytes]:
    """Open one unit with a counter of the caller's choice; return its TLPs without what IDE added.

    Parameters
    ----------
    tlps : the wire image of each TLP of the unit, local prefixes to MAC, without LCRC.
    sub_stream, k, t, pr_sent : what the unit must carry (t: every TLP, pr_sent: the first); None: anything.
    Others as in `seal_once`.

    Raises
    ------
    IntegrityError : a rule is broken; the message names it, which no wire ever does.
    MisuseError : a value out of range.
    """
    _in_range("t", t, 1)
    _in_range("pr_sent", pr_sent, spec.IDE_SYNC_AT)
    most = spec.IDE_AGGREGATIONS[-1]
    if len(tlps) > most:
        raise IntegrityError(f"TLP {most}: AGGREGATION_COUNT: {RULES[Reason.AGGREGATION_COUNT]}")
    wires = [np.frombuffer(tlp, np.uint8) for tlp in tlps]
    for place, wire in enumerate(wires):
        ide = find(wire, 0, len(wire), flit)[0]
        if ide >= 0 and ide + _PREFIX_BYTES <= len(wire):
            found = (int(wire[ide + 3]) >> spec.IDE_SUB_STREAM_SHIFT) & spec.IDE_SUB_STREAM_MASK
            if sub_stream is not None and found != sub_stream:
                raise IntegrityError(
                    f"TLP {place}: the sub-stream is {_sub_name(found)}, expected {_sub_name(sub_stream)}"
                )
            if k is not None and bool(int(wire[ide + 3]) & spec.IDE_K) != bool(k):
                raise IntegrityError(f"TLP {place}: K is {1 - k}, expected {k}")
    config = _config(len(tlps), _tc_of(wires, flit), profile, stream_id, kind, pcrc, phe, iv_fixed, flit)
    stream = _forced(config, "rx", key, counter, k, sub_stream)
    stream._rx["posted_npr"] = stream._rx["posted_cpl"] = _MANY
    batch, status = open_stream(np.concatenate(wires), stream, np.cumsum([0, *map(len, tlps)]))
    for place, row in enumerate(status):
        if row["reason"] != Reason.NONE:
            reason = Reason(int(row["reason"]))
            raise IntegrityError(f"TLP {place}: {reason.name}: {RULES[reason]}")
    data, cuts = pack(batch)
    released = iter([_cut(data, start, end - start) for start, end in pairwise(cuts)])
    opened = []
    for place, (wire, row) in enumerate(zip(wires, status, strict=True)):
        code = OpenCode(int(row["code"]))
        if code not in (OpenCode.RELEASED, OpenCode.SYNC, OpenCode.FAIL):
            raise IntegrityError(f"TLP {place}: {_OUTCOMES.get(code, code.name)}")
        ide, _, header, size, _, _ = find(wire, 0, len(wire), flit)
        carries = pr_sent_of(wire, ide)
        if t is not None and row["t"] != t:
            raise IntegrityError(f"TLP {place}: T is {row['t']}, expected {t}")
        if pr_sent is not None and place == 0 and carries != pr_sent:
            raise IntegrityError(f"TLP {place}: PR_Sent_Counter is {carries}, expected {pr_sent}")
        if code is OpenCode.RELEASED:
            opened.append(next(released))
            continue
        # IDE messages are consumed by the stream; they are all in the clear.
        message = np.concatenate([wire[:ide], wire[ide + _PREFIX_BYTES : header + size]])
        if flit:
            clear_trailer_flags(message, header)
        opened.append(message.tobytes())
    return opened


def _config(
    count: int,
    tc: int,
    profile: Profile | str,
    stream_id: int,
    kind: Kind,
    pcrc: bool,
    phe: int,
    iv_fixed: IvFixed | None,
    flit: bool,
) -> StreamConfig:
    """Return the configuration of a stream whose unit is `count` TLPs. Raises MisuseError if none can be."""
    if not 1 <= count <= spec.IDE_AGGREGATIONS[-1]:
        raise MisuseError(f"{count} TLPs: a unit has 1 to {spec.IDE_AGGREGATIONS[-1]}")
    chosen = profile_named(profile)
    if iv_fixed is not None:
        chosen = replace(chosen, iv_fixed=iv_fixed)
    most = next(n for n in spec.IDE_AGGREGATIONS if n >= count)
    return StreamConfig(
        chosen,
        stream_id=stream_id,
        kind=kind,
        tc=tc,
        pcrc=pcrc,
        aggregation=(most, most, most),
        phe=phe,
        flit=flit,
        config_requests=True,
    )


def _forced(
    config: StreamConfig, direction: Direction, key: bytes, counter: int, k: int | None, sub: int | None
) -> Stream:
    """Return a stream that is SECURE in one direction with one key and counter; None: in every slot."""
    _in_range("counter", counter, LAST_COUNTER)
    _in_range("k", k, spec.IDE_KEY_SETS - 1)
    _in_range("sub_stream", sub, _SUBS - 1)
    stream = Stream(config)
    if 8 * len(key) != stream.profile.key_bits:
        raise MisuseError(
            f"key has {len(key)} bytes, and {stream.profile.name} takes {stream.profile.key_bits // 8}"
        )
    expanded = expand(key)
    half = stream._halves[direction]
    for key_set in range(spec.IDE_KEY_SETS) if k is None else (k,):
        for sub_stream in range(_SUBS) if sub is None else (sub,):
            half.program(sub_stream, key_set, expanded)
            row = half.slots[key_set * _SUBS + sub_stream]
            row["state"], row["counter"] = Slot.STARTED, counter
    stream._state = State.SECURE
    return stream


def _sub_name(sub_stream: int) -> str:
    return _SUB_STREAMS[sub_stream] if 0 <= sub_stream < _SUBS else str(sub_stream)


def _in_range(name: str, value: int | None, most: int) -> None:
    if value is not None and not 0 <= value <= most:
        raise MisuseError(f"{name} is {value}, and can be 0 to {most}")


def _tc_of(wires: list[U8], flit: bool) -> int:
    """Return the traffic class of the first of some wire images: 0 if they are too short to have one."""
    if not wires:
        return 0
    _, _, header, _, _, _ = find(wires[0], 0, len(wires[0]), flit)
    return traffic_class(wires[0], header, flit) if header + 1 < len(wires[0]) else 0


def _cut(data: U8, start: int, count: int) -> bytes:
    return data[start : start + count].tobytes()
