"""Rows to train on: the public format, its pictures and clips, and the order in which they are seen."""
