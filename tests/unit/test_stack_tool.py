"""What starts and stops the stack: its processes, its Terraform, its words when something is missing."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import lifeline, stack, terraform
from scripts.lifeline import Process
from scripts.stack import Instance, Stack, StackError, local_variables, merged, start
from scripts.terraform import MIRROR_SETTING, PROVIDER, VERSION, TerraformError, find_mirror, target

SETUP = terraform.ROOT / "scripts/setup.sh"


def eventually(probe: Callable[[], bool], within: float = 10.0) -> bool:
    deadline = time.monotonic() + within
    while not probe():
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.02)
    return True


def lives(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        os.kill(pid, 0)
        # It may be gone between two of these looks.
        return not (status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z")
    except (ProcessLookupError, FileNotFoundError):
        return False


def two_sleepers(folder: Path) -> list[str]:
    """A program with a child; each writes down its process."""
    program = f"echo $$ > {folder}/parent; sleep 300 & echo $! > {folder}/child; wait"
    return ["/bin/sh", "-c", program]


def pids(folder: Path) -> list[int]:
    files = [folder / "parent", folder / "child"]
    assert eventually(lambda: all(file.exists() and file.read_text().strip() for file in files))
    return [int(file.read_text()) for file in files]


class TestLifeline:
    def test_stopping_ends_the_program_and_its_children(self, tmp_path: Path) -> None:
        process = Process(two_sleepers(tmp_path), tmp_path / "log")
        running = pids(tmp_path)
        assert process.alive()
        assert all(map(lives, running))

        process.stop()

        assert not process.alive()
        assert eventually(lambda: not any(map(lives, running)))

    def test_everything_ends_when_its_starter_is_killed(self, tmp_path: Path) -> None:
        starter = (
            "import sys, signal; from pathlib import Path; from scripts.lifeline import Process\n"
            f"process = Process({two_sleepers(tmp_path)!r}, Path({str(tmp_path / 'log')!r}))\n"
            "signal.pause()"
        )
        with subprocess.Popen([sys.executable, "-c", starter], cwd=terraform.ROOT) as popen:
            running = pids(tmp_path)
            popen.kill()

        assert eventually(lambda: not any(map(lives, running)))

    def test_what_is_kept_outlives_its_starter_until_somebody_ends_it(self, tmp_path: Path) -> None:
        pid_file = tmp_path / "pid"
        process = Process(two_sleepers(tmp_path), tmp_path / "log", pid_file=pid_file)
        running = pids(tmp_path)
        process.keep()

        assert not eventually(lambda: not all(map(lives, running)), within=0.5)
        assert lifeline.holder(pid_file) is not None
        assert lifeline.end(pid_file)
        assert eventually(lambda: not any(map(lives, running)))
        assert not lifeline.end(pid_file)

    def test_a_number_that_another_process_has_now_is_not_taken_for_ours(self, tmp_path: Path) -> None:
        pid_file = tmp_path / "pid"
        pid_file.write_text(str(os.getpid()))

        assert lifeline.holder(pid_file) is None
        assert not lifeline.end(pid_file)

    def test_a_pid_file_has_one_holder(self, tmp_path: Path) -> None:
        pid_file = tmp_path / "pid"
        first = Process(two_sleepers(tmp_path), tmp_path / "log", pid_file=pid_file)
        pids(tmp_path)
        second = Process(["/bin/true"], tmp_path / "log", pid_file=pid_file)

        assert second.wait() == 1
        assert first.alive()
        first.stop()
        second.stop()
        assert lifeline.holder(pid_file) is None

    @pytest.mark.parametrize("code", [0, 3])
    def test_exit_code_and_output_are_the_programs(self, tmp_path: Path, code: int) -> None:
        program = f"echo out; echo err >&2; exit {code}"
        process = Process(["/bin/sh", "-c", program], tmp_path / "log", env={"PATH": os.defpath})

        assert process.wait() == code
        assert process.tail() == "out\nerr"
        process.stop()


def mirror(folder: Path, version: str = VERSION, packed: bool = False) -> Path:
    provider = folder / PROVIDER
    if packed:
        provider.mkdir(parents=True)
        (provider / f"terraform-provider-aws_{version}_{target()}.zip").touch()
    else:
        (provider / version / target()).mkdir(parents=True)
    return folder


class TestMirror:
    @pytest.mark.parametrize("packed", [False, True])
    def test_the_setting_comes_first(self, tmp_path: Path, packed: bool) -> None:
        named = mirror(tmp_path / "named", packed=packed)
        mirror(tmp_path / "home/.terraform.d/plugins")

        assert find_mirror({MIRROR_SETTING: str(named), "HOME": str(tmp_path / "home")}, tmp_path) == named

    def test_a_setting_without_the_provider_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        mirror(tmp_path, version="4.0.0")

        with pytest.raises(TerraformError, match=rf"{MIRROR_SETTING} is .* where .*aws {VERSION}"):
            find_mirror({MIRROR_SETTING: str(tmp_path)}, tmp_path)

    @pytest.mark.parametrize(
        ("folder", "variable", "value"),
        [
            ("home/.terraform.d/plugins", "HOME", "home"),
            ("home/.local/share/terraform/plugins", "HOME", "home"),
            ("data/terraform/plugins", "XDG_DATA_DIRS", "data"),
        ],
    )
    def test_terraforms_own_folders_are_known(self, tmp_path: Path, folder: str, variable: str, value: str) -> None:
        implied = mirror(tmp_path / folder)

        assert find_mirror({variable: str(tmp_path / value)}, tmp_path / "empty") == implied

    @pytest.mark.parametrize(("folder", "found"), [("a", True), ("a/b", True), ("a/b/c", False), ("tmp/b", False)])
    def test_the_top_of_the_file_system_is_searched(self, tmp_path: Path, folder: str, found: bool) -> None:
        placed = mirror(tmp_path / folder)

        assert find_mirror({"XDG_DATA_DIRS": "/nowhere"}, tmp_path) == (placed if found else None)

    def test_another_version_is_no_mirror(self, tmp_path: Path) -> None:
        mirror(tmp_path / "a", version="5.99.0")

        assert find_mirror({"XDG_DATA_DIRS": "/nowhere"}, tmp_path) is None


class TestTerraformsEnvironment:
    @pytest.fixture(autouse=True)
    def build_folder(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        monkeypatch.setattr(terraform, "BUILD", tmp_path / "build")
        return tmp_path / "build"

    def test_a_mirror_is_written_into_a_configuration_of_our_own(self, tmp_path: Path) -> None:
        named = mirror(tmp_path / "plugins")
        env = terraform.environment(
            base={MIRROR_SETTING: str(named), "HOME": "/nowhere", "TF_CLI_CONFIG_FILE": "/no/such/file"}
        )

        written = Path(env["TF_CLI_CONFIG_FILE"])
        assert written == tmp_path / "build/terraform.rc"
        assert f'path    = "{named}"' in written.read_text()
        assert f'exclude = ["{PROVIDER}"]' in written.read_text()

    def test_without_a_mirror_the_registry_is_used_and_its_files_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(terraform, "find_mirror", lambda env: None)
        text = Path(terraform.environment(base={})["TF_CLI_CONFIG_FILE"]).read_text()

        assert "provider_installation" not in text
        assert f'plugin_cache_dir = "{tmp_path}/build/cache/terraform"' in text
        assert (tmp_path / "build/cache/terraform").is_dir()

    def test_a_persons_own_provider_installation_is_left_alone(self, tmp_path: Path) -> None:
        own = tmp_path / "own.rc"
        own.write_text("provider_installation {\n  direct {}\n}\n")

        assert terraform.environment(base={"TF_CLI_CONFIG_FILE": str(own)})["TF_CLI_CONFIG_FILE"] == str(own)

    def test_nothing_of_the_shell_leads_to_a_real_account(self) -> None:
        env = terraform.environment(
            "http://127.0.0.1:1",
            "eu-west-1",
            {
                "AWS_PROFILE": "production",
                "AWS_ACCESS_KEY_ID": "AKIA",
                "AWS_SESSION_TOKEN": "t",
                "AWS_ENDPOINT_URL_SQS": "https://elsewhere",
                "TF_VAR_prefix": "mine",
                "TF_CLI_ARGS_apply": "-target=x",
                "PATH": "/bin",
            },
        )

        assert env["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
        assert env["AWS_ACCESS_KEY_ID"] == env["AWS_SECRET_ACCESS_KEY"] == "test"
        assert env["AWS_CONFIG_FILE"] == env["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull
        assert env["AWS_REGION"] == env["AWS_DEFAULT_REGION"] == "eu-west-1"
        assert env["PATH"] == "/bin"
        gone = {"AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_SQS", "TF_VAR_prefix", "TF_CLI_ARGS_apply"}
        assert not gone & env.keys()

    def test_checks_that_need_no_stack_reach_none(self) -> None:
        assert "AWS_ENDPOINT_URL" not in terraform.environment(base={"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})


def test_changes_are_merged_name_by_name() -> None:
    base = {"channels": {"webhook": {"timeout": 20, "memory": 256}, "email": {}}, "delays": [1, 2], "prefix": "a"}
    changes = {"channels": {"webhook": {"timeout": 5}}, "delays": [3], "alarms": {"period": 10}}

    assert merged(base, changes) == {
        "channels": {"webhook": {"timeout": 5, "memory": 256}, "email": {}},
        "delays": [3],
        "prefix": "a",
        "alarms": {"period": 10},
    }
    assert base["delays"] == [1, 2]


def test_a_local_stack_lets_devices_on_the_loopback_be_reached_and_nothing_else() -> None:
    variables = local_variables("http://127.0.0.1:4567", Path("/package.zip"))

    assert variables["webhook"] == {"allow_http": True, "allowed_networks": ["127.0.0.0/8"]}
    assert variables["api"]["url_template"] == "http://127.0.0.1:4567/_aws/execute-api/{api_id}/{stage}"
    assert variables["package_path"] == "/package.zip"


def example(end: Callable[[], None] | None = None) -> Stack:
    return Stack(
        endpoint_url="http://127.0.0.1:1", region="us-east-1", api_url="http://127.0.0.1:1/v1", ack_base_url="http://a",
        table="messages", queues={}, dlqs={}, topics={}, functions={}, machines={}, activities={},
        workflow_log_groups={}, webhook_key_secret="arn", mailbox=None, requests=None, _end=end,
    )  # fmt: skip


def test_stack_json_holds_what_the_stack_is_and_nothing_more() -> None:
    described = json.loads(json.dumps(example(lambda: None).describe()))

    assert Stack(**described) == example()
    assert described["mailbox"] is None
    assert not any(name.startswith("_") for name in described)


def test_a_stack_is_stopped_once() -> None:
    stops: list[str] = []
    with example(lambda: stops.append("stopped")) as running:
        running.stop()

    assert stops == ["stopped"]


class TestStart:
    @pytest.fixture(autouse=True)
    def own_localstack(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)

    def localstack(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str) -> None:
        fake = tmp_path / "fake-localstack"
        fake.write_text(f"#!/bin/sh\n{program}\n")
        fake.chmod(0o755)
        monkeypatch.setattr(stack, "LOCALSTACK", fake)

    def test_a_localstack_that_dies_is_reported_with_its_last_words(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        self.localstack(monkeypatch, tmp_path, "echo 'no room left'; exit 1")

        with pytest.raises(StackError, match=r"LocalStack ended while it started[^$]*no room left"):
            start("broken", directory=tmp_path / "broken")
        assert not lifeline.holder(tmp_path / "broken/mailbox.pid")
        assert not lifeline.holder(tmp_path / "broken/localstack.pid")

    def test_another_port_is_tried_when_somebody_took_it(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.localstack(monkeypatch, tmp_path, f"echo try >> {tmp_path}/tries; echo 'cannot listen on it'; exit 1")

        with pytest.raises(StackError, match="cannot listen"):
            start("taken", directory=tmp_path / "taken")
        assert (tmp_path / "tries").read_text().split() == ["try"] * stack.TRIES

    def test_one_folder_has_one_stack(self, tmp_path: Path) -> None:
        running = Process(["/bin/sleep", "300"], tmp_path / "log", pid_file=tmp_path / "localstack.pid")
        assert eventually(lambda: lifeline.holder(tmp_path / "localstack.pid") is not None)

        with pytest.raises(StackError, match="is in use by process"):
            Instance(tmp_path).boot()
        assert running.alive()
        running.stop()

    @pytest.mark.parametrize(
        ("endpoint_before", "kept"),
        [(None, False), ("http://127.0.0.1:2", False), ("http://127.0.0.1:1", True)],
    )
    def test_what_was_made_in_one_localstack_is_not_looked_for_in_another(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, endpoint_before: str | None, kept: bool
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1/")
        state = tmp_path / "terraform.tfstate"
        state.write_text("{}")
        if endpoint_before:
            notes = {"foreign": True, "endpoint_url": endpoint_before, "region": "us-east-1"}
            (tmp_path / "instance.json").write_text(json.dumps(notes))

        Instance(tmp_path).boot()

        assert state.exists() is kept

    def test_without_localstack_it_says_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(stack, "LOCALSTACK", tmp_path / "nothing")

        with pytest.raises(StackError, match=r"setup\.sh localstack"):
            start("missing", directory=tmp_path / "missing")

    def test_an_interrupt_at_any_time_leaves_no_process(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.localstack(monkeypatch, tmp_path, "exec sleep 300")
        runner = (
            "import sys; from pathlib import Path; from scripts import stack\n"
            f"stack.LOCALSTACK = Path({str(tmp_path / 'fake-localstack')!r})\n"
            f"stack.start('interrupted', directory=Path({str(tmp_path / 'interrupted')!r}))"
        )
        with subprocess.Popen([sys.executable, "-c", runner], cwd=terraform.ROOT, stderr=subprocess.DEVNULL) as popen:
            files = [tmp_path / f"interrupted/{name}.pid" for name in ("mailbox", "localstack")]
            assert eventually(lambda: all(map(lifeline.holder, files)))
            popen.send_signal(signal.SIGINT)

        assert popen.returncode != 0
        assert not any(map(lifeline.holder, files))


class TestCommands:
    @pytest.fixture(autouse=True)
    def build_folder(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(stack, "BUILD", tmp_path)

    def run(self, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["stack", *arguments])
        return stack.main()

    def test_down_says_when_nothing_runs(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(monkeypatch, "down") == 0
        assert "No stack is running" in capsys.readouterr().out
        assert self.run(monkeypatch, "down", "--if-running") == 0
        assert capsys.readouterr().out == ""

    def test_env_of_a_running_stack_is_for_the_shell(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        assert self.run(monkeypatch, "env") == 1
        (tmp_path / "up").mkdir()
        running = Process(["/bin/sleep", "300"], tmp_path / "log", pid_file=tmp_path / "up/localstack.pid")
        assert eventually(lambda: lifeline.holder(tmp_path / "up/localstack.pid") is not None)
        notes = {"foreign": False, "endpoint_url": "http://127.0.0.1:1", "region": "us-east-1"}
        (tmp_path / "up/instance.json").write_text(json.dumps(notes))
        (tmp_path / "stack.json").write_text(json.dumps(example().describe()))

        assert self.run(monkeypatch, "env") == 0
        assert "export AWS_ENDPOINT_URL=http://127.0.0.1:1\n" in capsys.readouterr().out
        assert self.run(monkeypatch, "down") == 0
        assert eventually(lambda: not running.alive())
        assert not (tmp_path / "stack.json").exists()
        running.stop()


class TestSetup:
    """The words of scripts/setup.sh on a machine that lacks something."""

    @pytest.fixture
    def machine(self, tmp_path: Path) -> Path:
        """A PATH with nothing but what any machine has."""
        for name in ("sh", "dirname", "sed", "cut", "mkdir"):
            found = next(folder for folder in ("/bin", "/usr/bin") if Path(folder, name).exists())
            (tmp_path / name).symlink_to(Path(found, name))
        return tmp_path

    def add(self, machine: Path, name: str, says: str) -> None:
        (machine / name).write_text(f"#!/bin/sh\n{says}\n")
        (machine / name).chmod(0o755)

    def words(self, machine: Path, part: str, **env: str) -> tuple[int, str]:
        ran = subprocess.run(
            [SETUP, part], env={"PATH": str(machine), **env}, capture_output=True, text=True, check=False
        )
        assert ran.stdout == ""
        return ran.returncode, ran.stderr

    def test_terraform_is_missing(self, machine: Path) -> None:
        code, words = self.words(machine, "terraform")

        assert code == 1
        assert words.startswith("Terraform is missing: install Terraform 1.11 or newer")
        assert words.count("\n") == 1

    @pytest.mark.parametrize(
        ("version", "code"), [("1.10.5", 1), ("0.15.0", 1), ("1.11.0", 0), ("1.12.2", 0), ("2.0.0", 0)]
    )
    def test_terraform_must_be_new_enough(self, machine: Path, version: str, code: int) -> None:
        self.add(machine, "terraform", f"echo 'Terraform v{version}'; echo 'on linux_amd64'")

        got, words = self.words(machine, "terraform")
        assert got == code
        assert (f"Terraform {version} is too old" in words) is bool(code)

    def test_python_is_missing(self, machine: Path) -> None:
        self.add(machine, "python3", "exit 1")  # another version, or a version manager that refuses
        code, words = self.words(machine, "python")

        assert code == 1
        assert words.startswith("Python 3.11 is missing")
        assert words.count("\n") == 1

    def test_a_named_python_must_be_the_right_one(self, machine: Path) -> None:
        self.add(machine, "python3.9", "exit 1")
        code, words = self.words(machine, "python", UNTIL_ACK_PYTHON="python3.9")

        assert code == 1
        assert words == "UNTIL_ACK_PYTHON is python3.9, which is no Python 3.11: name one or unset it.\n"
