"""A whole comparison: how long it takes, what it says, and what it costs to import."""

SCENARIOS = ["nvme", "gpu"]


class Compare:
    """A quick comparison of a shipped scenario, as a user runs it."""

    version = "1"
    params = SCENARIOS
    param_names = ("scenario",)
    timeout = 300

    def setup(self, scenario):
        from sevpcie_core import compare

        self.compare = compare
        self.compare(scenario, quick=True, requests=100, jobs=1)

    def time_compare_quick(self, scenario):
        self.compare(scenario, quick=True, jobs=1)


class Overhead:
    """The added latency that a quick comparison reports: a model that changes its mind shows here."""

    version = "1"
    params = (SCENARIOS, ["sev-pcie/selective", "sev-pcie/all", "pcie-ide/all"])
    param_names = ("scenario", "arm")
    unit = "%"
    timeout = 300

    def setup_cache(self):
        from sevpcie_core import compare

        return {name: compare(name, quick=True, jobs=1).record.to_dict()["results"] for name in SCENARIOS}

    setup_cache.timeout = 300

    def track_worst_latency_p50(self, results, scenario, arm):
        return worst(results[scenario], arm, "latency_p50")

    def track_worst_latency_p99(self, results, scenario, arm):
        return worst(results[scenario], arm, "latency_p99")

    def track_worst_io_path_p50(self, results, scenario, arm):
        return worst(results[scenario], arm, "io_path_p50")


def worst(rows, arm, metric):
    """Return the largest overhead in per cent over workloads and devices; NaN where no row has one."""
    found = [
        row["overhead"][metric]["value_pct"]
        for row in rows
        if f"{row['scheme']}/{row['policy']}" == arm and row["overhead"][metric]
    ]
    return max(found, default=float("nan"))


def timeraw_import():
    """Import the package: every command pays it."""
    return "import sevpcie_core"


def timeraw_help():
    """Print the help of the command line."""
    # The process reports its time on standard output, so that is only lent.
    return (
        "import contextlib, io\n"
        "from sevpcie_core.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()): main(['--help'])"
    )


def timeraw_compare_api():
    """Import all that a comparison uses."""
    return "from sevpcie_core import compare; compare.__module__"
