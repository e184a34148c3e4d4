"""Terraform as these scripts use it: the provider found by itself, and everything it writes under build/."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.lifeline import Process

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
MODULE = ROOT / "terraform"
MIRROR_SETTING = "UNTIL_ACK_TF_MIRROR"
PROVIDER = "registry.terraform.io/hashicorp/aws"
VERSION = "5.100.0"
DEFAULT_REGION = "us-east-1"
_NOT_SEARCHED = {"proc", "sys", "dev", "run", "tmp"}
_ABOVE_ALL = (  # variables of a person's shell that would send calls elsewhere or change what is applied
    "AWS_ENDPOINT_URL_",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_CA_BUNDLE",
    "TF_CLI_ARGS",
    "TF_VAR_",
    "TF_WORKSPACE",
)


class TerraformError(RuntimeError):
    """Terraform failed; the message ends with what it said last."""


def target() -> str:
    """The platform as Terraform names it, e.g. linux_amd64."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return f"{sys.platform}_{machine}"


def holds_provider(folder: Path) -> bool:
    """Whether the folder is a mirror with the provider's version for this platform, unpacked or packed."""
    provider = folder / PROVIDER
    packed = provider / f"terraform-provider-aws_{VERSION}_{target()}.zip"
    return (provider / VERSION / target()).is_dir() or packed.is_file()


def find_mirror(env: Mapping[str, str], root: Path = Path("/")) -> Path | None:
    """The folder that holds the provider: by the setting, Terraform's implied ones, else near the file system's top."""
    if setting := env.get(MIRROR_SETTING):
        mirror = Path(setting).expanduser()
        if not holds_provider(mirror):
            raise TerraformError(
                f"{MIRROR_SETTING} is {setting}, where {PROVIDER} {VERSION} for {target()} is not: correct or unset it."
            )
        return mirror.resolve()
    return next((folder for folder in [*_implied(env), *_near_the_top(root)] if holds_provider(folder)), None)


