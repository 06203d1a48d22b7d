"""Programs of a fixed shape, as steps: a closed loop of storage commands, and a stream of packets.

They stand in for workloads where a test needs many requests that look like real ones; nothing is drawn but
by a small generator of its own, so they are the same everywhere.
"""

from collections.abc import Iterator

from .link_heapq import DELAY, READ_UP, WRITE_DOWN, WRITE_UP, Step

DATA, QUEUE, MMIO, MSI = range(4)
"""Buffer classes."""


def numbers(seed: int) -> Iterator[int]:
    """Yield 31-bit numbers (linear congruence modulo 2**64, upper bits)."""
    state = seed
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield state >> 33


def closed_loop(
    requests: int,
    depth: int,
    block: int,
    *,
    read_pct: int = 100,
    media_ps: int = 1_000_000,
    dies: int = 0,
    seed: int = 1,
    offset: int = 0,
) -> list[Step]:
    """Return commands, `depth` at a time: doorbell, fetch, media and data, completion, interrupt.

    media_ps: mean of a uniform draw around it, the same for a request whatever else happens. dies: servers
    that media take turns at, 0 for no limit. offset: added to data addresses. Reads have stat 0, writes 1.
    """
    draw = numbers(seed)
    steps: list[Step] = []
    per_request = 6
    for i in range(requests):
        read = next(draw) % 100 < read_pct
        delay = media_ps // 2 + next(draw) % (media_ps + 1)
        server = next(draw) % dies if dies else -1
        address = (1 << 34) + next(draw) % 4096 * 4096 + offset
        back = depth * per_request - (per_request - 1) if i >= depth else 0
        stat = 0 if read else 1
        media = Step(
            DELAY,
            delay_ps=delay,
            occupy_ps=delay if dies else 0,
            request=i,
            after=1,
            server=server,
            stat=stat,
            media=True,
        )
        data = Step(WRITE_UP if read else READ_UP, address, block, request=i, after=1, stat=stat, buffer=DATA)
        steps += [
            Step(WRITE_DOWN, 0x1000, 4, request=i, after=back, stat=stat, buffer=MMIO, begin=True),
            Step(READ_UP, (1 << 33) + 64 * (i % 64), 64, request=i, after=1, stat=stat, buffer=QUEUE),
            media if read else data,
            data if read else media,
            Step(
                WRITE_UP,
                (1 << 33) + 65536 + 16 * (i % 64),
                16,
                request=i,
                after=1,
                early1=read,
                stat=stat,
                buffer=QUEUE,
            ),
            Step(WRITE_UP, 0xFEE0_0000, 4, request=i, after=1, early1=True, stat=stat, buffer=MSI, end=True),
        ]
    return steps


def packets(count: int, gap_ps: int, *, seed: int = 1) -> list[Step]:
    """Return received packets, one per `gap_ps`: payload and, behind it, its entry in the ring."""
    draw = numbers(seed)
    steps: list[Step] = []
    for i in range(count):
        size = (64, 64, 576, 1500)[next(draw) % 4]
        start = i * gap_ps
        address = (1 << 35) + i % 512 * 2048 + next(draw) % 64
        steps += [
            Step(WRITE_UP, address, size, not_before_ps=start, request=i, buffer=DATA, begin=True),
            Step(
                WRITE_UP,
                (1 << 33) + 64 * (i % 512),
                64,
                request=i,
                after=1,
                early1=True,
                buffer=QUEUE,
                end=True,
            ),
        ]
    return steps
