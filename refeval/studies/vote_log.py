"""``votes.jsonl``: append-only, one vote a line, on disk before the rater is told so."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from pathlib import Path

from refeval.documents import naming_a_full_disk, sync_folder
from refeval.errors import BadInput
from refeval.studies.study import StudyFolder
from refeval.studies.votes import Vote, read_votes


class VoteLog:
    """The open log of one study; one process at a time, any number of its threads.

    Args:
        study: whose votes come in.

    Raises:
        BadInput: another process has it open.
        CorruptFile: a damaged line.
    """

    def __init__(self, study: StudyFolder) -> None:
        self._path: Path = study.folder / "votes.jsonl"
        self._lock = threading.Lock()
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._file)
            cure = "end the other refeval study serve first"
            raise BadInput(f"{self._path} is open in another process", cure=cure) from error
        # Else a power failure could take the file that the first votes are acknowledged from.
        sync_folder(study.folder)
        self._cut_off_half_a_line()
        self._known = {vote.id for vote in read_votes(study)}

    def add(self, vote: Vote) -> bool:
        """Store a vote, once.

        Returns:
            Whether it is new; a vote whose id is known is not stored again.

        Raises:
            DiskFull: no space; nothing of it is left behind.
            ValueError: the log is closed.
        """
        row = {**vote.model_dump(mode="json"), "received": time.time_ns() // 1_000_000}
        line = (json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n").encode()
        with self._lock:
            if self._file < 0:
                raise ValueError("the log of votes is closed")
            if vote.id in self._known:
                return False
            before = os.fstat(self._file).st_size
            try:
                with naming_a_full_disk(self._path):
                    written = os.write(self._file, line)
                    while written < len(line):
                        written += os.write(self._file, line[written:])
                    os.fsync(self._file)
            except BaseException:
                os.ftruncate(self._file, before)
                raise
            self._known.add(vote.id)
        return True

    def close(self) -> None:
        """Wait for the vote at hand and let the log go."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def _cut_off_half_a_line(self) -> None:
        """What a power failure left without an end was never acknowledged: the sheet sends it again."""
        content = self._path.read_bytes()
        if content and not content.endswith(b"\n"):
            os.ftruncate(self._file, content.rfind(b"\n") + 1)
