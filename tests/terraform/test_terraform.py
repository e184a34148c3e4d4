"""Terraform's own checks, and the rules that hold for every variable and module."""

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from handlers.delivery.workflows import CATALOGUE, EndedBy
from scripts.terraform import MODULE, Terraform, TerraformError, environment

DEFINITIONS = MODULE.parent / "definitions"
SUITES = sorted(path.name for path in (MODULE / "tests").glob("*.tftest.hcl"))
MODULES = sorted(path for path in (MODULE / "modules").iterdir() if path.is_dir())
MOST_INPUTS = 15
_BLOCK = r'^{kind} "(?P<name>[^"]+)" {{\n(?P<body>.*?)^}}'


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Terraform with its provider, and without a region or keys that mean anything."""
    terraform = Terraform(tmp_path_factory.mktemp("terraform"), environment())
    terraform.init()
    return terraform


def blocks(folder: Path, kind: str) -> dict[str, str]:
    """The blocks of a kind in a module, by name."""
    text = "\n".join(path.read_text() for path in sorted(folder.glob("*.tf")))
    return {m["name"]: m["body"] for m in re.finditer(_BLOCK.format(kind=kind), text, re.DOTALL | re.MULTILINE)}


def refused(module: Path) -> Counter[str]:
    """How many runs of the suites expect each variable of a module to be refused."""
    source = "" if module == MODULE else f"./modules/{module.name}"
    counts: Counter[str] = Counter()
    for suite in SUITES:
        text = (MODULE / "tests" / suite).read_text()
        for run in re.finditer(_BLOCK.format(kind="run"), text, re.DOTALL | re.MULTILINE):
            tested = re.search(r'source\s*=\s*"([^"]+)"', run["body"])
            expected = re.search(r"expect_failures\s*=\s*\[(.*?)\]", run["body"], re.DOTALL)
            if expected and (tested[1] if tested else "") == source:
                counts.update(re.findall(r"\bvar\.(\w+)", expected[1]))
    return counts


def test_is_formatted() -> None:
    command = ["terraform", "fmt", "-check", "-diff", "-recursive", str(MODULE)]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stdout == ""


def test_is_valid(terraform: Terraform) -> None:
    assert "The configuration is valid" in terraform.run("validate", "-no-color")


@pytest.mark.parametrize("suite", SUITES)
def test_suite(terraform: Terraform, suite: str) -> None:
    said = terraform.run("test", "-no-color", f"-filter=tests/{suite}")
    runs = len(re.findall(r'^run "', (MODULE / "tests" / suite).read_text(), re.MULTILINE))
    assert f"Success! {runs} passed, 0 failed." in said


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_modules_have_few_inputs(module: Path) -> None:
    assert 1 <= len(blocks(module, "variable")) <= MOST_INPUTS


@pytest.mark.parametrize("module", [MODULE, *MODULES], ids=lambda path: path.name)
def test_every_input_and_output_is_described(module: Path) -> None:
    vague = [
        name
        for kind, needed in (("variable", {"description", "type"}), ("output", {"description"}))
        for name, body in blocks(module, kind).items()
        if not needed <= set(re.findall(r"^  (\w+)\s*=", body, re.MULTILINE))
    ]
    assert vague == []


@pytest.mark.parametrize("module", [MODULE, *MODULES], ids=lambda path: path.name)
def test_every_refusal_is_tested(module: Path) -> None:
    """Each validation of a variable has a run that expects it, and says which setting is wrong."""
    expected = refused(module)
    for name, body in blocks(module, "variable").items():
        messages = re.findall(r'error_message = "(\w+)', body)
        assert all(message == name for message in messages), name
        if module.name != "secret":  # see test_secrets_that_cannot_be
            assert expected[name] >= len(messages), f"{module.name}: {name}"


def test_secrets_that_cannot_be(tmp_path: Path) -> None:
    """`terraform test` cannot mock the ephemeral value of a secret, but a plan is refused before it is made."""
    module = shutil.copytree(MODULE / "modules/secret", tmp_path / "secret")
    shutil.copy(MODULE / ".terraform.lock.hcl", module)
    # Without keys, so that the provider gives up at once.
    keyless = {name: value for name, value in environment().items() if not name.endswith(("_KEY_ID", "_ACCESS_KEY"))}
    terraform = Terraform(tmp_path, keyless, module)
    terraform.init()
    with pytest.raises(TerraformError):
        terraform.run("plan", "-no-color", "-var=name=a name", "-var=description=A key.", "-var=recovery_days=3")
    said = terraform.log.read_text()
    assert "name must have at most 512" in said
    assert "recovery_days must be 0, or 7 to 30" in said


def test_no_provider_is_configured_here() -> None:
    """Somebody's own root brings the provider, and the state's place."""
    files = [*MODULE.glob("*.tf"), *MODULE.glob("modules/*/*.tf")]
    assert [f for f in files if re.search(r'^\s*(provider|backend) "', f.read_text(), re.MULTILINE)] == []


def test_every_alarm_points_at_a_chapter_that_is_there() -> None:
    anchors = set(re.findall(r'anchor\s*=\s*"([^"]+)"', (MODULE / "modules/alarms/main.tf").read_text()))
    headings = re.findall(r"^#+ (.+)$", (MODULE.parent / "docs/operations.md").read_text(), re.MULTILINE)
    chapters = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert anchors
    assert anchors <= chapters


def catalogue() -> dict[str, dict[str, str]]:
    """Terraform's catalogue of workflows: definition, type and how attempts are asked for, by workflow."""
    text = re.search(r"^  catalogue = \{\n(.*?)^  \}", (MODULE / "workflows.tf").read_text(), re.DOTALL | re.MULTILINE)
    assert text
    entries = re.finditer(r"^    (?P<name>\w+) = \{\n(?P<body>.*?)^    \}", text[1], re.DOTALL | re.MULTILINE)
    return {
        entry["name"]: dict(re.findall(r'^      (\w+)\s*= "(\w+)"', entry["body"], re.MULTILINE)) for entry in entries
    }


