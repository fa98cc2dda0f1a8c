"""Metrics: frames of a clip in, a number out. One file per metric; ``base.py`` is the API."""

BUILT_IN = {
    "motion_amplitude": "refeval.metrics.motion_amplitude:MotionAmplitude",
}
