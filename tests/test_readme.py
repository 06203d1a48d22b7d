"""The README tells the truth: what it shows of the main job is what the main job prints."""

from pathlib import Path

from tools.write_readme import printed, shown

from sevpcie_core import compare


def test_the_table_is_what_the_main_job_prints(root: Path) -> None:
    assert shown((root / "README.md").read_text()) == printed(compare().record.to_dict())


def test_every_document_it_names_exists(root: Path) -> None:
    text = (root / "README.md").read_text()
    for part in text.split("](")[1:]:
        assert (root / part.split(")")[0]).exists(), part
