"""The line formats of traces, one line after the other, with regular expressions and fractions.

`read(format, data)` returns the records in file order, as tuples of (t_ps since the first, the fields of the
dtype), and the numbers of the malformed lines. Written from the formats' descriptions; shares nothing with
the readers but the numbers of the operations.
"""

import csv
import re
from decimal import Decimal
from fractions import Fraction

from oracles import tlp_records

READ, WRITE, FLUSH, TRIM, ZEROES = range(5)
H2D, D2H, WORK = range(3)
RX, TX = range(2)
TERA = 2**40
DAY = 86400 * 10**12


class Bad(Exception):
    pass


def need(good):
    if not good:
        raise Bad


def whole(text, least, most):
    text = text.strip(" \t\n\r\f\v")
    need(re.fullmatch(r"[0-9]+(\.0*)?", text))
    digits = text.split(".")[0].lstrip("0")
    need(len(digits) < 40)
    value = int(digits or "0")
    need(least <= value <= most)
    return value


def number(text, least, most):
    hexadecimal = re.fullmatch(r"\s*0x([0-9a-fA-F]+)\s*", text, re.ASCII)
    if hexadecimal:
        value = int(hexadecimal[1], 16)
        need(least <= value <= most)
        return value
    return whole(text, least, most)


def ps(text, unit_ps):
    """Time as (whole units, ps), rounded to ps half to even."""
    need(len(text) < 100)
    text = text.strip(" \t\n\r\f\v")
    need(re.fullmatch(r"\+?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?", text))
    value = round(Fraction(Decimal(text)) * unit_ps)
    need(value < 10**18 * unit_ps)
    return value


def text_of(line):
    need(len(line) + 1 < 65536)
    need(b"\0" not in line)
    try:
        return line.removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise Bad from None


def fio(number, text, version):
    words = text.split()
    if not words:
        return None
    shift = 1 if version == 3 else 0
    action = words[1 + shift] if len(words) > 1 + shift else ""
    if action in ("add", "open", "close"):
        return None
    if action == "wait" and version == 2:
        need(len(words) > 2)
        return "wait", whole(words[2], 0, 50 * 86400 * 10**6)
    op = {"read": READ, "write": WRITE, "trim": TRIM, "sync": FLUSH, "datasync": FLUSH}.get(action)
    need(op is not None and len(words) == 4 + shift)
    t = ps(words[0], 10**6) if version == 3 else 0
    if op == FLUSH:
        return t, op, 0, 0, 0
    offset, length = whole(words[-2], 0, 2**62), whole(words[-1], 1, TERA)
    return t, op, offset, length, 0


def row(text, width):
    if not text.strip(" "):
        return None
    try:
        cells = next(csv.reader([text], strict=True))
    except csv.Error:
        raise Bad from None
    need(len(cells) == width)
    return cells


def named(number, text, header):
    cells = row(text, len(header))
    return None if cells is None else dict(zip(header, cells, strict=True))


def nvme_csv(number, text, header):
    cell = named(number, text, header)
    if cell is None:
        return None
    op = {"read": READ, "write": WRITE, "flush": FLUSH, "dsm_trim": TRIM}.get(cell["event"].strip())
    if op is None or cell.get("phase", "").strip() == "marker":
        return None
    t = ps(cell["time_us"], 10**6)
    queue = whole(cell["qid"], 0, 32767) if cell.get("qid", "").strip() else 0
    if op in (FLUSH, TRIM):
        return t, op, 0, 0, queue
    return t, op, whole(cell["address"], 0, 2**53 - 1) * 512, whole(cell["length"], 1, TERA), queue


def duration(text):
    value = ps(text, 10**6)
    need(value < 7200 * 10**12)
    return value


def gpu_csv(number, text, header):
    cell = named(number, text, header)
    if cell is None or cell["event"].strip() == "runtime":
        return None
    kind = WORK
    if cell["event"].strip() == "memcpy":
        found = re.search(r"(?i)(?<![a-z0-9_])(htod|dtoh|dtod|ptop|htoh)(?![a-z0-9_])", cell["name"])
        need(found)
        kind = {"htod": H2D, "dtoh": D2H}.get(found[1].lower(), WORK)
    else:
        need(cell["event"].strip() in ("kernel", "memset"))
    t, took = ps(cell["t_us"], 10**6), duration(cell["dur_us"])
    size = whole(cell["bytes"] or "0" if kind == WORK else cell["bytes"], 0 if kind == WORK else 1, TERA)
    return t, took, kind, size, whole(cell["stream"], 0, 2**31 - 1) if "stream" in cell else 0


