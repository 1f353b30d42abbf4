"""Every stage of one image's way to its mask, kept and drawn.

It calls the functions of the path itself and computes nothing of its own."""
