"""A data set to a folder of masks: the plan, its checks, reading ahead, the engines, deciding again.

Nothing here parses a command line or prints."""
