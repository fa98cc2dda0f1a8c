"""The command generator: real programs, hostile prompts, time limits, and secrets that stay secret."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refeval.cases import ClipSpec
from refeval.clips import encode_clip, open_clip
from refeval.errors import BadInput, UnusableClip
from refeval.generators.arguments import PLACEHOLDERS, check_arguments, fill_arguments
from refeval.generators.base import RenderJob
from refeval.generators.command import Command
from refeval.generators.program import ProgramLog
from refeval.redaction import Redactor
from refeval.seeds import case_seed
from tests.generators.cases import CLIP, disk, make_case, make_job

HOSTILE = "--prompt \"; rm -rf ~ $(touch x) {seed} {{}} '`\n%s"
SECRET = "sk-very/secret=1"


@pytest.fixture
def job(tmp_path: Path) -> RenderJob:
    disk(tmp_path / "data/red.png", (255, 0, 0))
    disk(tmp_path / "data/blue, light.png", (0, 0, 255))
    case = make_case(tmp_path / "data", ("red.png", "Ball"), ("blue, light.png", "Cup"), prompt=HOSTILE)
    return make_job(tmp_path, case, seed=7)


@pytest.fixture
def clip_file(tmp_path: Path) -> Path:
    """A real clip for programs to copy."""
    frames = [np.full((96, 160, 3), 30 * i, np.uint8) for i in range(CLIP.frames)]
    path = tmp_path / "ready.mp4"
    path.write_bytes(encode_clip(frames, CLIP.fps))
    return path


def make_command(folder: Path, script: str, *arguments: str, **keys: Any) -> Command:
    """The generator of a Python script: ``out`` is the output, ``args`` what follows it."""
    file = folder / "program.py"
    start = "import os, sys, time, json, shutil, signal, subprocess\nout, args = sys.argv[1], sys.argv[2:]\n"
    file.write_text(start + textwrap.dedent(script))
    return load(folder, command=[sys.executable, "-I", str(file), "{output}", *arguments], **keys)


def load(folder: Path, **keys: Any) -> Command:
    toml = folder / "model.toml"
    # A JSON text, number or list is also one of TOML.
    toml.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()))
    return Command.from_argument(str(toml))


def refusal(folder: Path, **keys: Any) -> str:
    with pytest.raises(BadInput) as caught:
        load(folder, **keys)
    message = str(caught.value)
    assert "model.toml" in message
    return message


# --- success ---------------------------------------------------------------------------------------------


def test_every_placeholder_reaches_the_program_untouched(tmp_path: Path, job: RenderJob, clip_file: Path) -> None:
    script = f"json.dump(args, open({str(tmp_path / 'seen.json')!r}, 'w')); shutil.copy({str(clip_file)!r}, out)"
    single = [f"{name}={{{name}}}" for name in PLACEHOLDERS if name not in ("references", "reference_3")]
    arguments = [*single, "{prompt}", "{references}", "--third={reference_3}", "{reference_3}", "{{{case}}}"]
    generator = make_command(tmp_path, script, *arguments)
    generator.prepare(CLIP)
    path = generator.render(job)
    assert path.read_bytes() == clip_file.read_bytes()
    assert len(open_clip(path)) == CLIP.frames
    *named, prompt, first, second, braces = json.loads((tmp_path / "seen.json").read_text())
    seen = dict(argument.split("=", 1) for argument in named)
    red, blue = (str(tmp_path / "data" / name) for name in ("red.png", "blue, light.png"))
    assert prompt == seen["prompt"] == HOSTILE
    assert (first, second, braces) == (red, blue, "{singleobj_1}")
    assert seen["seed"] == str(case_seed(7, "singleobj_1"))
    assert seen["run_seed"] == "7"
    assert (seen["width"], seen["height"], seen["frames"], seen["fps"]) == ("160", "96", "9", "8")
    assert (seen["reference_1"], seen["reference_2"]) == (red, blue)
    assert seen["references_csv"] == f"{red},{blue}"
    assert seen["labels_csv"] == "Ball,Cup"
    assert Path(seen["output"]) == path
    assert path.is_relative_to(job.scratch) and Path(seen["scratch"]).is_relative_to(job.scratch)
    assert not list(tmp_path.rglob("x"))


def test_stdin_is_empty_and_the_folder_is_the_scratch_folder(tmp_path: Path, job: RenderJob, clip_file: Path) -> None:
    script = f"print('in', repr(sys.stdin.read()), os.getcwd()); shutil.copy({str(clip_file)!r}, out)"
    make_command(tmp_path, script).render(job)
    assert f"in '' {job.scratch.resolve()}" in job.log.read_text()


def test_the_working_directory_is_relative_to_the_file(tmp_path: Path, job: RenderJob, clip_file: Path) -> None:
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo/generate.sh").write_text(f'#!/bin/sh\npwd\ncp {clip_file} "$1"\n')
    (tmp_path / "repo/generate.sh").chmod(0o755)
    generator = load(tmp_path, command=["./generate.sh", "{output}"], working_directory="repo")
    generator.prepare(CLIP)
    assert generator.render(job).stat().st_size
    assert str((tmp_path / "repo").resolve()) in job.log.read_text()


def test_the_file_may_set_the_size(tmp_path: Path, job: RenderJob, clip_file: Path) -> None:
    script = f"print('size', *args); shutil.copy({str(clip_file)!r}, out)"
    arguments = ["{width}", "{height}", "{frames}", "{fps}"]
    size = {"width": 64, "height": 32, "frames": 5, "fps": "24000/1001"}
    generator = make_command(tmp_path, script, *arguments, **size)
    generator.render(job)
    assert "size 64 32 5 24000/1001" in job.log.read_text()
    assert generator.expected(CLIP) == ClipSpec(width=64, height=32, frames=5, fps=Fraction(24000, 1001))
    assert load(tmp_path, command=["true"]).expected(CLIP) == CLIP


def test_the_environment_is_filtered(
    tmp_path: Path, job: RenderJob, clip_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDED_ON", "yes")
    monkeypatch.setenv("KEPT_BACK", "no")
    script = f"print('names', *sorted(os.environ)); shutil.copy({str(clip_file)!r}, out)"
    generator = make_command(tmp_path, script, pass_environment=["HANDED_ON", "NOT_SET"])
    generator.render(job)
    names = next(line for line in job.log.read_text().splitlines() if line.startswith("names "))
    # LC_CTYPE is what Python itself adds in a C locale.
    allowed = {"PATH", "HOME", "LANG", "TMPDIR", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "LC_CTYPE"}
    assert set(names.split()[1:]) - allowed == {"HANDED_ON"}


def test_settings_say_what_is_run_and_nothing_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_API_KEY", SECRET)
    keys = {"command": ["true", "{prompt}"], "name": "m", "pass_environment": ["SERVICE_API_KEY"]}
    settings = load(tmp_path, **keys).settings()
    assert settings["command"] == ["true", "{prompt}"]
    assert len(settings.pop("file_sha256")) == 64
    assert SECRET not in json.dumps(settings) and str(tmp_path) not in json.dumps(settings)
    assert load(tmp_path, **keys).weights() == {}


# --- failure ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("print('CUDA out of memory'); sys.exit(3)", "exit code 3; its last line: CUDA out of memory"),
        ("print('all done')", "exit code 0, but no output file was written; its last line: all done"),
        ("open(out, 'w')", "exit code 0, but the output file is empty"),
        ("os.mkdir(out)", "exit code 0, but no output file was written"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV"),
    ],
)
def test_a_failure_says_why(script: str, reason: str, tmp_path: Path, job: RenderJob) -> None:
    with pytest.raises(UnusableClip) as caught:
        make_command(tmp_path, script).render(job)
    assert caught.value.what == reason
    assert f"== failed: {reason.split(';')[0]}" in job.log.read_text()


def test_retries_start_afresh(tmp_path: Path, job: RenderJob, clip_file: Path) -> None:
    script = f"""
    tries = {str(tmp_path / "tries")!r}
    with open(tries, 'a') as file: file.write(repr(os.listdir('.')) + '\\n')
    open('leftover', 'w').close()
    if len(open(tries).readlines()) < 3: sys.exit(1)
    shutil.copy({str(clip_file)!r}, out)
    """
    assert make_command(tmp_path, script, retries=2).render(job).is_file()
    assert (tmp_path / "tries").read_text() == "[]\n" * 3
    headers = [line for line in job.log.read_text().splitlines() if line.startswith("== attempt")]
    assert [header[:19] for header in headers] == [f"== attempt {i} of 3: "[:19] for i in (1, 2, 3)]


def test_after_the_last_retry_the_clip_is_unusable(tmp_path: Path, job: RenderJob) -> None:
    with pytest.raises(UnusableClip, match=r"^2 attempts failed, the last one: exit code 4$"):
        make_command(tmp_path, "sys.exit(4)", retries=1).render(job)


FAMILY = """
child = "import signal, time; signal.signal(signal.SIGTERM, signal.{how}); print('up', flush=True); time.sleep(60)"
grandchild = subprocess.Popen([sys.executable, '-I', '-c', child], stdout=subprocess.PIPE)
grandchild.stdout.readline()
with open({pids!r} + '.new', 'w') as file: file.write(str(os.getpid()) + ' ' + str(grandchild.pid))
os.rename({pids!r} + '.new', {pids!r})
"""


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="process states are read from /proc")
def test_a_timeout_ends_grandchildren_that_ignore_sigterm(
    tmp_path: Path, job: RenderJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refeval.generators.program._GRACE_S", 0.5)
    pids = str(tmp_path / "pids")
    script = FAMILY.format(how="SIG_IGN", pids=pids) + "time.sleep(60)\n"
    with pytest.raises(UnusableClip, match=r"stopped after 2 s \(timeout_s\)"):
        make_command(tmp_path, script, timeout_s=2).render(job)
    family = [int(pid) for pid in Path(pids).read_text().split()]
    assert len(family) == 2
    assert not any(map(is_running, family))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="process states are read from /proc")
def test_children_left_behind_are_ended(tmp_path: Path, job: RenderJob, clip_file: Path) -> None:
    pids = str(tmp_path / "pids")
    script = FAMILY.format(how="SIG_DFL", pids=pids) + f"shutil.copy({str(clip_file)!r}, out)\n"
    assert make_command(tmp_path, script).render(job).is_file()
    assert not any(is_running(int(pid)) for pid in Path(pids).read_text().split())


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="process states are read from /proc")
def test_an_interruption_ends_the_program(tmp_path: Path) -> None:
    disk(tmp_path / "red.png", (255, 0, 0))
    pids = tmp_path / "pids"
    make_command(tmp_path, FAMILY.format(how="SIG_DFL", pids=str(pids)) + "time.sleep(60)\n")
    parent = f"""
