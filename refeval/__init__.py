"""refeval."""
