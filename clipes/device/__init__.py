"""Where tensors are: the choice of device and precision, memory, threads, exact products, transfer, resizing.

Nothing here knows CLIP, a mask or a file of a run."""
