"""The folder of a run, written and read: run.json, records, masks and what is saved beside them, status.

Nothing here loads torch: whoever reads a run needs numpy and Pillow alone."""
