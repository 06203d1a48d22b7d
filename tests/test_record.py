"""The result record: what goes in comes out, and nothing else gets in."""

import copy
import hashlib
import json
import os
import stat

import jsonschema
import pytest

from sevpcie_core.errors import ConfigError, FormatError, RunError, SevPcieError
from sevpcie_core.files import write_atomically
from sevpcie_core.record import RunRecord, json_schema, results_digest


def _load_error(path):
    """Return the one line that loading a file fails with."""
    with pytest.raises(SevPcieError) as caught:
        RunRecord.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 2
    assert str(path) in message
    return message


def _changed(record_dict, change):
    data = copy.deepcopy(record_dict)
    change(data)
    return data


def test_round_trip(record, record_dict, tmp_path):
    assert record.to_dict() == record_dict
    assert json.loads(record.to_json()) == record_dict
    record.save(tmp_path / "r.json")
    assert RunRecord.load(tmp_path / "r.json") == record


def test_one_line_per_row(record):
    lines = record.to_json().splitlines()
    assert sum(line.startswith("  {") for line in lines) == len(record.results)


def test_load_takes_the_folder_of_an_earlier_run(record, tmp_path):
    record.save(tmp_path / "record.json")
    assert RunRecord.load(tmp_path) == record


def test_digest_ignores_the_way_a_number_was_handed_over(record_dict):
    rows = copy.deepcopy(record_dict["results"])
    rows[0]["latency_ns"]["p50"] = 5.0
    as_float = results_digest(rows)
    rows[0]["latency_ns"]["p50"] = 5
    assert results_digest(rows) == as_float
    assert results_digest([dict(reversed(row.items())) for row in rows]) == as_float


def test_what_records_once_did_not_have_is_left_out_where_it_is_empty(record_dict):
    rows = record_dict["results"]
    rows[1]["saturated"] = ["typical", "unfavourable"]
    rows[0]["saturated"] = []
    record_dict["digest"] = results_digest(rows)
    first, second, *_ = RunRecord.from_dict(record_dict).to_dict()["results"]
    assert "saturated" not in first
    assert second["saturated"] == ["typical", "unfavourable"]
    del rows[0]["saturated"]
    assert results_digest(rows) == record_dict["digest"]
    rows[1]["saturated"] = ["never"]
    with pytest.raises(FormatError, match=r"results\[1\].saturated\[0\]: 'never'"):
        RunRecord.from_dict(record_dict)


def test_digest_is_what_any_other_program_would_compute(record):
    rows = json.loads(record.to_json())["results"]
    text = json.dumps(rows, sort_keys=True, separators=(",", ":"))
    assert record.digest == hashlib.sha256(text.encode()).hexdigest()


def test_digest_sees_the_last_bit(record_dict):
    rows = copy.deepcopy(record_dict["results"])
    before = results_digest(rows)
    rows[-1]["cdf"]["p"][-1] -= 2**-53
    assert results_digest(rows) != before


def test_digest_covers_results_alone(record_dict):
    data = record_dict | {"created": "1999-01-01T00:00:00+00:00", "warnings": ["slow"]}
    assert RunRecord.from_dict(data).digest == record_dict["digest"]


def test_schema_accepts_what_we_write_and_refuses_other_keys(record_dict):
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(json.loads(json.dumps(record_dict)))
    assert not validator.is_valid(record_dict | {"extra": 1})


