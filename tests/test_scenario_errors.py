"""Scenario files that do not load: one line that names file, line, key, value and what is allowed."""

# A case is a row of a table: what is replaced, by what, the line and the message.
# ruff: noqa: E501

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sevpcie_core.errors import ConfigError
from sevpcie_core.experiment.problems import find_line
from sevpcie_core.experiment.scenario import (
    Scenario,
    load_scenario,
    load_scheme,
    preset_text,
    scenario_from_trace,
)
from sevpcie_core.experiment.traffic import MAX_DEVICES
from sevpcie_core.link import layout

TEXT = """\
name = "mine"
link = "gen5x4"

[[workload]]
name = "first"
[workload.device.ssd]
preset = "nvme-dram"
[workload.device.ssd.traffic]
kind = "nvme"
queue_depth = 4

[[workload]]
name = "second"
[workload.device.nic]
preset = "nic-400g"
link = "gen5x16"
[workload.device.nic.traffic]
kind = "nic"
direction = "rx"
sizes = 1514
rate = "200Gb/s"
"""
ARM = '[[arm]]\nscheme = {0}\npolicy = "all"\n\n[[workload]]\nname = "first"'

ARMS = ARM.format('"sev-pcie"').replace("\n\n", "\n\n" + ARM[:37].format('"sev-pcie"') + "\n\n")


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "my.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_scenario(path)

    return load


