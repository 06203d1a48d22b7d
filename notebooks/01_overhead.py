# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What does link encryption cost NVMe traffic?
#
# Plaintext against SEV-PCIe (a profile of this project) and PCIe IDE (the standard), on the shipped scenario
# `nvme`: 4 KiB random reads and an 8 KiB mix, on a device with DRAM-like media and on one with TLC flash. A
# quick run: few requests.

# %%
from sevpcie_core import compare

comparison = compare("nvme", quick=True)
comparison

# %% [markdown]
# ## Latency
#
# Left: the share of requests with at most this latency, in nines. Right: what protection adds at p50, p90,
# p99 and p99.9, in per cent, with the budget.

# %%
comparison.plot_cdf()

# %% [markdown]
# ## Overhead against the budget
#
# The point is a typical engine. The thick bar is the interval over the paired seeds, the thin bar the range
# over what is not known of the engine: no public figure for one exists, so its parameters are derived from
# structure.

# %%
comparison.plot_overhead()

# %% [markdown]
# ## The numbers
#
# `frame()` is tidy: one row per scenario, workload, class, scheme and policy; units stand in the names of the
# columns.

# %%
frame = comparison.frame()
frame.loc[
    frame["protected"],
    [
        "workload",
        "class",
        "scheme",
        "policy",
        "latency_p50_added_ns",
        "latency_p50_value_pct",
        "latency_p50_range_low_pct",
        "latency_p50_range_high_pct",
        "verdict_end_to_end",
        "limited_by",
    ],
].round(2)
