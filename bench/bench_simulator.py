"""The link simulator alone: one workload, one seed, no comparison around it."""

# Written out, so that an edit of a shipped scenario does not change what is timed.
REQUESTS = 20_000
TRAFFIC = {
    "nvme": {
        "preset": "nvme-dram",
        "link": "gen5x4",
        "traffic": {
            "kind": "nvme",
            "queue_depth": 32,
            "block": "4KiB",
            "read_share": 1.0,
        },
    },
    "nic": {
        "preset": "nic-400g",
        "link": "gen5x16",
        "traffic": {"kind": "nic", "direction": "rx", "sizes": 1514, "rate": "200Gb/s"},
    },
}


def prepared(device):
    """Return the task of one device: its programs are built, nothing has run."""
    from sevpcie_core.experiment.runner import Task
    from sevpcie_core.experiment.scenario import Scenario

    workload = {"name": device, "device": {device: TRAFFIC[device]}}
    scenario = Scenario.from_dict({"name": device, "requests": REQUESTS, "workload": [workload]}).resolve()
    return Task.prepare(scenario, scenario.workloads[0], seed=1)


class Simulate:
    """Runs over a link without and with encryption."""

    version = "1"
    params = (list(TRAFFIC), ["none", "pcie-ide"])
    param_names = ("device", "scheme")
    timeout = 180

    def setup(self, device, scheme):
        from sevpcie_core.experiment.scenario import load_scheme

        self.task = prepared(device)
        self.scheme = load_scheme(scheme)
        # Compiles, or reads the cache: asv's own warm-up is shorter than either.
        self.tlps = self.task.simulate(self.scheme, "all").tlps

    def time_simulate(self, device, scheme):
        self.task.simulate(self.scheme, "all")

    def track_tlps(self, device, scheme):
        """Count TLPs: only a change of the model changes the number."""
        return self.tlps

    track_tlps.unit = "TLPs"


class FirstRun:
    """A process with an empty kernel cache: what a new user waits for."""

    version = "1"
    number = 1
    repeat = 1
    rounds = 1
    timeout = 300

    def timeraw_cold_compare(self):
        code = "compare('nvme', quick=True, requests=10, seeds=1, jobs=1)"
        setup = (
            "import os, tempfile; cache = tempfile.TemporaryDirectory(); "
            "os.environ['XDG_CACHE_HOME'] = cache.name; from sevpcie_core import compare"
        )
        return code, setup
