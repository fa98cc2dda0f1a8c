"""Training RefAlign and its ablations."""
