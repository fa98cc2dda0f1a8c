"""Command: any program that makes a video file from a prompt and pictures, described by a small TOML file."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import signal
import tomllib
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from refeval.cases import ClipSpec
from refeval.errors import BadInput, UnusableClip
from refeval.generators.arguments import check_arguments, fill_arguments
from refeval.generators.base import Generator, RenderJob
from refeval.generators.program import ProgramLog, run_program
from refeval.redaction import Redactor
from refeval.seeds import case_seed
from refeval.suggestions import did_you_mean

_HANDED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")
_CLIP_KEYS = ("width", "height", "frames", "fps")
# Shorter values are words such as "test", which an argument may hold by chance.
_LIKE_A_SECRET = 8
_VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class CommandFile(BaseModel):
    """The keys of the TOML file (docs/generators.md).

    Attributes:
        command: program and arguments, with placeholders.
        name: shown in the manifest; change it with the program, whose bytes nobody watches.
        timeout_s: seconds that one attempt may take.
        retries: further attempts after a failed one.
        pass_environment: names of variables that the program gets besides the usual ones.
        working_directory: relative to the file; by default an empty scratch folder.
        width: of the clip, instead of the suite's; in pixels.
        height: as ``width``.
        frames: number of frames.
        fps: frames per second; a number, or a text such as ``"24000/1001"``.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    command: list[str] = Field(min_length=1)
    name: str | None = None
    timeout_s: float = Field(default=3600, gt=0)
    retries: int = Field(default=0, ge=0)
    pass_environment: list[_VariableName] = []
    working_directory: str | None = None
    width: int | None = Field(default=None, gt=0)
    height: int | None = Field(default=None, gt=0)
    frames: int | None = Field(default=None, gt=0)
    fps: int | float | str | None = None


class Command(Generator):
    """An external program, run once per case without a shell.

    It gets its own process group, no standard input, and of the environment only a few usual variables and
    those that the file names. Secrets of the environment are taken out of its output before it is stored.

    Args:
        file: the keys of the TOML file.
        folder: where that file lies.
        sha256: of its bytes.
        shown: the file as the user gave it, for messages.
    """

    version = "1"

    def __init__(self, file: CommandFile, *, folder: Path, sha256: str, shown: str) -> None:
        self.file = file
        self.sha256 = sha256
        self.shown = shown
        self.clip = _clip(file, shown)
        self._folder = folder / file.working_directory if file.working_directory is not None else None
        self._base = self._folder or folder
        self._redactor = Redactor.from_environment()
        self._check_command()

    @classmethod
    def from_argument(cls, argument: str | None) -> Command:
        """Make it from ``command:FILE.toml``.

        Raises:
            BadInput: no file, not TOML, an unknown key or placeholder, a wrong value, or a secret.
        """
        if not argument:
            cure = "--model command:FILE.toml (docs/generators.md lists the keys)"
            raise BadInput("generator 'command' needs a file", cure=cure)
        path = Path(argument)
        content = _read(path, argument)
        file = _parse(content, argument)
        digest = hashlib.sha256(content).hexdigest()
        return cls(file, folder=path.absolute().parent, sha256=digest, shown=argument)

    def settings(self) -> dict[str, Any]:
        """What is run; paths of this machine and values of the environment stay out."""
        return {
            "name": self.file.name,
            "command": self.file.command,
            "timeout_s": self.file.timeout_s,
            "retries": self.file.retries,
            "clip": str(self.clip) if self.clip else None,
            "file_sha256": self.sha256,
        }

    def expected(self, wanted: ClipSpec) -> ClipSpec:
        """The size of the file, where it gives one."""
        return self.clip or wanted

    def prepare(self, clip: ClipSpec) -> None:
        """Look for the program.

        Raises:
            BadInput: the program or the working directory is not there.
        """
        if self._folder and not self._folder.is_dir():
            what = f"{self.shown}: working_directory '{self.file.working_directory}' is not a folder"
            raise BadInput(what, cure="give a folder relative to the TOML file")
        self._program()

    def render(self, job: RenderJob) -> Path:
        """Run the program until it has written its clip, or no retries are left.

        Raises:
            UnusableClip: every attempt failed; the reason holds the last line of the output.
        """
        program = self._program()
        attempts = self.file.retries + 1
        with ProgramLog(job.log, self._redactor) as log:
            for number in range(1, attempts + 1):
                folder = job.scratch.absolute() / f"attempt-{number}"
                folder.mkdir()
                arguments = [program, *self._arguments(job, folder)[1:]]
                log.header(f"attempt {number} of {attempts}: {shlex.join(arguments)}")
                problem = self._attempt(arguments, folder, log)
                if problem is None:
                    return _output(folder)
                log.note(f"failed: {problem}")
            said = f"; its last line: {log.last_line}" if log.last_line else ""
        counted = f"{attempts} attempts failed, the last one: " if attempts > 1 else ""
        raise UnusableClip(self._redactor.text(f"{counted}{problem}{said}"))

    def _attempt(self, arguments: list[str], folder: Path, log: ProgramLog) -> str | None:
        """Run the program once; the reason why there is no clip, or None."""
        try:
            code = run_program(
                arguments,
                folder=(self._folder or folder).absolute(),
                environment=self._environment(),
                timeout_s=self.file.timeout_s,
                log=log,
            )
        except (OSError, ValueError) as error:
            raise UnusableClip(self._redactor.text(f"the program cannot be started: {error}")) from error
        if code is None:
            return f"stopped after {self.file.timeout_s:g} s (timeout_s)"
        if code:
            return f"ended by {_signal_name(-code)}" if code < 0 else f"exit code {code}"
        clip = _output(folder)
        if not clip.is_file():
            return "exit code 0, but no output file was written"
        return None if clip.stat().st_size else "exit code 0, but the output file is empty"

    def _arguments(self, job: RenderJob, folder: Path) -> list[str]:
        clip = self.expected(job.clip)
        values = {
            "prompt": job.case.prompt,
            "case": job.case.id,
            "seed": str(case_seed(job.seed, job.case.id)),
            "run_seed": str(job.seed),
            "output": str(_output(folder)),
            "width": str(clip.width),
            "height": str(clip.height),
            "frames": str(clip.frames),
            "fps": str(clip.fps),
            "scratch": str(folder),
            "labels_csv": ",".join(reference.label for reference in job.case.references),
        }
        # The program does not run in our working directory: relative paths would lead nowhere.
        references = [path.absolute() for path in job.case.reference_files()]
        return fill_arguments(self.file.command, values, references)

    def _environment(self) -> dict[str, str]:
        names = [*_HANDED_ON, *self.file.pass_environment]
        return {name: os.environ[name] for name in names if name in os.environ}

    def _program(self) -> str:
        """Absolute path of the program. A name with a slash is looked for from the working directory.

        Raises:
            BadInput: it is not there or not executable.
        """
        (name,) = fill_arguments(self.file.command[:1], {}, [])
        found = shutil.which(str(self._base.absolute() / name) if "/" in name else name)
        if found is None:
            where = self._base if "/" in name else "PATH"
            raise BadInput(
                f"{self.shown}: program '{name}' is not found or not executable",
                details=(("looked in", str(where)),),
                cure="install it, make it executable (chmod +x), or give its path",
            )
        return str(Path(found).absolute())

    def _check_command(self) -> None:
        problem = check_arguments(self.file.command)
        if problem:
            raise BadInput(f"{self.shown}: {problem}", cure="docs/generators.md lists the placeholders")
        names = self._redactor.names_in("\n".join(self.file.command), at_least=_LIKE_A_SECRET)
        if names:
            raise BadInput(
                f"{self.shown}: the value of {names[0]} stands in 'command', which the run folder keeps",
                cure=f'let the program read the variable: pass_environment = ["{names[0]}"]',
            )


