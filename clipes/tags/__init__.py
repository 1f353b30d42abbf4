"""Labels by CLIP for images that have none: scores of all classes, and the rules that make labels of scores.

No network is trained and no mask is made here. Files and tables of labels are the business of ``store`` and ``runs``.
"""
