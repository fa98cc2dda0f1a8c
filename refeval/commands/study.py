"""What ``refeval study`` does and prints."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from pathlib import Path

from refeval.commands.console import print_json, say, say_written
from refeval.commands.options import names as names_in
from refeval.errors import BadInput, ExitCode
from refeval.studies.comparisons import Question
from refeval.studies.key import read_tokens
from refeval.studies.making import MadeStudy, StudyRequest, make_study
from refeval.studies.server import StudyServer
from refeval.studies.study import StudyDocument, StudyFolder
from refeval.studies.votes import progress, read_votes, take_in
from refeval.suggestions import did_you_mean


def questions(text: str) -> tuple[Question, ...]:
    """Questions from a command-line option, in their own order.

    Raises:
        BadInput: an unknown one, or none.
    """
    known = [question.value for question in Question]
    names = names_in(text)
    for name in names:
        if name not in known:
            what = f"unknown question '{name}'{did_you_mean(name, known)}"
            raise BadInput(what, details=(("known", ", ".join(known)),))
    if not names:
        raise BadInput("no question", details=(("known", ", ".join(known)),))
    return tuple(question for question in Question if question.value in names)


def arms(text: str) -> tuple[Path, ...]:
    """Run folders from a command-line option."""
    return tuple(Path(name) for name in names_in(text))


def make(request: StudyRequest, *, out: Path | None, as_json: bool) -> ExitCode:
    """``refeval study make``."""
    made = make_study(request, out or Path("studies") / f"{len(request.arms)}-arms-seed{request.seed}")
    document = made.study.document
    if as_json:
        print_json(
            {
                "study": str(made.study.folder),
                "key": str(made.key),
                "raters": len(document.raters),
                "screens_per_rater": list(document.screens_per_rater),
                "changed": list(made.differing),
                "largest_sheet_bytes": made.largest_sheet,
                "votes_needed": document.votes_needed,
                "power": document.power.model_dump(),
            }
        )
        return ExitCode.OK
    _say_made(made, document)
    return ExitCode.OK


def serve(folder: Path, *, key: Path | None, host: str, port: int, as_json: bool) -> ExitCode:
    """``refeval study serve``: until a signal ends it."""
    study = StudyFolder(folder)
    key_folder = study.key_folder(key)
    with StudyServer(study, read_tokens(key_folder), (host, port)).running() as server:
        # 0.0.0.0 is where to listen, and no address that a link could have.
        name = socket.gethostname() if host in ("", "0.0.0.0") else host
        address = f"http://{name}:{server.server_address[1]}"
        if as_json:
            print_json({"address": address, "links": str(key_folder / "tokens.csv")})
        else:
            say(f"address     {address}")
            say(f"links       {address}/r/TOKEN, the tokens in {key_folder / 'tokens.csv'}: one rater, one link")
            say(f"votes       {folder / 'votes.jsonl'}")
            say("end         Ctrl-C")
        # Woken now and then: a wait without an end would keep signals back on some systems.
        forever = threading.Event()
        while not forever.wait(3600):
            pass
    return ExitCode.OK


def tally(
    folder: Path, files: Sequence[Path], *, key: Path | None, runs: Sequence[Path], out: Path | None, as_json: bool
) -> ExitCode:
    """``refeval study tally``."""
    from refeval.studies.tally import tally as write_tally

    study = StudyFolder(folder)
    key_folder = study.key_folder(key)
    taken = take_in(study, files)
    votes = read_votes(study)
    if not votes:
        raise BadInput(f"{folder} has no vote yet", cure=f"refeval study tally {folder} FILES-OF-THE-RATERS")
    raters = progress(study, votes)
    # A study may be named "." too.
    beside = folder if folder.name not in ("", "..") else folder.resolve()
    report = out or beside.with_name(f"{beside.name}-report")
    written = write_tally(folder, key=key_folder, runs=runs, out=report)
    complete = all(one.answered == one.screens for one in raters)
    if as_json:
        print_json(
            {
                "votes": len(votes),
                "taken_in": len(taken),
                "raters": [{"rater": r.rater, "answered": r.answered, "screens": r.screens} for r in raters],
                "written": [str(path) for path in written],
            }
        )
    else:
        say(f"votes       {len(votes)}, {len(taken)} files taken in")
        for one in raters:
            if one.answered < one.screens:
                say(f"incomplete  {one.rater}: {one.answered} of {one.screens} screens")
        say_written(written)
    return ExitCode.OK if complete else ExitCode.INCOMPLETE


def _say_made(made: MadeStudy, document: StudyDocument) -> None:
    least, most = document.screens_per_rater
    power = document.power
    say(f"study       {made.study.folder}  (hand this out)")
    say(f"key         {made.key}  (keep this back: it says which arm is which)")
    say(f"sheets      {len(document.raters)} of {least if least == most else f'{least} to {most}'} screens each")
    say(f"            the largest has {made.largest_sheet / 1e6:.1f} MB")
    if made.differing:
        profile = document.profile
        changed = f"all clips now {profile.width}x{profile.height} at {profile.fps} fps, equally long on each case"
        say(f"changed     arms differ in {', '.join(made.differing)}: {changed}")
    needed = ", ".join(f"{float(rate):.0%}: {votes}" for rate, votes in document.votes_needed.items())
    say(f"needed      decisive votes for a win rate (power 80 %, alpha .05): {needed}")
    say(f"here        {power.votes} votes on {power.cases} cases for each pair of arms and question: they show")
    say(f"            a win rate of {_rate(power.detectable)} if votes are decisive and independent,")
    say(f"            of {_rate(power.detectable_by_case)} if the votes on one case all agree")


def _rate(rate: float | None) -> str:
    return "none" if rate is None else f"{rate:.1%}"
