"""The commands of ``clipes``, a file each: ``add`` makes its parser, ``run`` works and returns the exit code."""