def test_the_text_is_good(load):
    assert load(TEXT).resolve()
    assert load(TEXT.replace("\n", "\r\n")).resolve()
    assert load(b"\xef\xbb\xbf" + TEXT.encode()).resolve()


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        # Values.
        ("queue_depth = 4", "queue_depth = -4", 10, "workload[0].device.ssd.traffic.queue_depth: -4; expected a whole number from 1 to 65536"),
        ("queue_depth = 4", "queue_depth = 65537", 10, "workload[0].device.ssd.traffic.queue_depth: 65537; expected"),
        ("queue_depth = 4", "queue_depth = 4.0", 10, "queue_depth: 4.0; expected a whole number"),
        ("queue_depth = 4", "queue_depth = true", 10, "queue_depth: true; expected a whole number"),
        ("queue_depth = 4", 'block = "4 parsecs"', 10, "block: '4 parsecs': unknown unit 'parsecs'; expected a size"),
        ("queue_depth = 4", "block = -512", 10, "block: -512; expected a size of 0 or more"),
        ("queue_depth = 4", "block = 1000", 10, "block: 1000; expected a size from 512B to 16MiB in steps of 512B"),
        ("queue_depth = 4", "read_share = 1.1", 10, "read_share: 1.1; expected a number from 0 to 1"),
        ("queue_depth = 4", "read_share = nan", 10, "read_share: nan; expected a number from 0 to 1"),
        ("queue_depth = 4", 'pattern = "random"', 10, "pattern: 'random' without a window; expected window = SIZE"),
        ("queue_depth = 4", "think = 5", 10, "think: 5: no unit; expected a time"),
        ("queue_depth = 4", 'think = "2h"', 10, "unknown unit 'h'"),
        ("queue_depth = 4", 'think = "4000s"', 10, "think: '4000s'; expected a time from 0 to 3600s with its unit"),
        ("queue_depth = 4", "queue_depth = 4\nbatch = 3", 10, "traffic.queue_depth: 4; expected a multiple of batch x queues, 3"),
        ("queue_depth = 4", "iops = 1000\nbatch = 1024", 11, "traffic.batch: 1024; expected at most 1023"),
        ("queue_depth = 4", "queue_depth = 65536", 10, "traffic.queue_depth: 65536 per queue; expected at most 65535"),
        ("queue_depth = 4", 'span = "64GiB"', 10, "unknown key 'span'; allowed: kind, block, write_block, read_share"),
        ("queue_depth = 4", "read_share = 0x1" + "0" * 400, 10, "read_share: a number of more than 60 digits; expected a number"),
        ('link = "gen5x4"', 'link = "gen5x' + "9" * 5000 + '"', 2, "expected one of gen3x8"),
        # What would change nothing.
        ('name = "mine"', 'name = "mine"\nduration = "1ms"\nrequests = 5', 3, "requests: 5; expected no such key: the scenario ends by duration; requests are not counted"),
        # Users.
        ('link = "gen5x4"', 'link = "~nosuch/x.toml"', 2, "link: '~nosuch/x.toml': no home of '~nosuch'; expected a path"),
        ('rate = "200Gb/s"', 'rate = "500Gb/s"', 21, "rate: '500Gb/s', above the line rate of nic-400g; expected at most '400Gb/s'"),
        ('rate = "200Gb/s"', 'rate = "0"', 21, "rate: '0'; expected a rate from 1Mb/s"),
        ("sizes = 1514", "sizes = 20", 20, "sizes: 20; expected 'imix', 'bimodal', a frame size from 60 to 16384 bytes"),
        ("sizes = 1514", 'sizes = "amix"', 20, "sizes: 'amix'; expected 'imix', 'bimodal', a frame size"),
        ('direction = "rx"', 'direction = "out"', 19, "direction: 'out'; expected 'rx', 'tx' or 'both'"),
        ('name = "mine"', 'name = "a b"', 1, "name: 'a b'; expected a name of 1 to 64 letters"),
        ('name = "mine"', 'name = "mine"\nseeds = 0', 2, "seeds: 0; expected a whole number from 1 to 1000"),
        ('name = "mine"', 'name = "mine"\nseed = -1', 2, "seed: -1; expected a whole number from 0"),
        ('name = "mine"', 'name = "mine"\nrequests = 0', 2, "requests: 0; expected a whole number from 1 to 1000000000"),
        ('name = "mine"', 'name = "mine"\nbudget_pct = 0', 2, "budget_pct: 0; expected a number above 0 and up to 1000"),
        ('name = "mine"', 'name = "mine"\nbudget_pct = inf', 2, "budget_pct: inf; expected a number above 0"),
        ('name = "mine"', 'name = "mine"\nduration = "-1ms"', 2, "duration: '-1ms'; expected a time of 0 or more"),
        ('name = "mine"', 'name = "mine"\nschema_version = 2', 2, "schema_version: 2; expected 1"),
        ('name = "mine"', 'name = "mine"\ntitle = "a\\nb"', 2, "title: 'a\\nb'; expected one line of text"),
        ('name = "mine"', 'name = "mine"\nregions = { data = 2 }', 2, "regions.data: 2; expected a number from 0 to 1"),
        ('preset = "nvme-dram"', 'preset = "nvme-dram"\nrequests = 0', 8, "workload[0].device.ssd.requests: 0; expected a whole number"),
        # Keys.
        ("queue_depth = 4", "qd = 4", 10, "workload[0].device.ssd.traffic: unknown key 'qd'; allowed: kind, block, write_block, read_share, flush_share, trim_share, zeroes_share, sequential_share, batch, buffer_offset, window, pattern, queue_depth, think; did you mean 'queue_depth'?"),
        ("queue_depth = 4", "Block = 512", 10, "unknown key 'Block'; allowed: kind, block, write_block, read_share, flush_share, trim_share, zeroes_share, sequential_share, batch, buffer_offset, window, pattern, queue_depth, think; did you mean 'block'?"),
        ("queue_depth = 4", '"a key" = 4', 10, "unknown key 'a key'; allowed"),
        ("queue_depth = 4", "direction = 4", 10, "unknown key 'direction'; allowed: kind, block"),
        ('name = "mine"', 'name = "mine"\nfoo = 1', 2, "unknown key 'foo'; allowed: schema_version, name, title, link"),
        ('link = "gen5x16"', 'lnk = "gen5x16"', 16, "workload[1].device.nic: unknown key 'lnk'; allowed: preset, link, switch, peer, requests, background, phase, share, traffic; did you mean 'link'?"),
        ('preset = "nvme-dram"\n', "", 6, "workload[0].device.ssd: no key 'preset'; expected preset, traffic in this table"),
        ('direction = "rx"\n', "", 17, "workload[1].device.nic.traffic: no key 'direction'; expected kind, direction, rate, sizes"),
        ('name = "second"\n', "", 12, "workload[1]: no key 'name'; expected name, device in this table"),
        ('link = "gen5x4"\n', "", 5, "workload[0].device.ssd: no key 'link'; expected one here or at the top of the scenario"),
        ('kind = "nvme"\n', "", 8, "workload[0].device.ssd.traffic: kind = nothing; expected 'nvme', 'nic', 'gpu' or 'tlp'"),
        ('kind = "nvme"', 'kind = "nvm"', 9, "traffic: kind = 'nvm'; expected 'nvme', 'nic', 'gpu' or 'tlp'"),
        ('kind = "nvme"', 'kind = ["nvme"]', 9, "traffic: kind = a list; expected 'nvme', 'nic', 'gpu' or 'tlp'"),
        ('kind = "nvme"\nqueue_depth = 4', 'kind = "gpu"', 8, "traffic: no key 'trace' and no key 'job'; expected a recording, or one of 'training',"),
        ('kind = "nvme"\nqueue_depth = 4', 'kind = "gpu"\njob = "trainig"', 10, "traffic: job = 'trainig'; expected one of 'training', 'decode', 'kv-swap', 'weights', 'checkpoint', 'zero-copy', 'copies', 'idle'; did you mean 'training'?"),
        ('kind = "nvme"\nqueue_depth = 4', 'kind = "gpu"\njob = 5', 10, "traffic: job = 5; expected one of 'training',"),
        ('kind = "nvme"\nqueue_depth = 4', 'kind = "gpu"\njob = "kv-swap"\nlayer = 5', 11, "traffic: unknown key 'layer'; allowed: kind, job, blocks, block, gap, pause"),
        ('kind = "nvme"\nqueue_depth = 4', 'kind = "gpu"\njob = "copies"', 8, "traffic: no key 'direction'; expected kind, job, direction in this table"),
        ('kind = "nvme"\nqueue_depth = 4', 'kind = "gpu"\njob = "zero-copy"\nsize = 0', 11, "traffic.size: 0; expected a size from 1"),
        ('kind = "nvme"\nqueue_depth = 4', 'kind = "gpu"\njob = "kv-swap"', 9, "traffic.kind: 'gpu' on nvme-dram, which is a 'nvme' device; expected 'nvme'"),
        ('preset = "nvme-dram"', 'preset = "nic-400g"', 9, "traffic.kind: 'nvme' on nic-400g, which is a 'nic' device; expected 'nic'"),
        # Names.
        ('link = "gen5x4"', 'link = "gen9x4"', 2, "link: 'gen9x4'; expected one of gen3x8, gen4x16, gen4x4, gen5x16, gen5x4, gen5x8, gen6x16, genNxM with N from 1 to 7 and M one of 1, 2, 4, 8, 16, or the path of a .toml file; did you mean 'gen5x4'?"),
        ('link = "gen5x4"', 'link = "gen5x3"', 2, "link: 'gen5x3'; expected one of gen3x8"),
        ('link = "gen5x4"', 'link = "nope.toml"', 2, "nope.toml: no such file; expected a link"),
        ('link = "gen5x4"', "link = 5", 2, "link: 5; expected the name of a preset, the path of a .toml file or a table"),
        ('link = "gen5x4"', 'link = { base = "gen5x4", flit_check = "5ns" }', 2, "link.flit_check: '5ns' at generation 5; expected no such key before generation 6"),
        ('link = "gen5x4"', 'link = { base = "gen6x16", flit_check = 5 }', 2, "link.flit_check: 5: no unit; expected a time"),
        ('link = "gen5x4"', 'link = ""', 2, "link: ''; expected the name of a preset"),
        ('preset = "nvme-dram"', 'preset = "nvme-drm"', 7, "preset: 'nvme-drm'; expected one of endpoint, gpu-gen5, nic-100g-dpdk, nic-100g-kernel, nic-400g, nic-800g, nic-niantic-dpdk, nic-niantic-kernel, nic-simple, nvme-dram, nvme-gen4, nvme-gen5, nvme-lowlat, nvme-tlc, or the path of a .toml file; did you mean 'nvme-dram'?"),
        ('name = "mine"', 'name = "mine"\nhost = "srv"', 2, "host: 'srv'; expected one of server, server-remote, or the path"),
        ('name = "second"', 'name = "first"', 13, "workload[1].name: 'first' twice; expected another name for each workload"),
        ("[workload.device.ssd]", "[workload.device.all]", 6, "workload[0].device.all: 'all'; expected a name of 1 to 64 letters, digits, '_', '-' and '.', but not 'all'"),
        # Tables in place of names.
        ('link = "gen5x4"', "link = { gen = 5 }", 2, "link: no key 'lanes'; expected gen, lanes, mps, mrrs, rcb, propagation in this table"),
        ('link = "gen5x4"', 'link = { base = "gen5x4", mps = 300 }', 2, "link.mps: 300; expected 128, 256, 512, 1024, 2048 or 4096 bytes"),
        ('link = "gen5x4"', 'link = { base = "gen5x4", rcb = 32 }', 2, "link.rcb: 32; expected 64 or 128 bytes"),
        ('link = "gen5x4"', 'link = { base = "gen5x4", gen = 8 }', 2, "link.gen: 8; expected a whole number from 1 to 7"),
        ('link = "gen5x4"', 'link = { base = "gen5x4", lanes = 3 }', 2, "link.lanes: 3; expected 1, 2, 4, 8 or 16"),
        ('link = "gen5x4"', 'link = { base = "gen5x4", completion_bytes = 96 }', 2, "link.completion_bytes: 96B; expected a multiple of rcb (64) of at most mps (256)"),
        ('link = "gen5x4"', 'link = { base = "gen5x4", completion_bytes = 512 }', 2, "link.completion_bytes: 512B; expected"),
        ('link = "gen5x4"', 'link = { base = "gen5x4", mp = 256 }', 2, "link: unknown key 'mp'; allowed: title, source, gen"),
        ('link = "gen5x4"', 'link = { base = "gen5y4" }', 2, "link.base: 'gen5y4'; expected one of gen3x8"),
        ('link = "gen5x4"', "link = { base = 5 }", 2, "link.base: 5; expected the name of a link"),
        ('link = "gen5x4"', 'link = { base = "gen5x4", source = "x" }', 2, "link.source: 'x'; expected tables"),
        ('link = "gen5x4"', 'link = { base = "gen5x4", source = { mp = "x" } }', 2, "link.source: source of 'mp'; expected the name of a key of this table"),
        ('preset = "nvme-dram"', 'preset = { base = "nvme-dram", tags = 0 }', 7, "preset.tags: 0; expected a whole number from 1 to 16384"),
        ('preset = "nvme-dram"', 'preset = { base = "nvme-dram", tags = 1025 }', 7, "preset.tags: 1025 tags on gen5x4; expected at most 1024 before generation 6"),
        ('preset = "nvme-dram"', 'preset = { base = "nvme-dram", msi = 1 }', 7, "preset.msi: 1; expected true or false"),
        ('preset = "nvme-dram"', 'preset = { kind = "ssd" }', 7, "preset.kind: 'ssd'; expected 'nvme' or 'nic' or 'gpu'"),
        ('preset = "nvme-dram"', "preset = {}", 7, "preset.kind: nothing; expected 'nvme' or 'nic' or 'gpu'"),
        ('preset = "nvme-dram"', 'preset = { base = "nvme-dram", media_read = { p50 = "1us" } }', 7, "media_read: no p0; expected percentiles from p0 to p100"),
        ('preset = "nvme-dram"', 'preset = { base = "nvme-dram", media_read = { p0 = "1us" } }', 7, "media_read: no p100; expected percentiles"),
        ('preset = "nvme-dram"', 'preset = { base = "nvme-dram", media_read = { p0 = "3us", p100 = "2us" } }', 7, "media_read: p100 = '2us' below p0 = '3us'; expected percentiles that do not fall"),
        ('preset = "nvme-dram"', 'preset = { base = "nvme-dram", media_read = { p0 = "1us", p50 = "1us", p500 = "1us", p100 = "2us" } }', 7, "media_read: p50 twice; expected each percentile once"),
        ('preset = "nvme-dram"', 'preset = { base = "nvme-dram", media_read = { p0 = "1us", q = "1us", p100 = "2us" } }', 7, "media_read: unknown key 'q'; allowed: p0, p50"),
        ('preset = "nvme-dram"', 'preset = { base = "nvme-dram", media_read = { p0 = 1, p100 = "2us" } }', 7, "media_read: p0 = 1: no unit; expected a time"),
        # Arms.
        ('[[workload]]\nname = "first"', ARM.format('"none"'), 5, "arm[0].scheme: 'none' protects nothing and always runs as baseline; expected a scheme that protects"),
        ('[[workload]]\nname = "first"', ARM.format('"sev-pci"'), 5, "arm[0].scheme: 'sev-pci'; expected one of bounce-buffer, none, pcie-ide, sev-pcie, sev-pcie-shared, or the path of a .toml file; did you mean 'sev-pcie'?"),
        ('[[workload]]\nname = "first"', ARM.format('"sev-pcie"').replace('"all"', '"off"'), 6, "arm[0].policy: 'off'; expected 'selective' or 'all'"),
        ('[[workload]]\nname = "first"', ARMS, 9, "arm[1].scheme: 'sev-pcie' with policy 'all' twice; expected each pair once"),
        ('name = "mine"', 'name = "mine"\narm = []', 2, "arm: no arm; expected at least one [[arm]], or no key 'arm'"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "sev-pcie", engine = { clock_mhz = 0 } }'), 5, "engine.clock_mhz: 0; expected a whole number from 1 to 100000"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "sev-pcie", engine = { mac_cycles = { low = 5, typical = 3, high = 9, source = "x" } } }'), 5, "engine.mac_cycles: 5, 3, 9; expected low <= typical <= high"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "sev-pcie", engine = { mac_cycles = { low = 5 } } }'), 5, "engine.mac_cycles: no key 'typical'; expected low, typical, high, source in this table"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "sev-pcie", engine = { mac_cycles = { low = 1, typical = 3, high = 9, source = "" } } }'), 5, "engine.mac_cycles: empty source; expected where the numbers come from"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "sev-pcie", engine = { mac_cycles = { low = -1, typical = 3, high = 9, source = "x" } } }'), 5, "engine.mac_cycles: -1; expected a whole number from 0 to 10000 in each of"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "sev-pcie", engine = { keystream_ahead = 2 } }'), 5, "engine.keystream_ahead: 2; expected a whole number from 0 to 1"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "sev-pcie", engine = { clock = 5 } }'), 5, "engine: unknown key 'clock'; allowed: clock_mhz"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "sev-pcie", engine = 5 }'), 5, "engine: 5; expected a table with clock_mhz"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "sev-pcie", key_bits = 192 }'), 5, "key_bits: 192; expected 0, 128 or 256"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "none", key_bits = 128 }'), 5, "key_bits: 128 without a mechanism; expected no such key"),
        ('[[workload]]\nname = "first"', ARM.format('{ mechanism = "ide" }'), 5, "key_bits: 0; expected 128 or 256"),
        ('[[workload]]\nname = "first"', ARM.format('{ mechanism = "ide", key_bits = 128, tag_bytes = 12, prefix_bytes = 4 }'), 5, "engine: nothing; expected a table with clock_mhz"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "sev-pcie", tag_bytes = 16 }'), 5, "tag_bytes: 16; expected 12"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "sev-pcie", prefix_bytes = 8 }'), 5, "prefix_bytes: 8; expected 4"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "sev-pcie", stream_kind = "both" }'), 5, "stream_kind: 'both'; expected 'selective' or 'link'"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "sev-pcie", aggregation = { posted = 3 } }'), 5, "arm[0].scheme.aggregation.posted: 3; expected 1, 2, 4 or 8"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "sev-pcie", aggregation = { completions = 2 } }'), 5, "aggregation: unknown key 'completions'; allowed: posted, non_posted, completion; did you mean 'completion'?"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "sev-pcie", aggregation = 4 }'), 5, "aggregation: 4; expected a table with posted, non_posted, completion"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "bounce-buffer", aggregation = { posted = 2 } }'), 5, "aggregation: a table with mechanism 'bounce', whose link is plain and has no engine; expected no such key (it has cipher_devices and [bounce] with cores"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "sev-pcie", name = "none" }'), 5, "arm[0].scheme: 'none' names the plaintext baseline; expected another name"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "bounce-buffer", key_bits = 256 }'), 5, "key_bits: 256 with mechanism 'bounce', whose link is plain and has no engine; expected no such key"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "bounce-buffer", engine = { clock_mhz = 1 } }'), 5, "engine: a table with mechanism 'bounce', whose link is plain and has no engine; expected no such key (it has cipher_devices and [bounce] with cores"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "bounce-buffer", engine = { placement = "shared" } }'), 5, "engine: a table with mechanism 'bounce'"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "bounce-buffer", host = { hook_ns = 5 } }'), 5, "host: a table with mechanism 'bounce'"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "bounce-buffer", stream_kind = "link" }'), 5, "stream_kind: 'link' with mechanism 'bounce'"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "bounce-buffer", mac_rule = "skid" }'), 5, "mac_rule: 'skid' with mechanism 'bounce'"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "none", stream_kind = "link" }'), 5, "stream_kind: 'link' without a mechanism; expected no such key"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "pcie-ide", bounce = { cores = 1 } }'), 5, "bounce: a table with mechanism 'ide', which copies nothing; expected no such key (it has [engine]"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "pcie-ide", cipher_devices = ["gpu"] }'), 5, "cipher_devices: a list with mechanism 'ide', which copies nothing; expected no such key"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "bounce-buffer", cipher_devices = ["disk"] }'), 5, "cipher_devices: a list; expected a list of some of 'nvme', 'nic', 'gpu'"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "bounce-buffer", cipher_devices = ["gpu", "gpu"] }'), 5, "cipher_devices: 'gpu', 'gpu'; expected each once"),
        ('[[workload]]\nname = "first"', ARM.format('{ mechanism = "bounce" }'), 5, "bounce: nothing; expected a table with cores"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "bounce-buffer", bounce = { cores = 0 } }'), 5, "bounce.cores: 0; expected a whole number from 1 to 4096"),
        ('[[workload]]\nname = "first"', ARM.format('{ base = "bounce-buffer", bounce = { rate = 5 } }'), 5, "bounce: unknown key 'rate'; allowed: cores, copy_mb_per_s"),
        # Shapes.
        (TEXT[TEXT.index("[[workload]]") :], "", 0, "no key 'workload'; expected name, workload in this table"),
        (TEXT[TEXT.index("[[workload]]") :], "workload = []", 4, "workload: no workload; expected at least one [[workload]]"),
        (TEXT[TEXT.index("[[workload]]") :], "workload = 5", 4, "workload: 5; expected a list of tables, each under its [[...]]"),
        (TEXT[TEXT.index("[[workload]]") :], "[workload]\nname = 'x'", 4, "workload: a table; expected a list of tables"),
        (TEXT[TEXT.index("[[workload]]") :], "[[workload]]\nname = 'x'\ndevice = 5", 6, "workload[0].device: 5; expected tables, each under its [...]"),
        (TEXT[TEXT.index("[[workload]]") :], "[[workload]]\nname = 'x'\ndevice = {}", 6, "workload[0].device: no device; expected at least one"),
        (TEXT[TEXT.index("[[workload]]") :], "[[workload]]\nname = 'x'\ndevice = { d = 5 }", 6, "workload[0].device.d: 5; expected a table with preset, traffic"),
    ],
)  # fmt: skip
def test_one_line_names_everything(load, tmp_path, old, new, line, said):
    assert TEXT.count(old) == 1
    with pytest.raises(ConfigError) as caught:
        load(TEXT.replace(old, new))
    message = str(caught.value)
    assert said in message
    assert "\n" not in message
    assert "pydantic" not in message
    if "no such file" not in said:
        place = f"{tmp_path / 'my.toml'}:{line}: " if line else f"{tmp_path / 'my.toml'}: "
        assert message.startswith(place)


