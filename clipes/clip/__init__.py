"""CLIP as frozen tensors: loading of weights, image tower, text tower, their encoders, cached text features.

Nothing here knows how maps or masks are made from what is encoded."""
