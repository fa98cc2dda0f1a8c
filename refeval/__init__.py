"""refeval: the evaluation harness for reference-to-video generation."""

__version__ = "0.1.0"
