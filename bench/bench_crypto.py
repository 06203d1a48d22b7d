"""AES-GCM by the fastest backend: ns per packet, in batches of packets that are alike."""

SIZES = [64, 256, 4096]
# Slices of a measurement, and the least length of each.
SLICES = 20
SLICE_NS = 5_000_000


class AesGcm:
    """Sealing and opening 2,048 packets with AAD of 16 bytes, in buffers of their own: the best of many."""

    version = "1"
    params = ([128, 256], SIZES)
    param_names = ("key_bits", "payload_bytes")
    unit = "ns"
    timeout = 300

    def setup(self, key_bits, payload_bytes):
        from sevpcie_core.crypto import backends
        from sevpcie_core.measure.pool import Pool, Shape

        self.backend = backends.default()
        self.pool = Pool(Shape(key_bits, payload_bytes, 16))
        # Compiles, or reads the cache; and makes what opening opens.
        self.pool.seal(self.backend)
        self.pool.open(self.backend)

    def track_seal(self, key_bits, payload_bytes):
        return self.best_ns(self.pool.seal)

    def track_open(self, key_bits, payload_bytes):
        return self.best_ns(self.pool.open)

    def best_ns(self, call):
        """Return the best time of a packet."""
        from sevpcie_core.measure.timing import Timing, pinned, run_slice

        timing = Timing(self.pool.shape.packets)
        with pinned():
            for _ in range(SLICES):
                timing.slices.append(run_slice(lambda: call(self.backend), SLICE_NS))
        return timing.best_ns


class FirstUse:
    """A process with an empty kernel cache seals for the first time: one backend is compiled."""

    version = "1"
    number = 1
    repeat = 1
    rounds = 1
    timeout = 300

    def timeraw_cold_seal(self):
        code = "AesGcm(bytes(16)).seal(bytes(12), b'', bytes(64))"
        setup = (
            "import os, tempfile; cache = tempfile.TemporaryDirectory(); "
            "os.environ['XDG_CACHE_HOME'] = cache.name; from sevpcie_core.crypto.batch import AesGcm"
        )
        return code, setup


def timeraw_warm_seal():
    """Seal for the first time in a process that finds compiled kernels."""
    return "AesGcm(bytes(16)).seal(bytes(12), b'', bytes(64))", "from sevpcie_core.crypto.batch import AesGcm"
