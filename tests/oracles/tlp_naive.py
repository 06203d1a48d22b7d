"""TLPs bit by bit: each header is a list of named fields with their widths, one long number to read off.

A TLP is a dict. Its keys are the names of header fields, and for what has no fixed size `local`, `end`
(prefixes other than IDE's), `payload`, `trailer` (PCRC and MAC) and `ohc_e`, all bytes. `read` also tells
every rule that the TLP breaks, by name, so that whoever stops at the first one can be checked.

Layouts: PCIe Base r6.x, sections 2.2 and 6.33.
"""

from typing import Any

Fields = dict[str, Any]

MEMORY, IO, CONFIG, COMPLETION, ATOMIC, MESSAGE = "memory", "io", "config", "completion", "atomic", "message"

FAMILIES = {
    MEMORY: "00 20 01 21 40 60 5b 7b",
    IO: "02 42",
    CONFIG: "04 44 05 45",
    COMPLETION: "0a 4a 0b 4b",
    ATOMIC: "4c 6c 4d 6d 4e 6e",
    MESSAGE: "30 31 32 33 34 35 70 71 72 73 74 75",
}
FAMILY = {byte: family for family, codes in FAMILIES.items() for byte in bytes.fromhex(codes)}
LOCAL = bytes.fromhex("80 8d 8e 8f")
END = bytes.fromhex("90 91 92 9e 9f")
IDE = 0x92
CAS = (0x4E, 0x6E)
# A steering tag may stand in the byte enables of these: reads, and deferrable writes.
TAGGED = bytes.fromhex("00 20 01 21 5b 7b")

DW0 = "kind:8 t9:1 tc:3 t8:1 attr_high:1 reserved:1 th:1 td:1 ep:1 attr_low:2 at:2 length:10"
REQUEST = "requester:16 tag_low:8 last_be:4 first_be:4"
LAYOUTS = {
    (MEMORY, 3): f"{DW0} {REQUEST} low:30 ph:2",
    (MEMORY, 4): f"{DW0} {REQUEST} high:32 low:30 ph:2",
    (ATOMIC, 3): f"{DW0} {REQUEST} low:30 ph:2",
    (ATOMIC, 4): f"{DW0} {REQUEST} high:32 low:30 ph:2",
    (IO, 3): f"{DW0} {REQUEST} low:30 reserved:2",
    (CONFIG, 3): f"{DW0} {REQUEST} destination:16 reserved:4 register:10 reserved:2",
    (COMPLETION, 3): f"{DW0} completer:16 status:3 bcm:1 byte_count:12 "
    "requester:16 tag_low:8 reserved:1 lower_address:7",
    (MESSAGE, 4): f"{DW0} requester:16 tag_low:8 code:8 dw2:32 dw3:32",
}
FLIT_DW0 = "kind:8 tc:3 ohc:5 ts:3 attr:3 length:10"
FLIT_COMPLETION = "completer:16 ep:1 lower_6:1 tag:14 requester:16 lower_5_2:4 byte_count:12"
FLIT_REQUEST = "requester:16 ep:1 reserved:1 tag:14"
FLIT_LAYOUTS = {
    (MEMORY, 3): f"{FLIT_DW0} {FLIT_REQUEST} low:30 at:2",
    (MEMORY, 4): f"{FLIT_DW0} {FLIT_REQUEST} high:32 low:30 at:2",
    (ATOMIC, 3): f"{FLIT_DW0} {FLIT_REQUEST} low:30 at:2",
    (ATOMIC, 4): f"{FLIT_DW0} {FLIT_REQUEST} high:32 low:30 at:2",
    (IO, 3): f"{FLIT_DW0} {FLIT_REQUEST} low:30 reserved:2",
    (CONFIG, 3): f"{FLIT_DW0} {FLIT_REQUEST} destination:16 reserved:4 register:10 reserved:2",
    (COMPLETION, 3): f"{FLIT_DW0} {FLIT_COMPLETION}",
    (MESSAGE, 4): f"{FLIT_DW0} requester:16 ep:1 tag:7 code:8 dw2:32 dw3:32",
}
# Word A, by what it holds: byte enables, or what a completion has no other place for.
OHC_A = "rest:24 last_be:4 first_be:4"
OHC_A_COMPLETION = "rest:27 lower_1_0:2 status:3"

