"""Metrics: frames of a clip in, a number out. One file per metric; ``base.py`` is the API."""

BUILT_IN = {
    "aesthetics": "refeval.metrics.aesthetics:Aesthetics",
    "facesim": "refeval.metrics.facesim:FaceSim",
    "gme": "refeval.metrics.gme:GmeScore",
    "motion_amplitude": "refeval.metrics.motion_amplitude:MotionAmplitude",
    "motion_smoothness": "refeval.metrics.motion_smoothness:MotionSmoothness",
    "natural": "refeval.metrics.natural:NaturalScore",
    "nexus": "refeval.metrics.nexus:NexusScore",
}
