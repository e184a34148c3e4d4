"""The functions' package, byte for byte the same from the same sources.

build/package-arm64-py313.zip is for AWS (arm64, python3.13); build/package-local.zip is for LocalStack, which runs the
functions on this machine. At the root of each lie `handlers`, `definitions/schemas` and the packages of
requirements.txt. Dependencies are installed again only when requirements.txt changes, and a package is written again
only when anything in it does.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from uv import find_uv_bin

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
REQUIREMENTS = ROOT / "requirements.txt"
SOURCES = {"handlers": "*.py", "definitions/schemas": "*.json"}
LAMBDA_LIMIT = 50 * 1024 * 1024
"""Bytes that Lambda takes as a direct upload."""

SERVICES = {"cloudwatch", "dynamodb", "secretsmanager", "ses", "sns", "sqs", "stepfunctions", "xray"}
"""The AWS services that the functions call, and X-Ray, for which its SDK makes a client on import. botocore describes
more than 400, which is most of its size, and reads just those that it is asked for, so the others are left out. A
test compares this list with the clients that the handlers make."""

DROPPED = (
    "*/__pycache__/*",
    "*.pyc",
    "*.pyi",
    "bin/*",
    ".lock",
    "boto3/data/*",  # models of boto3's resources, which the functions do not use
    "boto3/examples/*",
    "botocore/data/*/examples-1.json*",
    # What installers note about the machine they ran on.
    "*.dist-info/RECORD",
    "*.dist-info/INSTALLER",
    "*.dist-info/REQUESTED",
    "*.dist-info/direct_url.json",
    "*.dist-info/uv_cache.json",
)


@dataclass(frozen=True, slots=True)
class Target:
    """What a package is for: its file, and how uv is told to choose wheels."""

    name: str
    options: tuple[str, ...]

    @property
    def package(self) -> Path:
        """The package's file."""
        return BUILD / f"package-{self.name}.zip"


AWS = Target("arm64-py313", ("--python-platform", "aarch64-manylinux_2_28", "--python-version", "3.13"))
LOCAL = Target("local", ("--python", sys.executable))


def build(target: Target, package: Path | None = None, work: Path = BUILD / "package") -> Path:
    """Make the package unless it is there already; returns its file."""
    package = package or target.package
    entries = dict(sorted({**dict(_sources()), **dict(_installed(_dependencies(target, work)))}.items()))
    digest = hashlib.sha256()
    for name, file in entries.items():
        digest.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    made_of = work / f"{package.name}.sha256"
    if not (package.exists() and made_of.exists() and made_of.read_text() == digest.hexdigest()):
        pack(entries.items(), package)
        made_of.write_text(digest.hexdigest())
    return package


def pack(entries: Iterable[tuple[str, Path]], package: Path) -> None:
    """Write a zip file of (name, file) in order, with nothing in it that depends on when, where or by whom."""
    partial = package.with_suffix(f".{os.getpid()}")
    with zipfile.ZipFile(partial, "w") as archive:
        for name, file in entries:
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # Unix, wherever it is built
            info.external_attr = 0o100644 << 16
            archive.writestr(info, file.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)
    partial.replace(package)


def kept(name: str) -> bool:
    """Whether an installed file belongs into the package."""
    if any(fnmatch(name, pattern) for pattern in DROPPED):
        return False
    parts = name.split("/")
    in_model = parts[:2] == ["botocore", "data"] and len(parts) > 3
    return not in_model or parts[2] in SERVICES


def _sources() -> Iterator[tuple[str, Path]]:
    for folder, pattern in SOURCES.items():
        for file in (ROOT / folder).rglob(pattern):
            yield file.relative_to(ROOT).as_posix(), file


def _installed(folder: Path) -> Iterator[tuple[str, Path]]:
    for file in folder.rglob("*"):
        name = file.relative_to(folder).as_posix()
        if file.is_file() and kept(name):
            yield name, file


def _dependencies(target: Target, work: Path) -> Path:
    """The folder with the installed requirements."""
    key = hashlib.sha256(REQUIREMENTS.read_bytes() + repr(target.options).encode()).hexdigest()[:16]
    folder = work / f"{target.name}-{key}"
    if folder.exists():
        return folder
    work.mkdir(parents=True, exist_ok=True)
    for old in work.glob(f"{target.name}-*"):
        shutil.rmtree(old, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=work))
    wheels = ("--only-binary", ":all:", "--require-hashes", "--no-deps", "-r", str(REQUIREMENTS))
    command = [find_uv_bin(), "pip", "install", "--quiet", "--target", str(partial), *target.options, *wheels]
    try:
        subprocess.run(command, check=True, env={**os.environ, "UV_CACHE_DIR": str(BUILD / "cache/uv")})
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _report(package: Path) -> str:
    with zipfile.ZipFile(package) as archive:
        unpacked = sum(info.file_size for info in archive.infolist())
        files = len(archive.infolist())
    packed = package.stat().st_size
    if packed > LAMBDA_LIMIT:
        sys.exit(f"{package} has {packed} bytes; Lambda takes {LAMBDA_LIMIT}.")
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    shown = package.relative_to(ROOT) if package.is_relative_to(ROOT) else package
    return f"{shown}  {packed / 1e6:.1f} MB ({unpacked / 1e6:.1f} MB in {files} files)  sha256 {digest[:16]}…"


def main() -> int:
    """Make the packages and say how large they are."""
    parser = argparse.ArgumentParser(prog="build", description=main.__doc__)
    parser.add_argument("target", nargs="*", help=f"{AWS.name} or {LOCAL.name} (default: both)")
    wanted = parser.parse_args().target or [AWS.name, LOCAL.name]
    if unknown := set(wanted) - {AWS.name, LOCAL.name}:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    try:
        for target in (AWS, LOCAL):
            if target.name in wanted:
                print(_report(build(target)))
    except subprocess.CalledProcessError:
        print("The packages of requirements.txt could not be installed: see uv's message above.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