TRACE = TEXT.replace('sizes = 1514\nrate = "200Gb/s"\n', 'trace = "sample:redis"\n')


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ('"sample:redis"', '"sample:redi"', 20, "trace: 'sample:redi'; expected one of kv_swap, llm_decode, redis, train_resnet50; did you mean 'redis'?"),
        ('"sample:redis"', '""', 20, "trace: ''; expected the path of a trace or 'sample:NAME'"),
        ('"sample:redis"', "5", 20, "trace: 5; expected the path of a trace or 'sample:NAME'"),
        ('"sample:redis"', '"sample:redis"\nrate = "1Gb/s"', 21, "traffic: unknown key 'rate'; allowed: kind, trace, limit, offset, speed, skip_bad, direction, local, pace"),
        ('"sample:redis"', '"sample:redis"\nlimit = 0', 21, "traffic.limit: 0; expected a whole number from 1"),
        ('"sample:redis"', '"sample:redis"\nlocal = "1.2.3"', 21, "traffic.local: '1.2.3'; expected ADDRESS, ADDRESS:PORT"),
        ('"sample:redis"', '"sample:redis"\nlocal = 0', 21, "traffic.local: '0'; expected ADDRESS, ADDRESS:PORT"),
        ('"sample:redis"', '"sample:redis"\nlocal = true', 21, "traffic.local: true; expected ADDRESS, ADDRESS:PORT"),
        ('link = "gen5x16"', 'requests = 5\nlink = "gen5x16"', 16, "requests: 5 for a recorded workload; expected no such key (traffic.limit cuts it)"),
    ],
)  # fmt: skip
def test_recorded_traffic(load, tmp_path, old, new, line, said):
    assert load(TRACE.replace('"rx"', '"both"')).resolve()
    with pytest.raises(ConfigError) as caught:
        load(TRACE.replace(old, new))
    assert str(caught.value).startswith(f"{tmp_path / 'my.toml'}:{line}: workload[1].device.nic.")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        # Beside what rules it out, in a table of another kind, above, below, and in a preset.
        ("queue_depth = 4", "queue_depth = 4\niops = 100", "'queue_depth'; allowed: kind, .*; it belongs in traffic of kind 'nvme' without iops and trace$"),
        ("queue_depth = 4", "coalesce = 8", "'coalesce'; .*; it belongs in the device of kind 'nvme': preset = { base = NAME, coalesce = ... }$"),
        ("queue_depth = 4", 'rate = "1Gb/s"', "'rate'; .*; it belongs in traffic of kind 'nic' without trace, or in traffic of kind 'gpu' with job = 'zero-copy'$"),
        ("queue_depth = 4", "seeds = 3", "'seeds'; .*; it belongs at the top of the file$"),
        ("queue_depth = 4", 'link = "gen5x4"', "'link'; .*; it belongs at the top of the file, or in \\[workload.device.NAME\\]$"),
        ("queue_depth = 4", "offset = 5", "'offset'; .*; it belongs in traffic with a trace$"),
        ("queue_depth = 4", 'prompt = 5', "'prompt'; .*; it belongs in traffic of kind 'gpu' with job = 'decode'$"),
        ('name = "mine"', 'name = "mine"\nblock = 512', "'block'; .*; it belongs in traffic of kind 'nvme' without trace, or in traffic of kind 'gpu' with job = 'kv-swap'$"),
        ('preset = "nvme-dram"', 'preset = "nvme-dram"\nmps = 512', "'mps'; .*; it belongs in the link: link = { base = NAME, mps = ... }$"),
        ('link = "gen5x4"', 'link = { base = "gen5x4", keystream_ahead = false }', "'keystream_ahead'; .*; it belongs in engine of the scheme$"),
        ('link = "gen5x4"', 'link = { base = "gen5x4", entries = 0 }', "'entries'; .*; it belongs in iommu of the host$"),
        # What is near is still told, where no table has the key.
        ("queue_depth = 4", "queue_dept = 4", "'queue_dept'; .*; did you mean 'queue_depth'\\?$"),
        ("queue_depth = 4", 'source = "x"', "'source'; allowed: .*think$"),
    ],
)  # fmt: skip
def test_a_key_in_the_wrong_table_is_told_where_it_belongs(load, old, new, said):
    with pytest.raises(ConfigError, match=f"unknown key {said}"):
        load(TEXT.replace(old, new))