# Every field of a header, so that two TLPs can be compared.
NAMES = """
    kind tc attr at th td ep ph first_be last_be status bcm lower_address code ohc ts length requester
    completer tag byte_count destination register address dw2 dw3 ecrc ide ohc_a ohc_b
"""
NUMBERS = NAMES.split()
PARTS = ("local", "end", "payload", "trailer", "ohc_e")
# Bytes behind the payload, by TS.
TRAILERS = {0: 0, 1: 4, 5: 12, 6: 16}


class BrokenError(Exception):
    """A rule that makes reading on impossible, and those that were broken before it."""

    def __init__(self, rule: str, *before: str):
        super().__init__(rule)
        self.rules = {rule, *before}


def empty() -> Fields:
    """Return a TLP whose fields are all zero."""
    return {**dict.fromkeys(NUMBERS, 0), **dict.fromkeys(PARTS, b"")}


def widths(layout: str) -> list[tuple[str, int]]:
    """Return (name, bits) of a layout's fields."""
    return [(name, int(bits)) for name, bits in (item.split(":") for item in layout.split())]


def take(layout: str, data: bytes) -> Fields:
    """Return the fields of some bytes. Fields of one name (reserved ones) are or-ed."""
    left = sum(bits for _, bits in widths(layout))
    assert left == 8 * len(data)
    number = int.from_bytes(data, "big")
    found: Fields = {}
    for name, bits in widths(layout):
        left -= bits
        found[name] = found.get(name, 0) | number >> left & ((1 << bits) - 1)
    return found


