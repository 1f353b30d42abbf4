"""Segmentation masks from image-level labels with a frozen CLIP."""
