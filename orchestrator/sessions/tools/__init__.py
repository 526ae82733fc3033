"""The tools of a model session."""