def _implied(env: Mapping[str, str]) -> Iterator[Path]:
    if home := env.get("HOME"):
        yield Path(home) / ".terraform.d/plugins"
        yield Path(home) / "Library/Application Support/io.terraform/plugins"
        yield Path(env.get("XDG_DATA_HOME") or f"{home}/.local/share") / "terraform/plugins"
    for data in (env.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(":"):
        yield Path(data) / "terraform/plugins"


def _near_the_top(root: Path) -> Iterator[Path]:
    """The folders of the first two levels. A planted one does no harm: the lock file refuses any other provider."""
    for top in _folders(root):
        if top.name not in _NOT_SEARCHED:
            yield top
            yield from _folders(top)


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def cli_config(env: Mapping[str, str], mirror: Path | None, cache: Path) -> str:
    """Terraform's CLI configuration: the mirror where there is one, else the registry with a cache under build/."""
    if mirror is None:
        return f"disable_checkpoint = true\nplugin_cache_dir = {json.dumps(str(cache))}\n"
    provider = json.dumps(PROVIDER)
    return f"""disable_checkpoint = true
provider_installation {{
  filesystem_mirror {{
    path    = {json.dumps(str(mirror))}
    include = [{provider}]
  }}
  direct {{
    exclude = [{provider}]
  }}
}}
"""


def environment(
    endpoint: str | None = None, region: str = DEFAULT_REGION, base: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The variables Terraform runs with: our own CLI configuration, and keys that no real account knows."""
    env = {name: value for name, value in base.items() if not name.startswith(_ABOVE_ALL)}
    env |= {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "CHECKPOINT_DISABLE": "1",
        "TF_IN_AUTOMATION": "1",
        "TF_INPUT": "0",
        "TF_CLI_CONFIG_FILE": str(_config_file(base)),
    }
    env.pop("AWS_ENDPOINT_URL", None)
    if endpoint:
        env["AWS_ENDPOINT_URL"] = endpoint
        # A proxy of the shell's would be asked for 127.0.0.1 too.
        env["NO_PROXY"] = env["no_proxy"] = "127.0.0.1,localhost"
    return env


def _config_file(env: Mapping[str, str]) -> Path:
    """A person's own configuration that says where providers come from is used as it is; else one under build/."""
    own = Path(env.get("TF_CLI_CONFIG_FILE") or Path(env.get("HOME") or "/") / ".terraformrc")
    if not env.get(MIRROR_SETTING) and own.is_file() and "provider_installation" in own.read_text():
        return own
    cache = BUILD / "cache/terraform"
    cache.mkdir(parents=True, exist_ok=True)
    file = BUILD / "terraform.rc"
    text = cli_config(env, find_mirror(env), cache)
    if not file.exists() or file.read_text() != text:
        partial = file.with_suffix(f".{os.getpid()}")
        partial.write_text(text)
        partial.replace(file)
    return file


class Terraform:
    """One state of a module. The module's own folder is never written to: state, data and log lie in `directory`."""

    def __init__(self, directory: Path, env: Mapping[str, str], module: Path = MODULE) -> None:
        self.directory = directory.resolve()
        self.module = module
        self.log = self.directory / "terraform.log"
        self._env = {**env, "TF_DATA_DIR": str(self.directory / "terraform")}
        self._state = f"-state={self.directory / 'terraform.tfstate'}"
        self.directory.mkdir(parents=True, exist_ok=True)

    def init(self) -> None:
        """Install the provider.

        The lock file has its hashes of both kinds, the registry's (zh) and an unpacked mirror's (h1), so that the same
        file serves both; `readonly` keeps Terraform from rewriting it.
        """
        self.run("init", "-lockfile=readonly", "-no-color")

    def apply(self, variables: Mapping[str, Any]) -> None:
        """Create or change the resources."""
        self.run("apply", "-auto-approve", "-no-color", "-parallelism=40", self._state, self._variables(variables))

    def destroy(self, variables: Mapping[str, Any], except_type: str = "") -> None:
        """Remove the resources, but for those of one type, which are forgotten."""
        listed = self.run("state", "list", self._state).split() if except_type else []
        if left := [address for address in listed if except_type in address]:
            self.run("state", "rm", self._state, *left)
        self.run("destroy", "-auto-approve", "-no-color", "-parallelism=40", self._state, self._variables(variables))

    def outputs(self) -> dict[str, Any]:
        """The module's outputs."""
        command = ["terraform", f"-chdir={self.module}", "output", "-no-color", "-json", self._state]
        text = subprocess.run(command, env=self._env, capture_output=True, check=True, text=True).stdout
        return {name: output["value"] for name, output in json.loads(text).items()}

    def run(self, command: str, *arguments: str) -> str:
        """Run one Terraform command; returns what it printed. Raises `TerraformError` with the last of it."""
        start = self.log.stat().st_size if self.log.exists() else 0
        process = Process(["terraform", f"-chdir={self.module}", command, *arguments], self.log, self._env)
        try:
            code = process.wait()
        finally:
            process.stop()
        with self.log.open() as log:
            log.seek(start)
            text = log.read()
        if code:
            raise TerraformError(f"terraform {command} failed (all of it: {self.log}):\n{_last(text)}")
        return text

    def _variables(self, variables: Mapping[str, Any]) -> str:
        file = self.directory / "variables.tfvars.json"
        file.write_text(json.dumps(variables, indent=2))
        return f"-var-file={file}"


def _last(text: str, lines: int = 40) -> str:
    """The errors if there are any, else the last lines: an apply's errors stand below hundreds of lines of progress."""
    found = text.splitlines()
    errors = [number for number, line in enumerate(found) if "Error:" in line]
    begin = max(errors[0] - 1, 0) if errors else -lines
    return "\n".join(found[begin:][:lines])


def run_checks(commands: Sequence[Sequence[str]]) -> str:
    """Run commands on the module that need its provider but no state, e.g. `validate`; returns what they printed."""
    terraform = Terraform(BUILD / "terraform-checks", environment())
    terraform.log.unlink(missing_ok=True)
    terraform.init()
    return "".join(terraform.run(command, *arguments) for command, *arguments in commands)
