"""`sevpcie list`, `show` and `schema`: what is named can be shown, and what is shown can be used."""

import json
import tomllib

import jsonschema
import pytest

from sevpcie_core import cli
from sevpcie_core.experiment import presets
from sevpcie_core.experiment.problems import Origin
from sevpcie_core.experiment.scenario import available_presets, load_scenario

NAMES = [f"{kind}/{name}" for kind, names in available_presets().items() for name in names]


def output(capsys, *argv):
    assert cli.main(list(argv)) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_list_names_everything(capsys):
    lines = output(capsys, "list").splitlines()
    for kind, names in available_presets().items():
        assert f"{kind}:" in lines
        for name, title in names.items():
            assert any(line.split()[0] == name and title in line for line in lines)


def test_list_one_kind_and_as_json(capsys):
    assert "gen5x16" not in output(capsys, "list", "schemes")
    assert json.loads(output(capsys, "list", "schemes", "--json")) == {
        "schemes": available_presets()["schemes"]
    }
    assert json.loads(output(capsys, "list", "--json")) == available_presets()


@pytest.mark.parametrize("name", NAMES)
def test_everything_listed_can_be_shown(name, capsys):
    text = output(capsys, "show", name)
    assert tomllib.loads(text)
    assert json.loads(output(capsys, "show", name, "--json")) == tomllib.loads(text)


@pytest.mark.parametrize("name", available_presets()["scenarios"])
def test_a_shown_scenario_is_the_same_scenario(name, capsys, tmp_path):
    mine = tmp_path / "my.toml"
    mine.write_text(output(capsys, "show", name))
    assert load_scenario(mine).digest() == load_scenario(name).digest()
    assert output(capsys, "show", str(mine)) == mine.read_text()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["list", "things"], "'things': no such kind; expected one of scenarios, mixes, schemes, links"),
        (["show", "nvmee"], "'nvmee': no such scenario or preset; did you mean 'nvme'?"),
        (["show", "xyzzy"], "'sevpcie list' prints all names"),
        (["show", "things/nvme"], "no such kind 'things'; expected one of scenarios"),
        (["show", "links/nvme"], "no such scenario or preset"),
        (["show", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_unknown_names(argv, words, capsys):
    assert cli.main(argv) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_schemas_describe_what_is_read_and_written(capsys, record_dict):
    both = json.loads(output(capsys, "schema"))
    assert set(both) == {"scenario", "record"}
    for what, schema in both.items():
        assert json.loads(output(capsys, "schema", what)) == schema
        jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(record_dict, both["record"])
    for name in available_presets()["scenarios"]:
        jsonschema.validate(json.loads(output(capsys, "show", name, "--json")), both["scenario"])


@pytest.mark.parametrize("name", ["gen5x2", "links/gen6x8"])
def test_links_without_a_preset_can_be_shown_and_used(name, capsys, tmp_path):
    text = output(capsys, "show", name)
    file = tmp_path / "mine.toml"
    file.write_text(text)
    shown, _ = presets.link(str(file), Origin("test"), ())
    assert shown == presets.link(name.rpartition("/")[2], Origin("test"), ())[0]


def test_links_that_cannot_be(capsys):
    assert cli.main(["show", "gen5x3"]) == 2
    assert "genNxM with N from" in capsys.readouterr().err
