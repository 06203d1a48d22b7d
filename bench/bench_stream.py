"""The protected stream: ns per TLP, with everything from a batch to sealed bytes and back to a batch."""

from time import perf_counter_ns

TLPS = 1024
PASSES = 200


class Stream:
    """Writes of one payload, one call for all of them: the best of many passes."""

    version = "1"
    params = ([64, 256], [1, 4])
    param_names = ("payload_bytes", "tlps_per_mac")
    unit = "ns"
    timeout = 300

    def setup(self, payload_bytes, tlps_per_mac):
        from sevpcie_core.ide import StreamConfig, pair
        from sevpcie_core.tlp.batch import concat
        from sevpcie_core.tlp.build import memory_writes

        aggregation = (tlps_per_mac, tlps_per_mac, tlps_per_mac)
        self.ends = pair(StreamConfig(aggregation=aggregation))
        writes = [
            memory_writes((1 << 33) + i * payload_bytes, bytes(payload_bytes), mps=256) for i in range(TLPS)
        ]
        self.batch = concat(writes)

    def track_seal(self, payload_bytes, tlps_per_mac):
        return self.best_ns()[0]

    def track_open(self, payload_bytes, tlps_per_mac):
        return self.best_ns()[1]

    def best_ns(self):
        """Return the best time of a TLP, sealing and opening. The first pass, which compiles, is never it."""
        from sevpcie_core.ide import open_stream, seal_stream
        from sevpcie_core.measure.timing import pinned

        sender, receiver = self.ends
        sealing, opening = [], []
        with pinned():
            for _ in range(PASSES):
                start = perf_counter_ns()
                wire, offsets, _ = seal_stream(self.batch, sender)
                sealed = perf_counter_ns()
                batch, _ = open_stream(wire, receiver, offsets)
                opening.append(perf_counter_ns() - sealed)
                sealing.append(sealed - start)
                assert len(batch) == TLPS
        return min(sealing) / TLPS, min(opening) / TLPS