def test_every_table_of_a_scenario_is_known_to_have_its_keys():
    """No key of a scenario file is without a hint in a table that lacks it."""
    from sevpcie_core.experiment.homes import belongs
    from sevpcie_core.experiment.tables import Preset, Table

    def every(model):
        for child in model.__subclasses__():
            yield child
            yield from every(child)

    ours = [
        m
        for m in every(Table)
        if m.__module__.split(".")[-1] in ("tables", "traffic", "gpu_traffic", "model")
    ]
    assert len(ours) > 40
    keys = {key for model in ours for key in model.model_fields} - set(Preset.model_fields)
    silent = {key for key in keys if not belongs(key, None)}
    assert silent == {"kind", "name", "trace"}


@pytest.mark.parametrize(
    ("trace", "said"),
    [
        ("nope.pcap", "nope.pcap: no such file; expected a trace file"),
        ("sample:kv_swap", "kv_swap.csv.gz is gpu-csv, of kind 'gpu'; expected a trace of kind 'nic'"),
        ("my.toml", "begins no known format; expected one of blkparse"),
    ],
)
def test_traces_are_looked_for_when_they_are_needed(load, tmp_path, trace, said):
    scenario = load(TRACE.replace("sample:redis", trace))
    for use in (scenario.resolve, scenario.digest):
        with pytest.raises(ConfigError) as caught:
            use()
        assert str(caught.value).startswith(
            f"{tmp_path / 'my.toml'}:20: workload[1].device.nic.traffic.trace: "
        )
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "my.toml: empty file; expected a scenario"),
        (b" \n\t\n", "my.toml: empty file"),
        (b"\x1f\x8b\x08\x00\xff", "my.toml:1: bytes that are not UTF-8 text; expected a scenario in TOML"),
        (b'name = "x"\nlink = "\xff"\n', "my.toml:2: bytes that are not UTF-8 text"),
        (bytes(100), "my.toml:1:1: "),
        (b"name = \n", "my.toml:1:8: Invalid value; expected a scenario in TOML"),
        (b'name = "x"\nname = "y"\n', "my.toml:2:"),
        (b'name = "x', "my.toml:1: "),
        (TEXT[:-9].encode(), "my.toml:21"),
        (b"a = 1\n" * 800_000, "my.toml: longer than 4194304 bytes; expected a scenario"),
    ],
)
def test_files_that_are_no_toml(load, data, said):
    with pytest.raises(ConfigError) as caught:
        load(data)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_and_paths_that_lead_nowhere(tmp_path):
    with pytest.raises(ConfigError, match=r"'nvem': no such scenario; expected gpu, mix, nic, nvme, checkpoint, .* or the path of a .toml file; did you mean 'nvme'"):  # fmt: skip
        load_scenario("nvem")
    with pytest.raises(ConfigError, match=r"nope.toml: no such file; expected a scenario"):
        load_scenario(tmp_path / "nope.toml")
    with pytest.raises(ConfigError, match="is a folder; expected a scenario"):
        load_scenario(tmp_path)
    with pytest.raises(
        ConfigError, match="scheme: 'x'; expected one of bounce-buffer, none, pcie-ide, sev-pcie"
    ):
        load_scheme("x")
    with pytest.raises(ConfigError, match=r"x.toml: no such file; expected a scheme"):
        load_scheme("x.toml")
    if os.geteuid():
        path = tmp_path / "secret.toml"
        path.write_text(TEXT)
        path.chmod(0)
        with pytest.raises(ConfigError, match="Permission denied; expected a scenario"):
            load_scenario(path)


