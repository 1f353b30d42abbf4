"""The folder of a run: ``run.json``, ``classes.json``, records, masks, confidences and maps, written and read.

What decides how masks are made must not live here, and nothing here imports torch, because status, export and report
read runs with numpy and Pillow alone.
"""
