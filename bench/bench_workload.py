"""Workloads alone: from the generator to cut TLPs, nothing simulated."""

REQUESTS = 20_000
CASES = ["nvme/randread4k", "nic/mtu1500_rx", "nic/imix_tx", "gpu/train_resnet50", "gpu/llm_decode"]


class Expand:
    """Steps are made and cut, chunk by chunk."""

    version = "1"
    params = CASES
    param_names = ("workload",)
    timeout = 180

    def setup(self, workload):
        from sevpcie_core.measure.workload import device_of

        self.run = device_of(workload, REQUESTS)
        # Reads a trace, and compiles or reads the cache: asv's own warm-up is shorter than either.
        self.tlps = self._expand()

    def _expand(self):
        from sevpcie_core.experiment.programs import build
        from sevpcie_core.workload.expand import expand

        return sum(len(tlps) for tlps in expand(build(self.run, 0, 1, 0).chunks(), self.run.link.sizes))

    def time_expand(self, workload):
        self._expand()

    def track_tlps(self, workload):
        """Count TLPs: only a change of a workload changes the number."""
        return self.tlps

    track_tlps.unit = "TLPs"
