"""Class sets, background words and prompt templates: data only, read by `clipes.vocabulary.vocabulary`."""
