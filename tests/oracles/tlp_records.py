"""TLPs of a capture as records and as a workload, the slow, obvious way; headers by `tlp_naive`."""

from collections import Counter

from oracles import tlp_naive
from oracles.tlp_naive import COMPLETION, CONFIG, FAMILY, IO, MEMORY, MESSAGE, TAGGED

UNSAID, DOWN, UP = 0, 1, 2
# What receivers ignore, and what FPGAs do.
FORGIVEN = {"RESERVED", "FORM_3DW"}
READS, WRITES = (0x00, 0x20), (0x40, 0x60)


def record(content, size=None, way=UNSAID, local=None):
    """Return (address, bytes, requester, tag, kind, down, at); None for what is no TLP.

    content: the bytes that were captured. size: how many there were. local: requester IDs of the device.
    """
    size = len(content) if size is None else size
    fields, whole, broken = tlp_naive.read(content + bytes(5000), exact=False)
    if not whole or broken - FORGIVEN:
        return None
    front = len(fields["local"]) + len(fields["end"]) + 4 * bool(fields["ide"])
    if len(content) < front + 4 * tlp_naive.header_dw(fields["kind"]) or size > whole:
        return None
    if fields["address"] >= 2**63 - 4096:
        return None
    kind, family = fields["kind"], FAMILY[fields["kind"]]
    first, moved = span(fields)
    down = way == DOWN
    if way not in (UP, DOWN):
        mine = fields["requester"] >> 8 != 0 if local is None else fields["requester"] in local
        down = mine if family == COMPLETION else not mine
    return fields["address"] + first, moved, fields["requester"], fields["tag"], kind, int(down), fields["at"]


def span(fields):
    """Return the place of the first byte in its DW, and how many are moved."""
    family, length = FAMILY[fields["kind"]], fields["length"]
    if family == COMPLETION:
        if not tlp_naive.has_payload(fields["kind"]):
            return 0, 0
        return 0, min(4 * length - fields["lower_address"] % 4, fields["byte_count"])
    if family == MESSAGE and not tlp_naive.has_payload(fields["kind"]):
        return 0, 0
    steered = fields["th"] and fields["kind"] in TAGGED
    if family in (MEMORY, IO, CONFIG) and not steered:
        enabled = [bool(fields["first_be"] >> i & 1) for i in range(4)] + [True] * 4 * (length - 2)
        if length > 1:
            enabled += [bool(fields["last_be"] >> i & 1) for i in range(4)]
        places = [i for i, on in enumerate(enabled[: 4 * length]) if on]
        return (places[0], places[-1] - places[0] + 1) if places else (0, 0)
    return 0, 4 * length


def tally(records):
    """Return (operations, bytes of them, answered, refused, stray, latencies, left out) of rows of records.

    A row is (t_ps, address, bytes, requester, tag, kind, down, at).
    """
    operations, moved, left_out, due = Counter(), Counter(), Counter(), {}
    answered = refused = stray = 0
    latencies = []
    for t, _, size, requester, tag, kind, down, at in records:
        name = None
        if kind in WRITES:
            name = "doorbell" if down else "write"
        elif kind in READS and not down and at != 1:
            name = "read"
            due[requester, tag] = [t, max(size, 1)]
        elif kind in (0x0A, 0x4A) and down:
            read = due.get((requester, tag))
            if read is None or not read[1]:
                stray += 1
            elif kind == 0x0A:
                refused += 1
                read[1] = 0
            else:
                read[1] = max(read[1] - size, 0)
                if not read[1]:
                    answered += 1
                    latencies.append(t - read[0])
        else:
            left_out[kind, at == 1, down] += 1
        if name:
            operations[name] += 1
            moved[name] += size
    return operations, moved, answered, refused, stray, latencies, left_out
