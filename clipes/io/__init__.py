"""Files: atomic writing, images, masks, maps as npz, export folders, temporary databases.

Nothing here knows torch, a model or what a run is."""