def test_a_preset_file_is_told_by_its_own_lines(load, tmp_path):
    path = tmp_path / "slow.toml"
    path.write_text('base = "gen5x4"\nmps = 512\npropagation = "1"\n')
    with pytest.raises(ConfigError) as caught:
        load(TEXT.replace('"gen5x4"', '"slow.toml"'))
    assert str(caught.value).startswith(f"{path}:3: propagation: '1': no unit; expected a time")
    path.write_text('base = "slow.toml"\n')
    with pytest.raises(
        ConfigError, match=r"slow.toml:1: base: more than 8 bases, perhaps a circle; expected fewer"
    ):
        load(TEXT.replace('"gen5x4"', '"slow.toml"'))


def test_bases_may_be_files(load, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "base.toml").write_text('base = "gen4x4"\nmps = 512\n')
    (tmp_path / "deep" / "slow.toml").write_text('base = "base.toml"\npropagation = "1us"\n')
    scenario = load(TEXT.replace('"gen5x4"', '"deep/slow.toml"'))
    link = scenario.resolve().workloads[0].devices[0].link
    assert (link.gen, link.mps, link.propagation_ps) == (4, 512, 10**6)
    scenario = load(TEXT.replace('"gen5x4"', '{ base = "deep/base.toml", mps = 128 }'))
    assert scenario.resolve().workloads[0].devices[0].link.mps == 128


