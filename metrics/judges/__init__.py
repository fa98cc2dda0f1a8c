"""Judges: models that look at the frames of a clip and answer with a number (NaturalScore)."""
