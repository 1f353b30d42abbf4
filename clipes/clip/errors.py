"""What goes wrong with models."""


class ModelError(ValueError):
    """A model that cannot be loaded: unknown, without weights, of another structure, or with wrong weights."""
