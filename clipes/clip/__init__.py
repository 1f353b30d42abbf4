"""CLIP as frozen tensors: loading of weights, the vision side, the text side, cached text features.

Nothing here knows how maps or masks are made from what is encoded."""
