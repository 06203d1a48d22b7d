#!/bin/bash
# Measures what an NVIDIA GPU puts on its PCIe link, all that belongs to it, into a folder:
#
#     bench/gpu/counters.sh FOLDER [SECONDS]
#
# build.log, config.txt (configuration space), smi.txt (driver, system), counters.csv and counters.log (pcie_counters),
# ranges.csv and ncu.log (the same loads by a profiler), probe.csv (pcie_probe: times). What is missing is said and
# passed over; nothing runs for longer than its `timeout`. 4 to 7 minutes.
out=${1:?usage: bench/gpu/counters.sh FOLDER [SECONDS]}
seconds=${2:-120}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
mkdir -p "$out"
begun=$SECONDS
step() { echo "--- $1 ($((SECONDS - begun)) s)"; }

step "building"
nvcc=$(command -v nvcc || ls /usr/local/cuda*/bin/nvcc 2>/dev/null | tail -1)
for program in pcie_counters pcie_probe; do
    timeout 60 "${nvcc:-nvcc}" -O3 -arch=sm_90 -o "$work/$program" "$here/$program.cu" >>"$out/build.log" 2>&1 &
done
wait
tail -5 "$out/build.log"

step "configuration space, driver"
timeout 20 python3 "$here/pcie_config.py" >"$out/config.txt" 2>&1
{
    timeout 20 nvidia-smi -q
    timeout 10 nvidia-smi pci --getCounters
    timeout 10 nvidia-smi pci --getErrorCounters
    timeout 10 nvidia-smi topo -m
    cat /proc/driver/nvidia/version /proc/driver/nvidia/params /proc/driver/nvidia/gpus/*/information
    uname -a
    lscpu
    timeout 5 dmesg | grep -i -E 'pci|nvidia|iommu' | head -300
} >"$out/smi.txt" 2>&1
grep -A 30 -E '^== .* 10de:' "$out/config.txt" | grep -E '^==|MPS|MRRS|relaxed|tags|RCB|atomic|link now' | head -40

step "counters, $seconds s"
timeout -k 5 $((seconds + 30)) "$work/pcie_counters" "$seconds" >"$out/counters.csv" 2>"$out/counters.log"
echo "exit $?"
cat "$out/counters.log"

step "profiler"
ncu=$(command -v ncu || ls /usr/local/cuda*/bin/ncu /opt/nvidia/nsight-compute/*/ncu 2>/dev/null | tail -1)
pcie=pcie__read_bytes.sum,pcie__write_bytes.sum
lts=lts__t_sectors_aperture_sysmem_op
more=${lts}_read.sum,${lts}_write.sum,${lts}_atom.sum,${lts}_red.sum,lts__t_requests_aperture_sysmem_op_read.sum,lts__t_requests_aperture_sysmem_op_write.sum
# $1: seconds; $2: metrics; $3: replay; then the experiments.
profile() {
    local limit=$1 metrics=$2 replay=$3
    shift 3
    rm -f "$work/ncu.csv"
    timeout -k 5 "$limit" "$ncu" $replay --metrics "$metrics" --csv --page raw --print-units base --clock-control none \
        --cache-control none --log-file "$work/ncu.csv" "$work/pcie_counters" ranges "$@" >"$work/ranges.txt" 2>&1
    echo "ncu $replay --metrics $metrics: exit $?, $(grep -c '^range' "$work/ranges.txt") ranges run" | tee -a "$out/ncu.log"
    grep -v '^range' "$work/ranges.txt" | head -40 >>"$out/ncu.log"
    cat "$work/ncu.csv" >>"$out/ncu.log" 2>/dev/null
    touch "$work/ncu.csv"
    timeout 20 python3 "$here/ranges.py" "$work/ranges.txt" "$work/ncu.csv" >>"$out/ranges.csv"
}
if [ -n "$ncu" ]; then
    echo "experiment,direction,size_bytes,parallel,metric,value" >"$out/ranges.csv"
    profile 75 "$pcie" "--replay-mode app-range"
    if [ "$(wc -l <"$out/ranges.csv")" -gt 20 ]; then
        profile 60 "$more" "--replay-mode app-range" zerocopy atomic
    else  # Kernels, each of which is a range.
        tail -15 "$out/ncu.log"
        profile 45 "$pcie,$more" "--profile-from-start off" zerocopy_read zerocopy_write atomic
    fi
    timeout 25 "$ncu" --query-metrics 2>&1 | grep -i -E 'pcie|sysmem' | grep -v -E 'evict|lookup|srcunit|srcnode' >>"$out/ncu.log"
else
    echo "ncu: not there" | tee "$out/ncu.log"
fi

step "probe"
timeout -k 5 70 "$work/pcie_probe" 40 2>&1 >"$out/probe.csv" | tail -3
rm -rf "$work"

step "summary: medians over repetitions"
timeout 20 python3 - "$out" <<'EOF'
import csv, statistics, sys
from pathlib import Path

cells = {}
for name in ("counters.csv", "ranges.csv"):
    path = Path(sys.argv[1]) / name
    if not path.is_file():
        continue
    for row in csv.DictReader(path.read_text().splitlines()):
        key = row["experiment"], row["direction"], row["size_bytes"], row["parallel"]
        metric = row["metric"]
        if row["experiment"] != "field" and metric[:3] in ("rx_", "tx_", "ns_", "us_", "lag", "gpm", "pci"):
            short = metric.replace("_bytes_per_op", "").replace("_per_op", "").replace("pcie__", "").replace("_bytes.sum", "")
            cells.setdefault(key, {}).setdefault(short, []).append(float(row["value"]))
for key, found in cells.items():
    print(*key, " ".join(f"{m}={statistics.median(v):.5g}" for m, v in found.items()))
EOF
step "end"
ls -la "$out"