def put(layout: str, fields: Fields) -> bytes:
    """Return the bytes of some fields; those that are not there are 0."""
    number = total = 0
    for name, bits in widths(layout):
        value = fields.get(name, 0)
        assert 0 <= value < 1 << bits, f"{name} {value} does not fit into {bits} bits"
        number = number << bits | value
        total += bits
    return number.to_bytes(total // 8, "big")


def header_dw(kind: int) -> int:
    """Return the DW of a header: bit 5 says four."""
    return 4 if kind & 0x20 else 3


def has_payload(kind: int) -> bool:
    return bool(kind & 0x40)


def counts(kind: int) -> bool:
    """Return whether Length counts something, so that 0 stands for 1024."""
    return has_payload(kind) or FAMILY[kind] in (MEMORY, IO, CONFIG, ATOMIC)


def is_ide(fields: Fields, flit: bool) -> bool:
    """Return whether a TLP is an IDE TLP. In flit mode sub-stream 7 in OHC-C says that it is not."""
    if flit:
        return bool(fields["ohc"] & 4) and fields["ide"] >> 4 & 7 != 7
    return fields["ide"] != 0


# --- Bytes to fields ---------------------------------------------------------------------------------------


def read(
    data: bytes, *, flit: bool = False, max_payload: int = 4096, exact: bool = True
) -> tuple[Fields, int, set[str]]:
    """Return (the fields, the bytes of the TLP, the names of all rules that it breaks).

    exact: the bytes are one TLP; else one TLP stands at their start.
    """
    try:
        fields, used, broken = _read_flit(data) if flit else _read(data)
    except BrokenError as error:
        return empty(), 0, error.rules
    if exact and used < len(data):
        broken.add("TOO_LONG")
    return fields, used, broken | breaks(fields, flit=flit, max_payload=max_payload)


def read_all(data: bytes, *, flit: bool = False) -> list[Fields]:
    """Return the TLPs that follow one another. None of them may break a rule."""
    found = []
    while data:
        fields, used, broken = read(data, flit=flit, exact=False)
        assert not broken, broken
        found.append(fields)
        data = data[used:]
    return found


class _Reader:
    def __init__(self, data: bytes):
        self.data, self.at = data, 0
        self.broken: set[str] = set()

    def next(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise BrokenError("TRUNCATED", *self.broken)
        self.at += count
        return self.data[self.at - count : self.at]


def _read(data: bytes) -> tuple[Fields, int, set[str]]:
    reader = _Reader(data)
    fields = empty()
    local, ends = b"", []
    while reader.at < len(data) and data[reader.at] >= 0x80:
        prefix = reader.next(4)
        if prefix[0] in LOCAL:
            local += prefix
            if ends:
                raise BrokenError("PREFIX_ORDER")
            if len(local) > 4 * 255:
                raise BrokenError("PREFIX_COUNT")
        elif prefix[0] in END:
            if prefix[0] == IDE and ends:
                raise BrokenError("PREFIX_ORDER")
            ends.append(prefix)
            if len(ends) > 4:
                raise BrokenError("PREFIX_COUNT")
        else:
            raise BrokenError("PREFIX_KIND")
    fields["local"] = local
    if ends and ends[0][0] == IDE:
        fields["ide"] = int.from_bytes(ends.pop(0), "big")
    fields["end"] = b"".join(ends)
    if reader.at == len(data):
        raise BrokenError("TRUNCATED")
    kind = data[reader.at]
    if kind not in FAMILY:
        raise BrokenError("KIND")
    raw = take(LAYOUTS[FAMILY[kind], header_dw(kind)], reader.next(4 * header_dw(kind)))
    if raw["reserved"]:
        reader.broken.add("RESERVED")
    fields |= {name: raw[name] for name in raw if name in fields}
    fields["tag"] = raw["t9"] << 9 | raw["t8"] << 8 | raw["tag_low"]
    fields["attr"] = raw["attr_high"] << 2 | raw["attr_low"]
    _finish(fields, raw, kind)
    if has_payload(kind):
        fields["payload"] = reader.next(4 * fields["length"])
    if fields["td"]:
        fields["ecrc"] = int.from_bytes(reader.next(4), "little")
    if fields["ide"] & 0x0C == 0x08:
        # A PCRC comes with a MAC only.
        reader.broken.add("TRAILER")
    mac, pcrc = fields["ide"] & 0x04, fields["ide"] & 0x08
    fields["trailer"] = reader.next((12 if mac else 0) + (4 if pcrc else 0))
    return fields, reader.at, reader.broken


def _finish(fields: Fields, raw: Fields, kind: int) -> None:
    if FAMILY[kind] in (MEMORY, IO, ATOMIC):
        fields["address"] = raw.get("high", 0) << 32 | raw["low"] << 2
    if counts(kind) and fields["length"] == 0:
        fields["length"] = 1024
    if FAMILY[kind] == COMPLETION and fields["byte_count"] == 0:
        fields["byte_count"] = 4096


def _read_flit(data: bytes) -> tuple[Fields, int, set[str]]:
    reader = _Reader(data)
    fields = empty()
    if not data:
        raise BrokenError("TRUNCATED")
    # 03h is MRd32, 00h the NOP.
    kind = {0x03: 0x00, 0x00: 0xFF}.get(data[0], data[0])
    if kind not in FAMILY:
        raise BrokenError("KIND")
    family = FAMILY[kind]
    raw = take(FLIT_LAYOUTS[family, header_dw(kind)], reader.next(4 * header_dw(kind)))
    if raw.get("reserved"):
        reader.broken.add("RESERVED")
    fields |= {name: raw[name] for name in raw if name in fields}
    fields["kind"] = kind
    _finish(fields, raw, kind)
    if raw["ts"] not in TRAILERS:
        raise BrokenError("TS", *reader.broken)
    has_a, has_b, has_c = (raw["ohc"] >> bit & 1 for bit in range(3))
    if family not in (COMPLETION, MESSAGE):
        fields["first_be"] = 0xF
        fields["last_be"] = 0xF if fields["length"] > 1 else 0
    if family == COMPLETION:
        fields["lower_address"] = raw["lower_6"] << 6 | raw["lower_5_2"] << 2
    if family in (IO, CONFIG) and not has_a:
        reader.broken.add("OHC")
    if has_a:
        word = reader.next(4)
        fields["ohc_a"] = int.from_bytes(word, "big")
        if family == COMPLETION:
            a = take(OHC_A_COMPLETION, word)
            fields["status"] = a["status"]
            fields["lower_address"] |= a["lower_1_0"]
        elif family != MESSAGE:
            a = take(OHC_A, word)
            fields["first_be"], fields["last_be"] = a["first_be"], a["last_be"]
    if has_b:
        fields["ohc_b"] = int.from_bytes(reader.next(4), "big")
    if has_c:
        fields["ide"] = int.from_bytes(reader.next(4), "big")
    fields["ohc_e"] = reader.next(4 * (0, 1, 2, 4)[raw["ohc"] >> 3])
    if has_payload(kind):
        fields["payload"] = reader.next(4 * fields["length"])
    behind = reader.next(TRAILERS[raw["ts"]])
    if raw["ts"] == 1:
        fields["td"], fields["ecrc"] = 1, int.from_bytes(behind, "little")
    else:
        fields["trailer"] = behind
    return fields, reader.at, reader.broken


# --- The rules ---------------------------------------------------------------------------------------------


def touched(first_be: int, last_be: int, length: int) -> list[bool]:
    """Return for each byte of the first and the last DW of a request, in order, whether it is enabled."""
    first = [bool(first_be >> i & 1) for i in range(4)]
    return first if length == 1 else first + [bool(last_be >> i & 1) for i in range(4)]


def contiguous(enabled: list[bool]) -> bool:
    """Return whether the enabled bytes follow one another."""
    places = [i for i, on in enumerate(enabled) if on]
    return places == list(range(places[0], places[-1] + 1)) if places else True


def breaks(fields: Fields, *, flit: bool = False, max_payload: int = 4096) -> set[str]:
    """Return the names of all rules that the fields of a TLP break."""
    kind, length = fields["kind"], fields["length"]
    family = FAMILY[kind]
    found: set[str] = set()
    if is_ide(fields, flit) and fields["td"]:
        found.add("IDE_TD")
    if flit and fields["ts"] in (5, 6) and not is_ide(fields, flit):
        # A MAC is of an IDE TLP.
        found.add("OHC")
    if counts(kind) and not 1 <= length <= 1024:
        found.add("LENGTH_RANGE")
    if not counts(kind) and length > 1023:
        found.add("LENGTH_RANGE")
    if has_payload(kind) and 4 * length > max_payload:
        found.add("MAX_PAYLOAD")
    if family == COMPLETION:
        found |= _completion_breaks(fields, has_payload(kind))
    if family in (IO, CONFIG):
        if length != 1 or fields["last_be"]:
            found.add("LENGTH_ONE")
        if fields["tc"] or fields["at"] or fields["th"]:
            found.add("TC_ZERO")
    if family == MEMORY:
        if not (kind in TAGGED and fields["th"]):
            found |= _enable_breaks(fields)
        if fields["address"] % 4096 + 4 * length > 4096:
            found.add("PAGE")
    if family == ATOMIC:
        operands = 2 if kind in CAS else 1
        operand = 4 * length // operands
        if operand * operands != 4 * length or operand not in ((4, 8, 16) if operands == 2 else (4, 8)):
            found.add("OPERAND")
        elif fields["address"] % operand:
            found.add("ALIGNMENT")
    if family in (MEMORY, ATOMIC):
        if header_dw(kind) == 4 and fields["address"] < 1 << 32:
            found.add("FORM_3DW")
        if header_dw(kind) == 3 and fields["address"] >= 1 << 32:
            found.add("FORM_4DW")
    return found


def _completion_breaks(fields: Fields, data: bool) -> set[str]:
    found = set()
    if fields["at"]:
        found.add("COMPLETION_AT")
    if fields["th"]:
        found.add("COMPLETION_TH")
    if fields["status"] not in (0, 1, 2, 4):
        found.add("STATUS")
    if data and fields["status"] != 0:
        found.add("STATUS_DATA")
    if not 1 <= fields["byte_count"] <= 4096:
        found.add("BYTE_COUNT_RANGE")
    if data:
        # The bytes left touch at least as many DW as came.
        first = fields["lower_address"] % 4
        left = {(first + byte) // 4 for byte in range(fields["byte_count"])}
        if len(left) < fields["length"]:
            found.add("BYTE_COUNT")
    return found


def _enable_breaks(fields: Fields) -> set[str]:
    first, last, length = fields["first_be"], fields["last_be"], fields["length"]
    if length == 1:
        return {"LAST_BE_ONE"} if last else set()
    if first == 0 or last == 0:
        return {"BE_ZERO"}
    if length == 2:
        whole = fields["address"] % 8 == 0 or contiguous(touched(first, last, length))
    else:
        enabled = touched(first, last, length)
        whole = contiguous(enabled[:4] + [True] * 4 * (length - 2) + enabled[4:])
    return set() if whole else {"BE_GAPS"}


# --- Fields to bytes ---------------------------------------------------------------------------------------


def write(fields: Fields, *, flit: bool = False) -> bytes:
    """Return the bytes of a TLP that keeps the rules."""
    kind = fields["kind"]
    family = FAMILY[kind]
    raw = {**fields, "length": fields["length"] % 1024, "byte_count": fields["byte_count"] % 4096}
    raw |= {"high": fields["address"] >> 32, "low": fields["address"] >> 2 & 0x3FFFFFFF}
    if flit:
        raw["kind"] = 0x03 if kind == 0x00 else kind
        raw |= {"lower_6": fields["lower_address"] >> 6, "lower_5_2": fields["lower_address"] >> 2 & 0xF}
        head = put(FLIT_LAYOUTS[family, header_dw(kind)], raw)
        if fields["ohc"] & 1:
            head += _word_a(fields, family)
        head += fields["ohc_b"].to_bytes(4, "big") if fields["ohc"] & 2 else b""
        head += fields["ide"].to_bytes(4, "big") if fields["ohc"] & 4 else b""
        head += fields["ohc_e"]
    else:
        tag, attr = fields["tag"], fields["attr"]
        raw |= {"t9": tag >> 9, "t8": tag >> 8 & 1, "tag_low": tag & 0xFF}
        raw |= {"attr_high": attr >> 2, "attr_low": attr & 3}
        ide = fields["ide"].to_bytes(4, "big") if fields["ide"] else b""
        head = fields["local"] + ide + fields["end"] + put(LAYOUTS[family, header_dw(kind)], raw)
    ecrc = fields["ecrc"].to_bytes(4, "little") if fields["td"] else b""
    return head + bytes(fields["payload"]) + ecrc + fields["trailer"]


def _word_a(fields: Fields, family: str) -> bytes:
    if family == MESSAGE:
        return bytes(fields["ohc_a"].to_bytes(4, "big"))
    if family == COMPLETION:
        parts = {"lower_1_0": fields["lower_address"] & 3, "status": fields["status"]}
        return put(OHC_A_COMPLETION, {**parts, "rest": fields["ohc_a"] >> 5})
    return put(OHC_A, {**fields, "rest": fields["ohc_a"] >> 8})