def test_the_catalogue_is_the_handlers() -> None:
    """The same workflows; and what an ending must complete is what Terraform gives the right to complete."""
    assert set(catalogue()) == set(CATALOGUE)
    assert {workflow for workflow, entry in catalogue().items() if entry["asks"] == "task"} == {
        workflow for workflow, settings in CATALOGUE.items() if settings.ended_by is EndedBy.TASK
    }
    stopped = [w for w, settings in CATALOGUE.items() if settings.ended_by is EndedBy.STOP or settings.pulled]
    listed = re.search(r"^  stopped +=.* in \[(.*?)\]", (MODULE / "permissions.tf").read_text(), re.MULTILINE)
    assert listed
    assert stopped == re.findall(r'"(\w+)"', listed[1])


def test_a_workflow_is_short_lived_where_its_machine_is() -> None:
    express = {workflow for workflow, entry in catalogue().items() if entry["type"] == "EXPRESS"}
    assert express == {workflow for workflow, settings in CATALOGUE.items() if settings.longest is not None}


def test_every_workflow_may_be_chosen() -> None:
    body = blocks(MODULE, "variable")["workflows"]
    default = re.search(r"default\s*= \[(.*?)\]", body, re.DOTALL)
    known = re.search(r"setsubtract\(var\.workflows, \[(.*?)\]", body, re.DOTALL)
    assert default
    assert known
    assert re.findall(r'"(\w+)"', default[1]) == list(catalogue())
    assert re.findall(r'"(\w+)"', known[1]) == list(catalogue())


def test_every_definition_is_deployed_and_its_variables_are_given() -> None:
    used = {f"{entry['definition']}.asl.json" for entry in catalogue().values()}
    assert used == {path.name for path in DEFINITIONS.glob("*.asl.json")}
    text = re.search(
        r"^  substitutions = \{\n(.*?)^  \}", (MODULE / "workflows.tf").read_text(), re.DOTALL | re.MULTILINE
    )
    assert text
    given = set(re.findall(r"^    (\w+)\s*=", text[1], re.MULTILINE))
    assert given == {name for file in used for name in re.findall(r"\$\{(\w+)\}", (DEFINITIONS / file).read_text())}
