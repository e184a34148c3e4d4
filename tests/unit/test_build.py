"""The functions' package: the same bytes from the same sources, whole, and nothing more."""

import os
import random
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts import build
from scripts.build import AWS, LOCAL, SERVICES, Target

PACKAGES: dict[str, Path] = {}


@pytest.fixture(params=[AWS, LOCAL], ids=lambda target: target.name)
def target(request: pytest.FixtureRequest) -> Target:
    chosen: Target = request.param
    return chosen


@pytest.fixture
def package(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from nothing, once for all tests."""
    if target.name not in PACKAGES:
        folder = tmp_path_factory.mktemp(target.name)
        PACKAGES[target.name] = build.build(target, folder / "package.zip", folder / "work")
    return PACKAGES[target.name]


def names(package: Path) -> list[str]:
    return zipfile.ZipFile(package).namelist()


def test_two_builds_give_the_same_bytes(target: Target, package: Path, tmp_path: Path) -> None:
    again = build.build(target, tmp_path / "again.zip", tmp_path / "another place")

    assert again.read_bytes() == package.read_bytes()


def test_nothing_in_it_tells_when_or_where_it_was_built(package: Path) -> None:
    entries = zipfile.ZipFile(package).infolist()

    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    told = re.compile(r"\.pyc$|__pycache__|/(RECORD|INSTALLER|REQUESTED|direct_url\.json|uv_cache\.json)$|^bin/")
    assert [entry.filename for entry in entries if told.search(entry.filename)] == []


def test_it_holds_the_handlers_their_schemas_and_the_requirements(package: Path) -> None:
    inside = set(names(package))
    sources = {path.relative_to(build.ROOT).as_posix() for path in (build.ROOT / "handlers").rglob("*.py")}
    schemas = {path.relative_to(build.ROOT).as_posix() for path in (build.ROOT / "definitions/schemas").glob("*.json")}

    assert sources <= inside
    assert schemas
    assert schemas <= inside
    required = re.findall(r"^([a-z0-9-]+)==", build.REQUIREMENTS.read_text(), re.MULTILINE)
    shipped = {name.split("-")[0].replace("_", "-").lower() for name in inside if ".dist-info/" in name}
    assert set(required) == shipped


def test_the_services_it_describes_are_those_that_the_handlers_call(package: Path) -> None:
    sources = "".join(path.read_text() for path in (build.ROOT / "handlers").rglob("*.py"))
    called = set(re.findall(r"""_?client\(["']([a-z-]+)["']""", sources))
    described = {name.split("/")[2] for name in names(package) if re.match(r"botocore/data/[^/]+/", name)}

    assert described == SERVICES
    assert "stepfunctions" in SERVICES
    assert called | {"xray"} == SERVICES


def test_the_package_for_aws_has_binaries_for_arm_alone() -> None:
    binaries = [name for name in names(build.build(AWS)) if name.endswith(".so")]

    assert binaries
    assert all("cpython-313-aarch64-linux-gnu" in name for name in binaries)


@pytest.mark.parametrize("target", [LOCAL], indirect=True, ids=["local"])
def test_the_functions_run_with_nothing_but_the_package(package: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(package).extractall(tmp_path)
    entries = sorted(path.stem for path in (build.ROOT / "handlers").glob("*.py") if path.stem != "__init__")
    program = (
        f"import importlib, sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        f"for name in {entries!r}: assert callable(importlib.import_module('handlers.' + name).handler)\n"
        "import boto3, aws_xray_sdk.core\n"
        f"for name in {sorted(SERVICES)!r}: print(boto3.client(name, region_name='eu-west-1').meta.endpoint_url)\n"
    )
    command, env = [sys.executable, "-S", "-E", "-c", program], {"AWS_DEFAULT_REGION": "eu-west-1"}
    ran = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, check=False)

    assert ran.stderr == ""
    assert len(ran.stdout.splitlines()) == len(SERVICES)


def test_order_times_and_permissions_of_the_sources_leave_no_trace(tmp_path: Path) -> None:
    packages = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        letters = list("abcdef")
        random.Random(number).shuffle(letters)
        for letter in letters:
            (folder / letter).write_text(letter * 1000)
            os.utime(folder / letter, (number * 1e9, number * 1e9))
            (folder / letter).chmod(0o600 if number == 1 else 0o755)
        packages.append(tmp_path / f"{number}.zip")
        build.pack([(letter, folder / letter) for letter in "abcdef"], packages[-1])

    assert packages[0].read_bytes() == packages[1].read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "1.zip", "2", "2.zip"]


def test_it_is_written_again_only_when_something_in_it_changed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = tmp_path / "root/handlers/one.py"
    source.parent.mkdir(parents=True)
    source.write_text("1")
    monkeypatch.setattr(build, "ROOT", tmp_path / "root")

    def made() -> tuple[bytes, int]:
        package = build.build(LOCAL, tmp_path / "package.zip", tmp_path / "work")
        return package.read_bytes(), package.stat().st_ino

    first = made()
    assert made() == first
    os.utime(source)
    assert made() == first
    source.write_text("2")
    second = made()
    assert second[0] != first[0]
    (tmp_path / "package.zip").unlink()
    assert made()[0] == second[0]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("boto3/session.py", True),
        ("boto3/data/sqs/2012-11-05/resources-1.json", False),
        ("botocore/data/endpoints.json", True),
        ("botocore/data/partitions.json", True),
        ("botocore/data/sqs/2012-11-05/service-2.json.gz", True),
        ("botocore/data/sqs/2012-11-05/examples-1.json", False),
        ("botocore/data/stepfunctions/2016-11-23/service-2.json.gz", True),
        ("botocore/data/ec2/2016-11-15/service-2.json.gz", False),
        ("botocore/cacert.pem", True),
        ("wrapt/__init__.pyi", False),
        ("wrapt/__pycache__/__init__.cpython-311.pyc", False),
        ("wrapt-2.0.0.dist-info/licenses/LICENSE", True),
        ("wrapt-2.0.0.dist-info/RECORD", False),
        ("bin/jp.py", False),
    ],
)
def test_what_lambda_never_needs_is_left_out(name: str, kept: bool) -> None:
    assert build.kept(name) is kept


def test_an_unknown_target_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["build", "windows"])

    with pytest.raises(SystemExit):
        build.main()
    assert "no such target: windows" in capsys.readouterr().err
