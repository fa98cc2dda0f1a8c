"""Which metrics a case takes part in, by the rules of a protocol: decided by the suite, never by what happened.

Source: OpenS2V-Nexus eval/get_facesim.py and eval/get_nexusscore.py at 210eb08 for ``official_applies``.
"""

from __future__ import annotations

from refeval.cases import Case, Category, Reference, ReferenceKind

_OFFICIAL_FACE_CATEGORIES = frozenset({Category.SINGLEFACE, Category.SINGLEHUMAN, Category.FACEOBJ, Category.HUMANOBJ})
_FACE_CATEGORIES = _OFFICIAL_FACE_CATEGORIES | {Category.MULTIFACE, Category.MULTIHUMAN}


def nexus_label(case: Case, reference: Reference) -> str | None:
    """What NexusScore compares a reference of a case with; None: it does not look for it.

    Face cases skip their people, whose label is ``Man`` or ``Woman``; human cases call them ``human``. Everything
    else, backgrounds too, keeps its label.
    """
    if reference.label not in {"Man", "Woman"}:
        return reference.label
    if "face" in case.id:
        return None
    return "human" if "human" in case.id else reference.label


def nexus_prompts(case: Case) -> list[tuple[str, str]]:
    """(image path, label) of the references that NexusScore looks for."""
    labels = ((reference.path, nexus_label(case, reference)) for reference in case.references)
    return [(path, label) for path, label in labels if label is not None]


def official_applies(metric_id: str, case: Case) -> bool:
    """Whether the official scripts can give this case a score."""
    if metric_id == "facesim":
        return case.category in _OFFICIAL_FACE_CATEGORIES
    if metric_id == "nexus":
        return bool(nexus_prompts(case))
    return True


def strict_applies(metric_id: str, case: Case) -> bool:
    """Whether the ``strict`` protocol counts this case: FaceSim takes multi-person cases too."""
    if metric_id == "facesim":
        return case.category in _FACE_CATEGORIES and bool(case.of_kind(ReferenceKind.PERSON))
    return official_applies(metric_id, case)
