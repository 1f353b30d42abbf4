"""Pictures of arrays: overlays, figures, panels.

Nothing here computes a map or reads the folder of a run."""