def _output(folder: Path) -> Path:
    return folder / "output.mp4"


def _signal_name(number: int) -> str:
    known = {member.value: member.name for member in signal.Signals}
    return known.get(number, f"signal {number}")


def _read(path: Path, shown: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        details = (("reason", error.strerror or type(error).__name__),)
        raise BadInput(f"cannot read {shown}", details=details, cure="--model command:FILE.toml") from error


def _parse(content: bytes, shown: str) -> CommandFile:
    try:
        keys = tomllib.loads(content.decode())
    except ValueError as error:
        raise BadInput(f"{shown}: not valid TOML", details=(("reason", str(error)),)) from error
    try:
        return CommandFile.model_validate(keys)
    except ValidationError as error:
        raise BadInput(f"{shown}: {_problem(error)}", cure="docs/generators.md lists the keys") from error


def _problem(error: ValidationError) -> str:
    """The first complaint: key and problem."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = first["loc"]
    key = str(place[0]) + "".join(f"[{part}]" for part in place[1:] if isinstance(part, int))
    match first["type"]:
        case "extra_forbidden":
            return f"unknown key '{key}'{did_you_mean(key, CommandFile.model_fields)}"
        case "missing":
            return f"key '{key}' is missing"
        case "string_pattern_mismatch":
            return f"key '{key}': give the name of a variable; its value never stands in a file"
        case _:
            return f"key '{key}': {re.sub('^Input should', 'it should', first['msg'])}"


def _clip(file: CommandFile, shown: str) -> ClipSpec | None:
    missing = [key for key in _CLIP_KEYS if getattr(file, key) is None]
    if len(missing) == len(_CLIP_KEYS):
        return None
    if file.width is None or file.height is None or file.frames is None or file.fps is None:
        what = f"{shown}: key '{missing[0]}' is missing; width, height, frames and fps go together"
        raise BadInput(what, cure="give all four, or none to render at the suite's size")
    try:
        fps = Fraction(str(file.fps))
    except (ValueError, ZeroDivisionError):
        fps = Fraction(0)
    if fps <= 0:
        cure = 'give a number such as 24, or a text such as "24000/1001"'
        raise BadInput(f"{shown}: key 'fps': '{file.fps}' is not a rate", cure=cure)
    return ClipSpec(width=file.width, height=file.height, frames=file.frames, fps=fps)
