# SPDX-License-Identifier: Apache-2.0
"""What a stranger meets: forms for issues, hooks, the citation, and links that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import BIN, REPOSITORY
from tests.project.commands import targets

FORMS = sorted((REPOSITORY / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md"), *(REPOSITORY / ".github").rglob("*.md")])


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_there_is_a_form_for_a_fault_an_idea_and_a_question() -> None:
    assert [path.stem for path in FORMS] == ["bug", "lesson", "question"]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_is_one_that_github_shows(path: Path) -> None:
    form = read(path)
    assert set(form) == {"name", "description", "labels", "body"}
    asked = [element for element in form["body"] if element["type"] != "markdown"]
    assert asked
    names = [element["id"] for element in asked]
    assert len(set(names)) == len(names)
    for element in asked:
        assert element["type"] in ("textarea", "input", "dropdown", "checkboxes")
        assert element["attributes"]["label"]
        if element["type"] == "dropdown":
            assert all(isinstance(option, str) for option in element["attributes"]["options"])
    assert any(element.get("validations", {}).get("required") for element in asked)


def test_who_tells_of_a_fault_is_asked_for_what_finds_it() -> None:
    asked = {element.get("id"): element for element in read(REPOSITORY / ".github/ISSUE_TEMPLATE/bug.yml")["body"]}
    for name, words in {
        "doctor": "`labkit doctor`",
        "report": "`labkit report`",
        "version": "`labkit --version`",
    }.items():
        assert words in str(asked[name]["attributes"]), name


def test_hooks_are_the_tools_of_make_check_out_of_the_virtual_environment() -> None:
    config = read(REPOSITORY / ".pre-commit-config.yaml")
    assert [repo["repo"] for repo in config["repos"]] == ["local"], "nothing is fetched"
    checked = targets()["check"].replace("$(BIN)", ".venv/bin").replace("$(VENV)", ".venv")
    for hook in config["repos"][0]["hooks"]:
        program, *arguments = hook["entry"].split()
        assert (BIN / Path(program).name).exists(), hook["id"]
        command = " ".join([program, *(word for word in arguments if word != "--force-exclude")])
        assert command in " ".join(checked.replace(" .", "").split()) or command in checked, hook["id"]
        assert hook["language"] == "system"


def test_the_citation_has_what_one_needs() -> None:
    citation = read(REPOSITORY / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "version", "license"} <= set(citation)
    assert citation["license"] == "Apache-2.0"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    # A badge's picture is a link within a link.
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        # What GitHub serves beside the files: its own pages of this repository.
        if "://" in target or target.startswith(("#", "../../actions/", "../blob/")):
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve()
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles], target