def test_schema_says_the_units():
    row = json_schema()["$defs"]["Row"]["properties"]
    assert "Gb/s" in row["throughput_gbps"]["description"]
    assert "class" in row


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(extra=1), ["extra", "unknown key"]),
        (lambda d: d["results"][3].update(colour="red"), ["results[3].colour", "unknown key"]),
        (lambda d: d.pop("seeds"), ["seeds", "missing"]),
        (lambda d: d.update(seeds=[]), ["seeds", "[]"]),
        (lambda d: d.update(schema_version=2), ["schema_version", "2", "reads 1"]),
        (lambda d: d.update(schema_version="1"), ["schema_version", "'1'"]),
        (lambda d: d.pop("schema_version"), ["schema_version", "None"]),
        (lambda d: d.update(command="sweep"), ["command", "'sweep'", "'compare'"]),
        (
            lambda d: d["results"][0]["latency_ns"].update(p50="7"),
            ["results[0].latency_ns.p50", "'7'", "number"],
        ),
        (lambda d: d["results"][0].update(limited_by="luck"), ["limited_by", "'luck'", "'credits'"]),
        (
            lambda d: d["results"][0].update(throughput_gbps=float("nan")),
            ["throughput_gbps", "nan", "finite"],
        ),
        (
            lambda d: d["results"].append(d["results"][0]),
            ["results", "two rows for nvme/randread4k/all/none/off"],
        ),
        (lambda d: d["results"][1].update(requests=1), ["digest", "changed"]),
        (lambda d: d.update(host=3), ["host", "3"]),
        (lambda d: d["options"].update(scenarios=[]), ["options.scenarios", "at least 1"]),
    ],
)
def test_wrong_content_is_named(record_dict, change, words, tmp_path):
    path = tmp_path / "r.json"
    path.write_text(json.dumps(_changed(record_dict, change)))
    message = _load_error(path)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\x89PNG\r\n\x1a\n\0\0", "byte 0: not UTF-8 text"),
        (b"[1, 2]", "a JSON list"),
        (b"{]", "column 2"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 150 + b"1" + b"}" * 150, "nested too deeply"),
        (b'{"schema_version": ' + b"1" * 5000 + b"}", "a whole number of more than 4000 digits"),
        (b"sevpcie", "expected a record"),
    ],
)
def test_wrong_files_are_named(content, words, tmp_path):
    path = tmp_path / "r.json"
    path.write_bytes(content)
    assert words in _load_error(path)


def test_missing_file_and_folder_without_record(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.json: cannot be read: No such file"):
        RunRecord.load(tmp_path / "nowhere.json")
    with pytest.raises(ConfigError, match=r"record\.json: cannot be read"):
        RunRecord.load(tmp_path)


def test_every_cut_is_noticed(record, tmp_path):
    text = record.to_json()
    path = tmp_path / "r.json"
    for cut in range(0, len(text) - 2, len(text) // 60):
        path.write_text(text[:cut])
        with pytest.raises(FormatError, match=r"r\.json"):
            RunRecord.load(path)


def test_huge_file_is_refused(tmp_path):
    path = tmp_path / "r.json"
    with open(path, "wb") as file:
        file.truncate((1 << 28) + 1)
    assert "longer than" in _load_error(path)


@pytest.mark.parametrize("failing", ["os.fsync", "os.replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(record, tmp_path, monkeypatch, failing, error):
    path = tmp_path / "r.json"
    path.write_text("old")

    def fail(*_):
        raise error

    monkeypatch.setattr(failing, fail)
    with pytest.raises((RunError, KeyboardInterrupt)) as caught:
        record.save(path)
    if isinstance(error, OSError):
        assert str(caught.value) == f"{path}: cannot be written: No space left on device"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_save_into_a_folder_that_does_not_exist(record, tmp_path):
    with pytest.raises(ConfigError, match="cannot be written"):
        record.save(tmp_path / "no" / "r.json")


def test_saved_file_has_the_usual_rights(record, tmp_path):
    old = os.umask(0o027)
    try:
        record.save(tmp_path / "r.json")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "r.json").stat().st_mode) == 0o640


def test_a_link_is_followed_and_a_pipe_stays_a_pipe(record, tmp_path):
    (tmp_path / "link").symlink_to("real")
    for _ in range(2):
        record.save(tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "real").read_text() == record.to_json()
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomically(tmp_path / "pipe", "text")
        assert os.read(reader, 100) == b"text"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_the_longest_name_can_be_written(tmp_path):
    write_atomically(tmp_path / ("n" * 255), "text")
    assert [path.name for path in tmp_path.iterdir()] == ["n" * 255]
