"""Small run folders for the tests of the reports: real clips, planted scores, no generator and no metric."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from refeval.applicability import strict_applies
from refeval.cases import Case, ClipSpec, Domain, Suite, parse_suite
from refeval.catalogue import METRIC_BY_ID
from refeval.clips import encode_clip
from refeval.documents import write_document
from refeval.metrics.judges.replies import ReplyRecord
from refeval.protocols import ProtocolName, slots
from refeval.records import RenderRecord, RenderStatus, ScoreRecord, ScoreStatus
from refeval.runs import Run, make_manifest, start_run
from refeval.thumbnails import keep_references

CLIP = ClipSpec(width=64, height=48, frames=6, fps=Fraction(8))
HOSTILE = "A man says <script>window.hacked=1</script> & \"smiles\" | <img src=x onerror='window.hacked=2'>"
CASES: dict[str, tuple[str, ...]] = {
    "singleface_1": ("Man",),
    "singlehuman_1": ("Woman",),
    "singleobj_1": ("dog",),
    "multiface_1": ("Man", "Woman"),
    "faceobj_1": ("Man", "hat"),
    "humanobj_1": ("Woman", "bag", "beach"),
}
# Where the square of :func:`write_clip` is in frame 3.
BOX = (22, 12, 38, 30)
_FOLDERS = {"Man": "man", "Woman": "woman", "beach": "environment"}


def small_suite(
    data: Path | None,
    cases: Mapping[str, Sequence[str]] = CASES,
    *,
    name: str = "opens2v-open",
    domain: Domain = Domain.OPEN,
    prompts: Mapping[str, str] | None = None,
) -> Suite:
    """A suite of the given labels per case id; with a data folder its references are drawn there."""
    entries = {}
    for case_id, labels in cases.items():
        paths = [f"Images/{_FOLDERS.get(label, 'thing')}/{case_id}_{i}.png" for i, label in enumerate(labels, 1)]
        prompt = (prompts or {}).get(case_id, f"A {' and a '.join(labels)} in the park, case {case_id}.")
        entries[case_id] = {"img_paths": paths, "prompt": prompt, "class_label": list(labels)}
        for path in paths if data else ():
            _draw(data / path if data else Path(path))
    text = json.dumps(entries)
    return parse_suite(text, name=name, domain=domain, clip=CLIP, source="small.json", root=data)


def small_run(
    folder: Path,
    suite: Suite,
    *,
    model: str = "squares",
    seed: int = 0,
    rendered: Iterable[str] | None = None,
    metrics: Iterable[str] = tuple(METRIC_BY_ID),
    quality: Mapping[str, float] | None = None,
) -> Run:
    """A run folder in which the rendered cases have a clip and a score under every metric that applies.

    Args:
        rendered: case ids; by default all.
        metrics: ids of the metrics that are scored.
        quality: case id -> 0..1, the part of its range that every metric gives; by default falling by case.
    """
    manifest = make_manifest(
        suite,
        model=model,
        generator_version="1",
        settings={"steps": 4},
        weights={},
        seed=seed,
        clip=CLIP,
        expected=None,
    )
    run = start_run(folder, manifest, suite)
    keep_references(run, suite.cases)
    wanted = {case.id for case in suite.cases} if rendered is None else set(rendered)
    for place, case in enumerate(suite.cases):
        if case.id in wanted:
            write_clip(run, case.id, seed + place)
            part = (quality or {}).get(case.id, 0.9 - 0.8 * place / len(suite.cases))
            for metric in metrics:
                run.write_score(scored(case, metric, part))
    return run


def write_clip(run: Run, case_id: str, seed: int) -> None:
    """Render one clip: a coloured square that moves over a shaded ground."""
    content = encode_clip(_frames(seed), CLIP.fps)
    run.write_render(render_record(run, case_id, RenderStatus.RENDERED, content=content), content)


def render_record(
    run: Run, case_id: str, status: RenderStatus, *, content: bytes | None = None, reason: str | None = None
) -> RenderRecord:
    size: dict[str, int | str | None] = {"width": CLIP.width, "height": CLIP.height, "frames": CLIP.frames}
    return RenderRecord(
        case=case_id,
        status=status,
        reason=reason,
        task_key="0" * 64,
        sha256=hashlib.sha256(content).hexdigest() if content else None,
        clip={**size, "fps": str(CLIP.fps)} if content else None,
        seed=run.manifest.seed,
        settings={"steps": 4},
        seconds=0.5,
        peak_memory_mb=100.0,
    )


def scored(case: Case, metric: str, part: float) -> ScoreRecord:
    """The record of a case at a part of the metric's range, or that the metric does not apply."""
    if not strict_applies(metric, case):
        reason = "the suite gives this case nothing to measure"
        return unscored(case.id, metric, ScoreStatus.NOT_APPLICABLE, reason)
    ranges = {
        protocol: next((slot for slot in slots(protocol, Domain.OPEN) if slot.metric == metric), None)
        for protocol in (ProtocolName.V1_1, ProtocolName.STRICT)
    }
    values = [slot.low + part * (slot.high - slot.low) if slot else part for slot in ranges.values()]
    return ScoreRecord(
        case=case.id,
        metric=metric,
        status=ScoreStatus.SCORED,
        task_key="0" * 64,
        value=values[0],
        strict_value=values[1],
        frames_used=6,
    )


