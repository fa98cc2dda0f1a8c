"""Figures of reports: one file per figure, drawn with matplotlib."""
