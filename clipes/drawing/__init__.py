"""Pictures of arrays: overlays and figures.

Nothing here computes a map or reads the folder of a run."""