def test_more_problems_are_counted(load):
    with pytest.raises(ConfigError, match=r"from 1 to 1000 \(and 1 more\)$"):
        load(TEXT.replace('name = "mine"', 'name = "mine"\nseeds = 0\nrequests = 0'))


def test_a_document_that_is_no_file():
    with pytest.raises(ConfigError, match=r"^scenario: seeds: 0; expected"):
        Scenario.from_dict({"name": "x", "workload": [], "seeds": 0})
    with pytest.raises(ConfigError, match=r"^record.json: a list; expected a table with name, workload"):
        Scenario.from_dict([], name="record.json")


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("name",), 1),
        (("workload", 0), 4),
        (("workload", 1, "device", "nic", "traffic", "rate"), 21),
        (("workload", 1, "device", "nic", "nothing"), 14),
        (("workload", 0, "device"), 4),
        (("nothing",), 0),
    ],
)
def test_lines_are_found(place, line):
    assert find_line(TEXT, place) == line


def test_lines_of_inline_tables_and_quoted_keys():
    text = 'a = { b = 1, "c d" = 2 }\n["x.y"]\n"z" = 1\nu.v = 2\n'
    assert find_line(text, ("a", "b")) == 1
    assert find_line(text, ("a", "c d")) == 1
    assert find_line(text, ("x.y", "z")) == 3
    assert find_line(text, ("x.y", "u", "v")) == 4


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_damaged_scenarios_load_or_say_why(load, data):
    # Whatever is done to a good file, nothing but ConfigError comes out, on one line.
    lines = preset_text("scenarios", data.draw(st.sampled_from(["nvme", "nic", "mix"]))).splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        key, _, _ = lines[at].partition(" = ")
        value = data.draw(
            st.sampled_from(["-1", "0", "1e9", "nan", "true", '""', '"x"', "[]", "{}", '"1"', "1979-05-27"])
            | st.text(max_size=10)
        )
        lines[at] = data.draw(st.sampled_from([f"{key} = {value}", value, "", f"x{lines[at]}"]))
    try:
        load("\n".join(lines).encode("utf-8", "replace")).to_toml()
    except ConfigError as error:
        message = str(error)
    else:
        message = ""
    assert "\n" not in message
    assert "pydantic" not in message
    assert "Input should" not in message


