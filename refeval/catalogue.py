"""The seven published metrics: ids used in code, labels used in reports, names used by the official files.

Source: OpenS2V-Nexus eval/merge_result.py at 210eb08 (v1.1) and its parent of 8cb7427 (v1.0).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MetricInfo:
    """One published metric.

    Attributes:
        id: snake_case id in code and on the command line.
        label: name as published.
        official_file: name of the official score file, without ``.json``.
        official_field: key of the value inside that file (None: the value stands alone).
        total_key: key of its mean in the official result and in ``refeval total --json``.
    """

    id: str
    label: str
    official_file: str
    official_field: str | None
    total_key: str


PUBLISHED_METRICS: tuple[MetricInfo, ...] = (
    MetricInfo(
        id="aesthetics",
        label="Aesthetics",
        official_file="aesthetic_score",
        official_field="aes_score",
        total_key="aes_score",
    ),
    MetricInfo(
        id="motion_smoothness",
        label="MotionSmoothness",
        official_file="motion_smoothness",
        official_field="motion_smoothness",
        total_key="motion_smoothness",
    ),
    MetricInfo(
        id="motion_amplitude",
        label="MotionAmplitude",
        official_file="motion_amplitude",
        official_field="motion_fb",
        total_key="motion_amplitude",
    ),
    MetricInfo(
        id="facesim",
        label="FaceSim",
        official_file="facesim",
        official_field="cur_score",
        total_key="facesim_cur",
    ),
    MetricInfo(
        id="gme",
        label="GmeScore",
        official_file="gmescore",
        official_field="gme_score",
        total_key="gme_score",
    ),
    MetricInfo(
        id="nexus",
        label="NexusScore",
        official_file="nexusscore",
        official_field="nexus_score",
        total_key="nexus_score",
    ),
    MetricInfo(
        id="natural",
        label="NaturalScore",
        official_file="naturalscore",
        official_field=None,
        total_key="natural_score",
    ),
)
METRIC_BY_ID = {metric.id: metric for metric in PUBLISHED_METRICS}
