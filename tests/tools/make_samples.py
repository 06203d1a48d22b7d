"""Cut the shipped samples out of the full recordings, byte for byte the same each time.

    python tests/tools/make_samples.py RECORDINGS [TARGET]

RECORDINGS holds gpu/ and nic/ as `sevpcie_core/presets/samples/README.md` describes them; TARGET is that
folder unless named. What each cut is, and why there, stands beside it below. No row is changed; of packets
fewer bytes are kept.
"""

import csv
import gzip
import io
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

SAMPLES = Path(__file__).parents[2] / "sevpcie_core" / "presets" / "samples"

# Ethernet, IPv4 and TCP headers: what tells size, direction and port. No payload is shipped.
CAPTURED = 14 + 20 + 20

Row = dict[str, str]


def zipped(data: bytes) -> bytes:
    """Compress without name and time, so that the same content is the same file."""
    out = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=out, mtime=0) as file:
        file.write(data)
    return out.getvalue()


def gpu(source: Path, ends: Callable[[int, Row], bool]) -> bytes:
    """Drop `runtime` rows and stop before the first remaining row for which `ends(copies so far, row)`."""
    out = io.StringIO()
    with gzip.open(source, "rt", newline="") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames
        writer = csv.DictWriter(out, reader.fieldnames, lineterminator="\n")
        writer.writeheader()
        copies = 0
        for row in reader:
            if row["event"] == "runtime":
                continue
            if ends(copies, row):
                break
            copies += row["event"] == "memcpy"
            writer.writerow(row)
    return zipped(out.getvalue().encode())


def packets(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield record header and captured bytes of a little-endian pcap."""
    at = 24
    while at < len(data):
        (captured,) = struct.unpack_from("<I", data, at + 8)
        yield data[at : at + 16], data[at + 16 : at + 16 + captured]
        at += 16 + captured


def nic(source: Path, first: int, count: int) -> bytes:
    """Take `count` packets from number `first` (from 0), each cut to CAPTURED bytes."""
    data = gzip.decompress(source.read_bytes())
    out = bytearray(data[:16] + struct.pack("<I", CAPTURED) + data[20:24])
    for number, (header, content) in enumerate(packets(data)):
        if first <= number < first + count:
            kept = content[:CAPTURED]
            out += header[:8] + struct.pack("<I", len(kept)) + header[12:] + kept
    return zipped(bytes(out))


def make(recordings: Path) -> dict[str, bytes]:
    """Return the content of every sample by file name."""
    return {
        # 4 copies per step: 4 of 12 steps.
        "train_resnet50.csv.gz": gpu(recordings / "gpu/train_resnet50.csv.gz", lambda n, row: n == 16),
        # 33 copies per run (a prompt, then 16 tokens out and in again): the first of two runs.
        "llm_decode.csv.gz": gpu(
            recordings / "gpu/llm_decode.csv.gz", lambda n, row: n > 0 and row["bytes"] == "8192"
        ),
        # 384 copies per round (192 blocks out, 192 in): two of six rounds.
        "kv_swap.csv.gz": gpu(recordings / "gpu/kv_swap.csv.gz", lambda n, row: n == 768),
        # Around the two changes of phase: GET of 128 B values, pipelined GET, SET of 16 KiB values.
        "redis.pcap.gz": nic(recordings / "nic/redis_benchmark.pcap.gz", 10000, 6000),
    }


def main() -> None:
    """Write the samples."""
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    target = Path(sys.argv[2]) if len(sys.argv) == 3 else SAMPLES
    for name, data in make(Path(sys.argv[1])).items():
        (target / name).write_bytes(data)
        print(f"{name}: {len(data)} bytes")


if __name__ == "__main__":
    main()