def test_requests_of_a_device_under_a_duration(load):
    text = 'duration = "1ms"\n' + TEXT.replace('"nvme-dram"', '"nvme-dram"\nrequests = 5')
    with pytest.raises(ConfigError, match=r"my.toml:9: workload\[0\].device.ssd.requests: 5; .*by duration"):
        load(text)


def test_a_workload_has_as_many_devices_as_the_simulator(load):
    assert MAX_DEVICES == layout.MAX_DEVICES
    device = '[workload.device.d{}]\npreset = "nvme-dram"\n[workload.device.d{}.traffic]\nkind = "nvme"\n'
    head = 'name = "mine"\nlink = "gen5x4"\n[[workload]]\nname = "w"\n'
    text = head + "".join(device.format(n, n) for n in range(16))
    assert load(text).resolve()
    with pytest.raises(
        ConfigError, match=r"my.toml:3: workload\[0\].device: 17 devices; expected at most 16"
    ):
        load(text + device.format(16, 16))


def test_a_scheme_file_of_the_name_of_the_baseline(tmp_path):
    path = tmp_path / "none.toml"
    path.write_text('base = "sev-pcie"\n')
    with pytest.raises(ConfigError, match="'none' names the plaintext baseline"):
        load_scheme(path)
    assert load_scheme("none").mechanism == "none"


