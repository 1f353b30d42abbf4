"""Devices: the choice of device and precision, memory, threads, precision of products, transfer, resizing.

Nothing here knows CLIP, a mask or a file of a run."""
