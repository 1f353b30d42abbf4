"""Files: atomic files and folders, paths, images, masks, maps as npz, temporary databases.

What a run or a data set is must not be known here, and nothing here imports torch.
"""
