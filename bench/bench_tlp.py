"""The TLP codec: headers per second into a batch and out of it, on one core."""

# Requests and completions as a busy link has them, half of them with payload.
TLPS = 20_000
SLICES = 20
SLICE_NS = 5_000_000


def train(flit):
    """Return a batch of writes, reads and completions, by turns."""
    from sevpcie_core.tlp import build
    from sevpcie_core.tlp.batch import concat

    parts = []
    for i in range(TLPS // 4):
        address = (1 << 34) + 4096 * i
        parts.append(build.memory_writes(address, 64, mps=256, tag=i % 256, flit=flit))
        parts.append(build.memory_reads(address, 512, mrrs=512, first_tag=i % 256, flit=flit))
        parts.append(build.memory_reads(4096 * (i % 1024), 64, mrrs=512, first_tag=i % 256, flit=flit))
        parts.append(build.completions(address, 64, rcb=64, limit=256, tag=i % 256, flit=flit))
    return concat(parts)


class Codec:
    """Parses and packs 20,000 TLPs with payloads of 64 bytes or none: the best pass of many."""

    version = "1"
    params = ("non-flit", "flit")
    param_names = ("mode",)
    unit = "million headers/s"
    timeout = 300

    def setup(self, mode):
        from sevpcie_core.tlp.codec import pack, parse

        self.parse, self.pack, self.flit = parse, pack, mode == "flit"
        self.batch = train(self.flit)
        # Compiles, or reads the cache.
        self.data, self.offsets = pack(self.batch)
        assert parse(self.data, self.offsets, flit=self.flit) == self.batch

    def track_parse(self, mode):
        return self.rate(lambda: self.parse(self.data, flit=self.flit))

    def track_pack(self, mode):
        return self.rate(lambda: self.pack(self.batch))

    def rate(self, call):
        """Return millions of headers per second."""
        from sevpcie_core.measure.timing import Timing, pinned, run_slice

        timing = Timing(len(self.batch))
        with pinned():
            for _ in range(SLICES):
                timing.slices.append(run_slice(call, SLICE_NS))
        return 1e3 / timing.best_ns
