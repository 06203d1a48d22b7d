"""Trace readers: records per second on one core, by format."""


class Traces:
    """Reads a made-up uncompressed file of 200,000 records: the best of five."""

    version = "1"
    params = (
        "fio-iolog",
        "fio-iolog v2",
        "blkparse",
        "msr-csv",
        "nvme-csv",
        "qemu-nvme-log",
        "nvme-generic-csv",
        "nic-generic-csv",
        "gpu-csv",
        "gpu-generic-csv",
        "tlp-csv",
        "tlp-pcap",
        "tlp-pcapng",
    )
    param_names = ("format",)
    unit = "million records/s"
    timeout = 300

    def track_read(self, format):
        from sevpcie_core.measure.traces import Plan, measure

        [row] = measure(Plan(formats=[format], records=200_000)).rows
        return row.records_per_s / 1e6