import signal
from pathlib import Path
from refeval.generators.command import Command
from tests.generators.cases import make_case, make_job
# Ignored where the tests themselves run in the background of a shell.
signal.signal(signal.SIGINT, signal.default_int_handler)
folder = Path({str(tmp_path)!r})
Command.from_argument(str(folder / "model.toml")).render(make_job(folder, make_case(folder, ("red.png", "Ball"))))
"""
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", parent], cwd=root, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not pids.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.wait(30)
    family = [int(pid) for pid in pids.read_text().split()]
    assert len(family) == 2
    assert not any(map(is_running, family))


def test_a_prompt_that_no_program_can_take_is_a_reason(tmp_path: Path) -> None:
    disk(tmp_path / "red.png", (255, 0, 0))
    case = make_case(tmp_path, ("red.png", "Ball"), prompt="a\0b")
    with pytest.raises(UnusableClip, match="cannot be started"):
        make_command(tmp_path, "", "{prompt}").render(make_job(tmp_path, case))


@pytest.mark.parametrize("name", ["no-such-program-anywhere", "./absent.sh", "./not-executable.sh"])
def test_a_program_that_is_not_there_is_found_out_before_the_first_case(name: str, tmp_path: Path) -> None:
    (tmp_path / "not-executable.sh").write_text("#!/bin/sh\n")
    with pytest.raises(BadInput, match="is not found or not executable"):
        load(tmp_path, command=[name]).prepare(CLIP)


def test_a_working_directory_that_is_not_there_is_found_out_too(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="working_directory 'absent' is not a folder"):
        load(tmp_path, command=["true"], working_directory="absent").prepare(CLIP)


# --- secrets and logs ------------------------------------------------------------------------------------


def test_secrets_reach_neither_log_nor_reason(tmp_path: Path, job: RenderJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_API_KEY", SECRET)
    # Written in two pieces, as a buffer may be, and percent-encoded, as a URL would hold it.
    script = """
    key = os.environ['SERVICE_API_KEY']
    for piece in ('using ' + key[:5], key[5:] + '\\n', 'https://host/?k=sk-very%2Fsecret%3D1\\n'):
        os.write(1, piece.encode()); time.sleep(0.1)
    print('401 for ' + key); sys.exit(1)
    """
    generator = make_command(tmp_path, script, pass_environment=["SERVICE_API_KEY"])
    with pytest.raises(UnusableClip) as caught:
        generator.render(job)
    log = job.log.read_text()
    assert caught.value.what == "exit code 1; its last line: 401 for [redacted SERVICE_API_KEY]"
    assert "using [redacted SERVICE_API_KEY]\n" in log
    assert "k=[redacted SERVICE_API_KEY]\n" in log
    assert "sk-very" not in log


def test_a_secret_inside_the_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_API_KEY", SECRET)
    message = refusal(tmp_path, command=["true", f"--key={SECRET}"])
    assert "the value of SERVICE_API_KEY stands in 'command'" in message
    assert SECRET not in message


def test_the_log_is_cut_at_its_limit_and_the_reason_is_not(tmp_path: Path) -> None:
    with ProgramLog(tmp_path / "a.log", Redactor({}), limit=1000) as log:
        log.header("attempt 1")
        for number in range(500):
            log.feed(f"line {number}\n".encode())
        log.feed(b"\x1b[31mlast words\x1b[0m\r\n\n")
        log.end()
        assert log.last_line == "last words"
    text = (tmp_path / "a.log").read_text()
    assert len(text) < 1200
    assert text.startswith("== attempt 1\nline 0\n")
    assert "cut here: 1,000 bytes of output are kept" in text


def test_a_line_without_end_takes_little_memory_and_hides_secrets_across_its_pieces(tmp_path: Path) -> None:
    secrets = {"A_TOKEN": "abcdef", "B_TOKEN": "abcdefghijkl"}
    with ProgramLog(tmp_path / "a.log", Redactor(secrets)) as log:
        content = ("x" * 997 + "abcdefghijkl") * 400
        for start in range(0, len(content), 777):
            log.feed(content[start : start + 777].encode())
            assert len(log._pending) <= 2**16 + 777
        log.end()
    assert (tmp_path / "a.log").read_text() == ("x" * 997 + "[redacted B_TOKEN]") * 400 + "\n"


def test_bytes_that_are_no_text_are_logged(tmp_path: Path) -> None:
    with ProgramLog(tmp_path / "a.log", Redactor({})) as log:
        log.feed("é".encode()[:1])
        log.feed("é".encode()[1:] + b"\xff\n")
        log.end()
    assert (tmp_path / "a.log").read_text() == "é\ufffd\n"


def test_the_redactor_knows_secret_names_and_leaves_short_values_and_switches() -> None:
    environment = {
        "HF_TOKEN": "hf_1234",
        "db_password": "p@ss",
        "PIN_KEY": "123",
        "HOME": "/home/me",
        "TOKENIZERS_PARALLELISM": "false",
        "SSH_PRIVATE_KEY": "first line\nsecond line\n",
    }
    redactor = Redactor.from_environment(environment)
    assert redactor.text("hf_1234 p@ss 123 /home/me false") == (
        "[redacted HF_TOKEN] [redacted db_password] 123 /home/me false"
    )
    assert redactor.text("> second line") == "> [redacted SSH_PRIVATE_KEY]"
    assert redactor.names_in("p@ss hf_1234") == ["HF_TOKEN", "db_password"]
    assert Redactor({}).text("as it is") == "as it is"


# --- the file --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "key 'command' is missing"),
        ({"command": []}, "key 'command'"),
        ({"command": "python x.py"}, "key 'command': it should be a valid list"),
        ({"command": ["true", 3]}, "key 'command[1]': it should be a valid string"),
        ({"command": ["true"], "timeout": 3}, "unknown key 'timeout'. Did you mean 'timeout_s'?"),
        ({"command": ["true"], "timeout_s": 0}, "key 'timeout_s': it should be greater than 0"),
        ({"command": ["true"], "retries": "2"}, "key 'retries': it should be a valid integer"),
        ({"command": ["true"], "retries": True}, "key 'retries': it should be a valid integer"),
        ({"command": ["true"], "pass_environment": ["A=b"]}, "key 'pass_environment[0]': give the name"),
        ({"command": ["true"], "width": 64}, "key 'height' is missing; width, height, frames and fps"),
        ({"command": ["true"], "width": 2, "height": 2, "frames": 2, "fps": "x"}, "'x' is not a rate"),
        ({"command": ["true"], "width": 2, "height": 2, "frames": 2, "fps": "1/0"}, "'1/0' is not a rate"),
        ({"command": ["true", "{promt}"]}, "command[1]: unknown placeholder '{promt}'. Did you mean 'prompt'?"),
        ({"command": ["true", "{}"]}, "command[1]: unknown placeholder '{}'"),
        ({"command": ["true", "{a"]}, "'{' stands alone in '{a'; write '{{' for a literal brace"),
        ({"command": ["true", "r={references}"]}, "'{references}' becomes several arguments"),
        ({"command": ["{prompt}"]}, "the program itself cannot be the placeholder '{prompt}'"),
    ],
)
def test_what_is_wrong_with_the_file_is_named(keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    assert message in refusal(tmp_path, **keys)


def test_a_file_that_is_not_toml_or_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.toml"
    for content in (b"command = [", b"\xff"):
        path.write_bytes(content)
        with pytest.raises(BadInput, match="not valid TOML"):
            Command.from_argument(str(path))
    with pytest.raises(BadInput, match=r"cannot read .*absent\.toml"):
        Command.from_argument(str(tmp_path / "absent.toml"))
    with pytest.raises(BadInput, match="needs a file"):
        Command.from_argument(None)


def test_arguments_are_filled_in_one_pass() -> None:
    command = ["p", "{prompt}", "{{seed}}", "{reference_1}:{reference_2}"]
    assert check_arguments(command) is None
    values = {"prompt": "{case} {reference_1} }}", "case": "never"}
    assert fill_arguments(command, values, [Path("/a"), Path("/b")]) == [
        "p",
        "{case} {reference_1} }}",
        "{seed}",
        "/a:/b",
    ]
    assert fill_arguments(command, values, [Path("/a")]) == ["p", "{case} {reference_1} }}", "{seed}"]


def test_the_seed_of_a_case_is_fixed_for_ever() -> None:
    # The first eight digits of: printf 0/singleobj_1 | sha256sum
    assert case_seed(0, "singleobj_1") == 893153759
    seeds = {case_seed(seed, f"singleobj_{i}") for seed in range(20) for i in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**31 for seed in seeds)
