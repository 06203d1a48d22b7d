"""The page opens in a browser without network and without scripts, and says what the record says."""

import copy
import html
import re
import tomllib
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from records import SHAPES, make_record

from sevpcie_core.errors import ConfigError
from sevpcie_core.experiment.scenario import Scenario, load_scenario
from sevpcie_core.report import view
from sevpcie_core.report.html import render_html, summary_html, write_html

HOSTILE = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "--></svg><script>document.title='owned'</script>",
    "{{ 7*7 }}{% raw %}",
    "$\\frac{a}",
    "</style></pre></details><h1>owned</h1>",
)

ONE = {"nic": {"one": SHAPES["nic"]["imix_rx"]}}
FEW = {"gpu": {"few": {"all": (9e3, 0.2, 9.0, 64, 12, 1.0, 2.0)}}}


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return make_record()


@pytest.fixture(scope="module")
def written(record: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_html(record, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def page_text(written: Path) -> str:
    return written.read_text()


@pytest.fixture(scope="module")
def browser(need: Callable[[str, str], str]) -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    path = need("chromium", "chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


class Opened:
    """A page opened offline, with all that went wrong while it opened."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        """Open a file."""
        self.trouble: list[str] = []
        self.requests: list[str] = []
        self.context = browser.new_context(**context)
        self.context.set_offline(True)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.trouble.append(message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("requestfailed", lambda request: self.trouble.append(request.url))
        self.page.on("dialog", lambda dialog: (self.trouble.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_load_state("networkidle")

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


def test_opens_offline_without_request_or_error(browser: Any, written: Path) -> None:
    for colours in ("light", "dark"):
        with Opened(browser, written, color_scheme=colours) as opened:
            assert opened.trouble == []
            assert opened.requests == [written.as_uri()]
            assert opened.page.evaluate("document.scripts.length") == 0
            # One CDF per scenario, overhead, ledger, wire.
            assert opened.page.locator("figure svg").count() == 7
            for figure in opened.page.locator("figure svg").all():
                box = figure.bounding_box()
                assert box is not None
                assert box["width"] > 600
                assert box["height"] > 150


def test_summary_in_the_browser_agrees_with_the_record(
    browser: Any, record: dict[str, Any], written: Path
) -> None:
    with Opened(browser, written) as opened:
        rows = opened.page.locator("table.summary tbody tr:not(.scenario)").all_inner_texts()
    lines = view.all_lines(record)
    assert len(rows) == len(lines)
    for line, text in zip(lines, rows, strict=True):
        assert line.workload in text
        assert line.class_title in text
        for row in line.protected.values():
            entry = row["overhead"]["latency_p50"]
            assert f"{view.pct_text(entry['value_pct'])} %" in text
            assert view.span_text(entry["range_low_pct"], entry["range_high_pct"]) in text
            assert row["verdict"]["end_to_end"] in text


def test_what_limits_under_one_protection_alone_stands_in_its_cell(record: dict[str, Any]) -> None:
    changed = copy.deepcopy(record)
    first = view.all_lines(changed)[0]
    rows = list(first.protected.values())
    for row, limit in zip(rows, ("credits", "iommu", "tags"), strict=True):
        row["limited_by"] = limit
    cells = re.findall(r'<td class="cost">.*?</td>', render_html(changed), re.DOTALL)[: len(rows)]
    assert [re.findall(r"limited by (\w+)", cell) for cell in cells] == [["credits"], ["iommu"], ["tags"]]


def test_wide_table_opens_and_holds_every_row(browser: Any, record: dict[str, Any], written: Path) -> None:
    with Opened(browser, written) as opened:
        assert not opened.page.locator("table.wide").is_visible()
        opened.page.locator("summary", has_text="Every workload").click()
        assert opened.page.locator("table.wide").is_visible()
        assert opened.page.locator("table.wide tbody tr:not(.scenario)").count() == len(record["results"])


def test_a_phone_does_not_scroll_sideways(browser: Any, written: Path) -> None:
    with Opened(browser, written, viewport={"width": 390, "height": 800}) as opened:
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_dark_and_light_are_readable(browser: Any, written: Path) -> None:
    """Text and background differ enough (WCAG AA: 4.5) for body text, notes and verdicts."""
    script = """names => { const s = getComputedStyle(document.documentElement);
        return Object.fromEntries(names.map(n => [n, s.getPropertyValue('--' + n).trim()])); }"""
    names = ["paper", "panel", "ink", "muted", "within", "inconclusive", "over"]
    for colours in ("light", "dark"):
        with Opened(browser, written, color_scheme=colours) as opened:
            found = opened.page.evaluate(script, names)
        for name in names[2:]:
            for ground in ("paper", "panel"):
                assert contrast(found[name], found[ground]) >= 4.5, (colours, name, ground)


def contrast(one: str, two: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def hostile_record() -> dict[str, Any]:
    record = make_record(["nvme", "mix"])
    for i, row in enumerate(record["results"]):
        row["workload"] = HOSTILE[0] + row["workload"]
        row["class"] = row["class"] if row["class"] == "all" else HOSTILE[1] + row["class"]
        row["decided_by"] = HOSTILE[i % len(HOSTILE)]
        row["limited_by"] = HOSTILE[3]
        if row["scheme"] != "none":
            row["scheme"] = HOSTILE[2] + row["scheme"]
    for arm in record["options"]["arms"]:
        arm["scheme"] = HOSTILE[2] + arm["scheme"]
    entry = record["options"]["scenarios"][0]
    entry["scenario"]["title"] = HOSTILE[5]
    entry["scenario"][HOSTILE[0]] = {HOSTILE[5]: HOSTILE[1]}
    entry["scenario"]["engine"] = {"x": {"low": HOSTILE[0], "typical": 1, "high": 2, "source": HOSTILE[1]}}
    record["versions"][HOSTILE[0]] = HOSTILE[1]
    record["host"]["cpu"] = HOSTILE[5]
    record["warnings"] = list(HOSTILE)
    record["created"] = HOSTILE[0]
    return record


def test_hostile_names_stay_text(browser: Any, tmp_path: Path) -> None:
    path = write_html(hostile_record(), tmp_path / "report.html")
    with Opened(browser, path) as opened:
        assert opened.trouble == []
        assert opened.requests == [path.as_uri()]
        assert opened.page.title().startswith("Cost of link encryption")
        assert opened.page.evaluate("document.scripts.length") == 0
        assert opened.page.locator("img").count() == 0
        assert opened.page.locator("h1").count() == 1
        assert HOSTILE[0] in opened.page.locator("table.summary").inner_text()
        assert opened.page.locator("li").all_inner_texts()[: len(HOSTILE)] == list(HOSTILE)


def test_hostile_names_make_no_tags() -> None:
    tags: dict[str, int] = {}

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags[tag] = tags.get(tag, 0) + 1
            assert not any(name.startswith("on") for name, _ in attrs)

    Tags().feed(render_html(hostile_record()))
    assert {"script", "img", "iframe", "object", "embed"}.isdisjoint(tags)


def test_nothing_points_outside(page_text: str) -> None:
    assert re.findall(r"(?:src|href)=\"(?!#|data:)[^\"]*\"", page_text) == []
    assert "url(http" not in page_text
    assert "@import" not in page_text
    assert "default-src 'none'" in page_text


def test_two_writes_are_the_same_bytes(record: dict[str, Any], page_text: str, tmp_path: Path) -> None:
    before = copy.deepcopy(record)
    one = write_html(record, tmp_path / "one.html")
    two = write_html(make_record(), str(tmp_path / "two.html"))
    assert one.read_bytes() == two.read_bytes() == page_text.encode()
    assert record == before


def test_it_says_what_the_numbers_rest_on(page_text: str) -> None:
    for said in (
        "SEV-PCIe is a profile of this project",
        "PCIe IDE is the standard",
        "No public measurement",
        "only some are measured",
        "Not modelled",
    ):
        assert said in page_text


def test_no_backtick_is_left(page_text: str) -> None:
    assert "`" not in page_text
    assert "<code>sevpcie validate</code>" in page_text
    record = make_record(["nvme"])
    record["warnings"] = ["one `code` and <b>", "an odd ` one"]
    text = render_html(record)
    assert "<li>one <code>code</code> and &lt;b&gt;</li>" in text
    assert "<li>an odd ` one</li>" in text


def test_scenarios_digest_and_versions_are_there(record: dict[str, Any], page_text: str) -> None:
    assert record["digest"] in page_text
    for name, version in record["versions"].items():
        assert f"<dt>{name}</dt><dd>{version}</dd>" in page_text
    sources = [
        tomllib.loads(html.unescape(text)) for text in re.findall(r"<pre>(.*?)</pre>", page_text, re.DOTALL)
    ]
    assert sources == [entry["scenario"] for entry in record["options"]["scenarios"]]


def test_the_unknowns_become_a_table() -> None:
    record = make_record(["nvme", "mix"])
    clock = {"low": 800, "typical": 1000, "high": 1250, "source": "structure"}
    for entry in record["options"]["scenarios"]:
        entry["scenario"]["arm"] = [
            {"scheme": {"name": name, "mechanism": "ide", "engine": {"clock_mhz": clock}}, "policy": "all"}
            for name in ("sev-pcie", "pcie-ide")
        ]
    text = render_html(record)
    assert text.count("engine.clock_mhz<small>SEV-PCIe, PCIe IDE</small>") == 1
    assert "The unknown parameters" not in render_html(make_record(["nvme"]))


def test_presets_are_written_out_if_they_are_those_of_the_run() -> None:
    record = make_record(["nvme"])
    scenario = load_scenario("nvme")
    entry = {"name": "nvme", "digest": scenario.digest(), "scenario": scenario.to_dict()}
    record["options"]["scenarios"] = [entry]
    text = render_html(record)
    (source,) = re.findall(r"<pre>(.*?)</pre>", text, re.DOTALL)
    told = tomllib.loads(html.unescape(source))
    assert Scenario.from_dict(told).digest() == entry["digest"]
    assert told["arm"][0]["scheme"]["engine"]["clock_mhz"]["low"] == 800
    assert "engine.clock_mhz<small>SEV-PCIe, PCIe IDE</small>" in text
    entry["digest"] = "another"
    (source,) = re.findall(r"<pre>(.*?)</pre>", render_html(record), re.DOTALL)
    assert tomllib.loads(html.unescape(source)) == entry["scenario"]


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(make_record(["nic"], arms=()), id="no protections"),
        pytest.param(make_record(["nic"], shapes=ONE), id="one workload"),
        pytest.param(make_record(["gpu"], shapes=FEW), id="nulls"),
        pytest.param(make_record(["nvme"]) | {"complete": False, "warnings": ["one"]}, id="incomplete"),
    ],
)
def test_odd_records(browser: Any, record: dict[str, Any], tmp_path: Path) -> None:
    path = write_html(record, tmp_path / "report.html")
    with Opened(browser, path) as opened:
        assert opened.trouble == []
        text = opened.page.locator("body").inner_text()
    assert "None" not in text.replace("NoneType", "")
    assert "nan" not in text
    assert ("Incomplete" in text) == (not record["complete"])


def test_a_folder_gets_report_html_and_a_bad_path_one_clear_line(
    record: dict[str, Any], tmp_path: Path
) -> None:
    assert write_html(record, tmp_path) == tmp_path / "report.html"
    with pytest.raises(ConfigError, match=r"cannot be written") as caught:
        write_html(record, tmp_path / "no" / "such" / "folder.html")
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html"]


def test_summary_for_a_notebook() -> None:
    record = make_record(["nvme"])
    text = summary_html(record)
    for line in view.all_lines(record):
        assert line.workload in text
    assert "+0.78 %" in text
    assert "5 paired seeds" in text
    assert "<script" not in summary_html(hostile_record())
    assert summary_html(record) == summary_html(make_record(["nvme"]))
