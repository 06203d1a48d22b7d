"""Captures and profiles read the slow, obvious way: one record after the other, whole files in memory.

Each function returns rows of Python numbers, or None where the file is malformed in any way.
"""

import json
import re
import struct
from decimal import Decimal

LINKS = {0: 4, 1: 14, 101: 0, 108: 4, 113: 16, 276: 20}
MOST = 262144
DAYS = 50 * 86400
RX, TX = 0, 1


def direction(packet, link):
    """The lower port sends: 1; else 0."""
    network = packet[LINKS[link] :]
    if link == 1:
        if len(packet) < 14:
            return RX
        kind = packet[12:14]
        for _ in range(2):
            if kind in (b"\x81\x00", b"\x88\xa8") and len(network) >= 4:
                kind, network = network[2:4], network[4:]
        version = {b"\x08\x00": 4, b"\x86\xdd": 6}.get(kind)
    else:
        version = network[0] >> 4 if network else None
    if version == 4 and len(network) >= 20:
        protocol, behind = network[9], network[(network[0] & 15) * 4 :]
        if struct.unpack_from(">H", network, 6)[0] & 0x1FFF:
            return RX
    elif version == 6 and len(network) >= 40:
        protocol, behind = network[6], network[40:]
    else:
        return RX
    if protocol not in (6, 17, 132) or len(behind) < 4:
        return RX
    source, target = struct.unpack_from(">HH", behind)
    return TX if source < target else RX


def _since_first(rows):
    """Seconds and ps to ps since the first; None if one is far away."""
    if any(abs(second - rows[0][0]) >= DAYS for second, *_ in rows):
        return None
    first = rows[0][0] * 10**12
    return [(second * 10**12 + ps - first, *rest) for second, ps, *rest in rows]


def pcap(data):
    """Rows (ps since the first second, bytes, direction)."""
    formats = {0xA1B2C3D4: 10**6, 0xA1B23C4D: 10**3}
    if len(data) < 24:
        return None
    for order in "<>":
        magic, major, _, _, _, _, network = struct.unpack_from(order + "IHHiIII", data)
        if magic in formats:
            break
    else:
        return None
    link = network & 0xFFFF
    if major != 2 or link not in LINKS:
        return None
    fcs = 2 * (network >> 28) if network & 0x04000000 else 0
    rows = []
    at = 24
    while at < len(data):
        if at + 16 > len(data):
            return None
        second, rest, captured, original = struct.unpack_from(order + "IIII", data, at)
        packet = data[at + 16 : at + 16 + captured]
        good = len(packet) == captured <= original <= MOST and original and rest * formats[magic] < 10**12
        if not good:
            return None
        size = max(original + 14 - LINKS[link] - fcs, 1)
        rows.append((second, rest * formats[magic], size, direction(packet, link)))
        at += 16 + captured
    return _since_first(rows) if rows else None


def pcapng(data):
    """Rows (ps since the first second, bytes, direction); packets of unknown links are left out."""
    rows = []
    faces = None
    order = "<"
    at = 0
    last = None
    try:
        while at < len(data):
            if data[at : at + 4] == b"\n\r\r\n":
                order = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}[data[at + 8 : at + 12]]
                faces = []
            if faces is None:
                return None
            kind, length = struct.unpack_from(order + "II", data, at)
            block = data[at : at + length]
            if length < 12 or length % 4 or len(block) != length or length > 1 << 22:
                return None
            if struct.unpack(order + "I", block[-4:])[0] != length:
                return None
            at += length
            if kind == 0x0A0D0D0A:
                if length < 28 or struct.unpack_from(order + "H", block, 12)[0] != 1:
                    return None
            elif kind == 1:
                faces.append(_interface(block, order))
            elif kind in (2, 3, 6):
                row = _packet(kind, block, order, faces, last)
                if row is not None:
                    last = row[:2]
                    rows.append(row)
    except (KeyError, struct.error, ValueError, IndexError):
        return None
    return _since_first(rows) if rows else None


def _interface(block, order):
    if len(block) < 20:
        raise ValueError
    link, _, snap = struct.unpack_from(order + "HHI", block, 8)
    resolution, shift = 6, 0
    options = block[16:-4]
    while len(options) >= 4:
        code, size = struct.unpack_from(order + "HH", options)
        if code == 0:
            break
        value = options[4 : 4 + size]
        if len(value) != size:
            raise ValueError
        if code == 9:
            if size != 1:
                raise ValueError
            resolution = value[0]
        if code == 14:
            (shift,) = struct.unpack(order + "q", value)
            if abs(shift) > 2**60:
                raise ValueError
        options = options[4 + -(-size // 4) * 4 :]
    binary, power = resolution >> 7, resolution & 127
    if power > (62 if binary else 18):
        raise ValueError
    return link, snap, (2 if binary else 10) ** power, shift


def _packet(kind, block, order, faces, last):
    if kind == 3:
        (original,) = struct.unpack_from(order + "I", block, 8)
        if len(block) < 16:
            raise ValueError
        link, snap, _, _ = faces[0]
        captured = min(original, snap or original, len(block) - 16)
        packet = block[12 : 12 + captured]
        time = last
    else:
        if len(block) < 32:
            raise ValueError
        which = struct.unpack_from(order + ("I" if kind == 6 else "H"), block, 8)[0]
        high, low, captured, original = struct.unpack_from(order + "IIII", block, 12)
        link, snap, units, shift = faces[which]
        seconds, rest = divmod(high << 32 | low, units)
        if seconds > 2**60:
            raise ValueError
        if captured > len(block) - 32:
            raise ValueError
        packet = block[28 : 28 + captured]
        # A binary fraction is cut to 40 bits.
        if units & (units - 1) == 0 and units > 2**40:
            rest, units = rest * 2**40 // units, 2**40
        time = (seconds + shift, rest * 10**12 // units)
    if not captured <= original <= MOST or not original:
        raise ValueError
    if link not in LINKS:
        return None
    if time is None:
        # No time is known yet: it counts as that of the packet that brings one.
        raise KeyError
    return (*time, max(original + 14 - LINKS[link], 1), direction(packet, link))


COPY = re.compile(r"\b(?:(HtoD)|(DtoH)|DtoD|PtoP|HtoH)\b", re.IGNORECASE | re.ASCII)


def kineto(data):
    """Rows (ps of the start, ps of duration, kind, bytes, stream), of well formed events; None: no JSON."""
    try:
        document = json.loads(data.decode("utf-8-sig"), parse_float=Decimal, strict=False)
    except (ValueError, RecursionError):
        return None
    events = document if isinstance(document, list) else document["traceEvents"]
    rows = []
    for event in events:
        if event.get("ph") != "X":
            continue
        match event.get("cat"):
            case "gpu_memcpy" | "Memcpy":
                match = COPY.search(event["name"])
                kind = 0 if match[1] else 1 if match[2] else 2
            case "kernel" | "gpu_memset" | "Kernel" | "Memset":
                kind = 2
            case _:
                continue
        start, duration = (int((Decimal(event[name]) * 10**6).to_integral_value()) for name in ("ts", "dur"))
        arguments = event["args"]
        rows.append((start, duration, kind, int(arguments.get("bytes", 0)), int(arguments["stream"])))
    return rows
