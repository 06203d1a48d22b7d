"""Ends of a capture that an error names: each of them can be given as `local`."""

import gzip
import re
import struct
from pathlib import Path

import pytest
from test_traces_captures import block, enhanced, interface, obsolete, packet, section, simple
from test_traces_pcap import ethernet, header, ip, record

from sevpcie_core import cli
from sevpcie_core.errors import ConfigError
from sevpcie_core.experiment import presets
from sevpcie_core.workload import traces

HERE = Path(__file__).parent


def named(path: Path) -> list[str]:
    """Return the ends that are named where the one that is asked for does not occur."""
    with pytest.raises(ConfigError) as caught:
        traces.read_nic(path, local="203.0.113.77:9")
    told = re.fullmatch(
        r"local: \S+ is no end of any packet in \S+; expected an address or port that is(?:: (.*))?",
        str(caught.value),
    )
    assert told
    return [] if told[1] is None else told[1].split(", ")


@pytest.mark.parametrize(
    "path", [presets.sample("redis"), HERE / "samples" / "two_interfaces.pcapng.gz"], ids=["pcap", "pcapng"]
)
def test_every_end_that_is_named_is_one(path: Path) -> None:
    ends = named(path)
    assert ends
    every = len(traces.read_nic(path))
    found = {end: len(traces.read_nic(path, local=end)) for end in ends if end != "..."}
    assert all(0 < count <= every for count in found.values())
    # Those of most packets come first.
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_the_server_of_a_capture_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["workload", "show", "sample:redis", "--local", "80"]) == 2
    said = capsys.readouterr().err
    assert "--local '80' is no end of any packet in " in said
    assert "; expected an address or port that is: 127.0.0.1:6390, " in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_ends_of_all_kinds_of_packets(tmp_path: Path, order: str) -> None:
    six = ip("fe80::1", "fe80::2", (443, 50000))
    tagged = ethernet(six)[:12] + bytes.fromhex("8100000188a80002") + ethernet(six)[12:]
    icmp = bytearray(ip("10.0.0.3", "10.0.0.4", (1, 2)))
    icmp[9] = 1
    frames = [ethernet(ip("10.0.0.1", "10.0.0.2", (80, 40000))), tagged, ethernet(bytes(icmp))]
    path = tmp_path / "a.pcap"
    for n, (frame, ends) in enumerate(
        zip(
            frames,
            (
                ["10.0.0.1:80", "10.0.0.2:40000"],
                ["[fe80::1]:443", "[fe80::2]:50000"],
                ["10.0.0.3", "10.0.0.4"],
            ),
            strict=True,
        )
    ):
        path.write_bytes(header() + record(0, n, frame))
        assert named(path) == ends
    for kind in (
        enhanced(5, packet((80, 40000)), order=order),
        obsolete(5, packet((80, 40000)), 60, order=order),
        simple(packet((80, 40000)), len(packet((80, 40000))), order=order),
    ):
        path = tmp_path / "a.pcapng"
        path.write_bytes(section(order) + interface(order) + block(9, bytes(8), order) + kind)
        assert named(path) == ["10.0.0.1:80", "10.0.0.2:40000"]


def test_most_are_not_named(tmp_path: Path) -> None:
    path = tmp_path / "many.pcap.gz"
    many = [record(0, n, ethernet(ip("10.0.0.1", "10.0.0.2", (80, 40000 + n)))) for n in range(9)]
    path.write_bytes(gzip.compress(header() + b"".join(many)))
    ends = named(path)
    assert (ends[0], len(ends), ends[-1]) == ("10.0.0.1:80", 5, "...")


@pytest.mark.parametrize("cut", range(0, 60, 3))
def test_what_ends_early_or_holds_no_address_names_what_there_is(tmp_path: Path, cut: int) -> None:
    """A capture of a few bytes of each packet has no ends to name, and no error of its own."""
    frame = ethernet(ip("10.0.0.1", "10.0.0.2", (80, 40000)))[:cut]
    path = tmp_path / "short.pcap"
    path.write_bytes(header() + struct.pack("<IIII", 0, 0, len(frame), 100) + frame)
    assert named(path) in ([], ["10.0.0.1", "10.0.0.2"], ["10.0.0.1:80", "10.0.0.2:40000"])