def seen_by_metrics(
    run: Run, case_id: str, *, box: Sequence[int] | None = None, clip_sha256: str | None = None
) -> None:
    """Plant in the records of FaceSim and NexusScore what they saw: the coloured square, in two frames."""
    render = run.render_record(case_id)
    case = run.suite()[case_id]
    person, thing = case.references[:2]
    # The square stands elsewhere in every frame; this is where it is in the fourth.
    crops = [{"frame": frame, "box": list(box or BOX), "similarity": like} for frame, like in ((3, 0.75), (2, 0.65))]
    subject = {"label": thing.label, "reference": thing.path, "frames_found": 2, "mean_similarity": 0.7}
    face = {"path": person.path, "similarity": 0.5, "face": True}
    details: dict[str, dict[str, Any]] = {
        "nexus": {"subjects": [{**subject, "best_crops": crops}]},
        "facesim": {
            "references": [{**face, "best_crops": crops}],
            "faces": [1] * 5 + [0],
            "identity_confusion": None,
        },
    }
    for metric, shown in details.items():
        record = run.score_record(metric, case_id)
        assert record is not None and render is not None
        sha256 = clip_sha256 or render.sha256
        run.write_score(record.model_copy(update={"details": shown, "clip_sha256": sha256}))


def write_reply(run: Run, case_id: str, vote: str, text: str) -> None:
    """Plant a reply of the judge."""
    record = ReplyRecord(
        case=case_id,
        repeat=vote,
        key="0" * 64,
        model="judge",
        rubric={"wording": "own", "sha256": "0" * 64},
        pictures=6,
        pictures_sha256="0" * 64,
        text=text,
        model_served="judge-2030",
        input_tokens=None,
        output_tokens=None,
        price=None,
        seconds=1.5,
        attempts=1,
        finish_reason="stop",
    )
    write_document(run.folder / "judge" / f"{case_id}.{vote}.json", record.model_dump(mode="json"))


def unscored(case_id: str, metric: str, status: ScoreStatus, reason: str) -> ScoreRecord:
    return ScoreRecord(case=case_id, metric=metric, status=status, reason=reason, task_key="0" * 64)


def _frames(seed: int) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    rng = np.random.default_rng(seed)
    colour = rng.integers(60, 255, 3)
    ground = np.linspace(40, 160, CLIP.width, dtype=np.uint8)[None, :, None]
    frames = []
    for t in range(CLIP.frames):
        frame = np.broadcast_to(ground, (CLIP.height, CLIP.width, 3)).copy()
        frame[12:30, 4 + 6 * t : 20 + 6 * t] = colour
        frames.append(frame)
    return frames


def _draw(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A digest, because hash() of a text differs from process to process.
    red, green, blue = hashlib.sha256(path.name.encode()).digest()[:3]
    image = Image.new("RGBA", (320, 240), (red, green, blue, 255))
    image.paste((255, 255, 255, 0), (0, 0, 80, 80))
    image.save(path)