@pytest.mark.parametrize("load", [load_scenario, load_scheme, scenario_from_trace])
def test_users_that_do_not_exist(load):
    with pytest.raises(ConfigError, match=r"'~nosuch/x.toml': no home of '~nosuch'; expected a path"):
        load("~nosuch/x.toml")


@pytest.mark.parametrize("key", ["queue_depth", "block", "read_share", "think", "kind"])
def test_numbers_that_python_does_not_write(key):
    traffic = {"kind": "nvme", key: 10**5000}
    device = {"preset": "nvme-dram", "link": "gen5x4", "traffic": traffic}
    with pytest.raises(ConfigError, match=rf"{key}.* a number of more than 6[04] digits; expected"):
        Scenario.from_dict({"name": "x", "workload": [{"name": "w", "device": {"d": device}}]})


GPU = """\
name = "mine"
link = {link}
[[workload]]
name = "first"
[workload.device.gpu]
preset = "gpu-gen5"
[workload.device.gpu.traffic]
kind = "gpu"
job = {said}
"""
# 2**24 - 2 read requests of 256 B; a buffer may begin anywhere, which cuts two more.
MOST = 4_294_966_784
WIDE, NARROW = '"gen5x16"', '{ base = "gen5x16", mps = 128, mrrs = 128 }'


@pytest.mark.parametrize(
    ("link", "said", "line", "problem"),
    [
        (WIDE, '"checkpoint"\nbatch = 60000', 10, "batch: a copy of 9031680000 bytes (batch x sample); expected at most 4294966784"),
        (WIDE, '"training"\nsample = "1GiB"', 10, "sample: a copy of 68719476736 bytes (batch x sample); expected at most 4294966784"),
        (WIDE, '"training"\nlabel = "1GiB"', 10, "label: a copy of 68719476736 bytes (batch x label); expected"),
        (WIDE, '"training"\noffload = "9GiB"\npieces = 2', 10, "offload: a copy of 4831838208 bytes (offload / pieces); expected"),
        (WIDE, '"checkpoint"\noffload = "5GiB"', 10, "offload: a copy of 5368709120 bytes (offload / pieces); expected"),
        (WIDE, '"checkpoint"\ntensors = 2\nweights = "9GiB"', 11, "weights: a copy of 4831838208 bytes (weights / tensors); expected"),
        (WIDE, '"decode"\nprompt = 65536\ntoken = "1MiB"', 10, "prompt: a copy of 549755813888 bytes (batch x prompt x token); expected"),
        (WIDE, '"decode"\nprompt = 1\ntoken = "1GiB"', 10, "prompt: a copy of 8589934592 bytes (batch x prompt x token); expected"),
        (WIDE, '"kv-swap"\nblock = "8GiB"', 10, "block: a copy of 8589934592 bytes; expected at most 4294966784"),
        (WIDE, '"weights"\nlayer = "1TiB"', 10, "layer: a copy of 1099511627776 bytes; expected at most 4294966784"),
        (WIDE, f'"weights"\nlayer = {MOST + 1}', 10, f"layer: a copy of {MOST + 1} bytes; expected at most {MOST}"),
        (NARROW, f'"weights"\nlayer = {MOST // 2 + 1}', 10, f"layer: a copy of {MOST // 2 + 1} bytes; expected at most {MOST // 2}"),
        (WIDE, '"copies"\ndirection = "h2d"\nsize = ["3GiB", "5GiB"]', 11, "size: a copy of 5368709120 bytes; expected at most 4294966784"),
    ],
)  # fmt: skip
def test_copies_that_no_link_takes_as_one_name_their_keys(load, tmp_path, link, said, line, problem):
    with pytest.raises(ConfigError) as caught:
        load(GPU.format(link=link, said=said))
    place = f"{tmp_path / 'my.toml'}:{line}: workload[0].device.gpu.traffic."
    assert str(caught.value).startswith(place + problem)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [MOST // 2, MOST // 2 + 1])
def test_the_longest_copy_behind_a_switch(load, size):
    text = GPU.format(link=NARROW, said=f'"weights"\nlayer = {size}')
    switch = '[workload.switch.s]\nuplink = { base = "gen5x16", mps = 128, mrrs = 128 }\nlatency = "110ns"\n'
    text = text.replace('preset = "gpu-gen5"', 'preset = "gpu-gen5"\nswitch = "s"') + switch
    if size == MOST // 2:
        assert load(text).resolve().workloads[0].switches[0].name == "s"
    else:
        with pytest.raises(ConfigError, match=r"traffic\.layer: a copy of"):
            load(text)


@pytest.mark.parametrize(
    ("link", "said"),
    [
        (WIDE, f'"weights"\nlayer = {MOST}'),
        (NARROW, f'"kv-swap"\nblock = {MOST // 2}'),
        (WIDE, '"checkpoint"\nweights = "1TiB"\ntensors = 257\ninterval = 50'),
        (WIDE, '"copies"\ndirection = "d2h"\nsize = "4095MiB"'),
        (WIDE, '"idle"'),
    ],
)
def test_the_longest_copies_load(load, link, said):
    other = '[workload.device.ssd]\npreset = "nvme-dram"\nlink = "gen5x4"\ntraffic = { kind = "nvme" }\n'
    assert load(GPU.format(link=link, said=said) + other).workload[0].device["gpu"].traffic.kind == "gpu"