def msr(number, text, header):
    cells = row(text, 7)
    if cells is None:
        return None
    op = {"read": READ, "write": WRITE}.get(cells[3].strip().lower())
    need(op is not None)
    return ps(cells[0], 10**5), op, whole(cells[4], 0, 2**62), whole(cells[5], 1, TERA), 0


def blkparse(number, text, wanted):
    words = re.sub(r"[ \t,]", " ", text).split()
    if not words:
        return None
    if len(words) < 8 or not all(re.fullmatch(r"[0-9]+(\.0*)?", word) for word in words[:2]):
        need(blk_summary(" ".join(words)))
        return None
    if words[6] != wanted:
        need(
            words[6]
            in [
                "A",
                "B",
                "C",
                "D",
                "F",
                "G",
                "I",
                "M",
                "P",
                "Q",
                "R",
                "S",
                "T",
                "U",
                "UT",
                "W",
                "X",
                "a",
                "d",
                "m",
                "@",
            ]
        )
        return None
    letters = re.fullmatch(r"(F?)([RWDN])E?F?A?S?M?", words[7])
    need(letters)
    t = ps(words[4], 10**12)
    flush, what = letters.groups()
    op = {"R": READ, "W": WRITE, "D": TRIM}.get(what)
    if op is not None and len(words) > 10 and words[9] == "+":
        sector, count = whole(words[8], 0, 2**53 - 1), whole(words[10], 0, TERA // 512)
        if count:
            return t, op, sector * 512, count * 512, 0
        need(flush)
    elif op is not None and not flush:
        need(len(words) > 9 and re.fullmatch(r"[0-9]+(\.0*)?", words[8]) and words[9][0] == "(")
        return None
    return (t, FLUSH, 0, 0, 0) if flush else None


def blk_summary(text):
    return any(
        re.fullmatch(pattern, text, re.ASCII)
        for pattern in (
            r"CPU\d+ \(.*\):",
            r"Total \(.*\):",
            r"Input file .* added",
            r"Throughput \(R/W\): .*",
            r"Events \(.*\): \d+ entries",
            r"Skips: .*",
            r"(PC )?(Read|Reads|Write|Writes|IO|Timer) "
            r"(Queued|Dispatches|Requeued|Completed|Merges|depth|Disp\.|Req\.|Compl\.|unplugs): .*",
        )
    )


def qemu(number_, text, state):
    words = re.sub(r"[ \t@:]", " ", text).split()
    if not words:
        return None
    need(len(words) >= 3 and re.fullmatch(r"[0-9]+(\.0*)?", words[0]))
    t = ps(words[1], 10**12)
    value = dict(zip(words[3::2], words[4::2], strict=False))
    try:
        if words[2] == "pci_nvme_io_cmd":
            queue = number(value["sqid"], 0, 32767)
            opcode = number(value["opc"], 0, 255)
            state["queue"] = queue
            op = {0: FLUSH, 9: TRIM}.get(opcode)
            return None if op is None else (t, op, 0, 0, queue)
        if words[2] not in ("pci_nvme_read", "pci_nvme_write"):
            return None
        blocks, count = number(value["nlb"], 1, 65536), number(value["count"], 1, TERA)
        need(count % blocks == 0 and count // blocks <= 65536)
        op = READ
        if words[2] == "pci_nvme_write":
            op = ZEROES if value.get("opname") == "'NVME_NVM_CMD_WRITE_ZEROES'" else WRITE
        offset = number(value["lba"], 0, 2**44 - 1) * (count // blocks)
    except KeyError:
        raise Bad from None
    return t, op, offset, count, state["queue"]


def nvme_plain(number, text, header):
    cell = named(number, text, header)
    if cell is None:
        return None
    op = {"read": READ, "write": WRITE, "flush": FLUSH, "trim": TRIM, "write_zeroes": ZEROES}.get(
        cell["op"].strip()
    )
    need(op is not None)
    t = ps(cell["time_us"], 10**6)
    queue = whole(cell["queue"], 0, 32767) if cell.get("queue", "").strip() else 0
    if op == FLUSH:
        return t, op, 0, 0, queue
    size = whole(cell["bytes"], 0 if op == TRIM else 1, TERA)
    return t, op, whole(cell["offset"], 0, 2**62) if cell.get("offset", "").strip() else 0, size, queue


def nic_plain(number, text, header):
    cell = named(number, text, header)
    if cell is None:
        return None
    direction = {"rx": RX, "tx": TX}.get(cell["direction"].strip())
    need(direction is not None)
    return ps(cell["time_us"], 10**6), whole(cell["bytes"], 1, 262144), direction


def gpu_plain(number, text, header):
    cell = named(number, text, header)
    if cell is None:
        return None
    kind = {"h2d": H2D, "d2h": D2H, "kernel": WORK, "memset": WORK, "d2d": WORK}.get(cell["kind"].strip())
    need(kind is not None)
    t, took = ps(cell["time_us"], 10**6), duration(cell["duration_us"])
    if kind == WORK and not cell["bytes"].strip():
        size = 0
    else:
        size = whole(cell["bytes"], 0 if kind == WORK else 1, TERA)
    stream = whole(cell["stream"], 0, 2**31 - 1) if cell.get("stream", "").strip() else 0
    return t, took, kind, size, stream


def tlp(number, text, header):
    cell = named(number, text, header)
    if cell is None:
        return None
    names = {"up": 2, "upstream": 2, "tx": 2, "down": 1, "downstream": 1, "rx": 1, "": 0}
    way = names.get(cell.get("direction", "").strip())
    need(way is not None)
    t = ps(cell["time_ns"], 10**3)
    digits = re.sub(r"[\s:_]", "", cell["tlp"].strip().removeprefix("0x"))
    need(re.fullmatch(r"([0-9a-fA-F]{2})+", digits))
    record = tlp_records.record(bytes.fromhex(digits), way=way)
    need(record is not None)
    return t, *record


FORMATS = {
    "tlp-csv": tlp,
    "nvme-csv": nvme_csv,
    "gpu-csv": gpu_csv,
    "msr-csv": msr,
    "blkparse": blkparse,
    "qemu-nvme-log": qemu,
    "nvme-generic-csv": nvme_plain,
    "nic-generic-csv": nic_plain,
    "gpu-generic-csv": gpu_plain,
}
UNITS = {"tlp-csv": 10**3, "msr-csv": 10**5, "blkparse": 10**12, "qemu-nvme-log": 10**12}


def read(format, data):
    """Records in file order and malformed lines; `data` begins with its header line, where there is one."""
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if not lines[-1]:
        lines.pop()
    numbered = list(enumerate(lines, start=1))
    state = None
    one = FORMATS.get(format)
    if format == "fio-iolog":
        state, one = int(numbered.pop(0)[1].split()[2]), fio
    elif format.endswith("csv") and format != "msr-csv":
        state = [name.strip() for name in next(csv.reader([numbered.pop(0)[1].decode()]))]
    elif format == "msr-csv" and numbered[0][1].lower().startswith(b"timestamp"):
        numbered.pop(0)
    elif format == "qemu-nvme-log":
        state = {"queue": 0}
    elif format == "blkparse":
        state = "D" if any(is_issue(line) for _, line in numbered) else "Q"
    records, bad, clock = [], [], 0
    unit = UNITS.get(format, 10**6)
    start = None
    for number, line in numbered:
        try:
            record = one(number, text_of(line), state)
            if record is None:
                continue
            if record[0] == "wait":
                clock += record[1]
                continue
            t = record[0] + clock * 10**6
            if start is None:
                start = t
            need(abs(t // unit - start // unit) < 50 * DAY // unit)
        except Bad:
            bad.append(number)
        else:
            records.append((t - start, *record[1:]))
    return records, bad


def is_issue(line):
    try:
        words = re.sub(r"[ \t,]", " ", text_of(line)).split()
    except Bad:
        return False
    return len(words) >= 8 and words[6] == "D"
