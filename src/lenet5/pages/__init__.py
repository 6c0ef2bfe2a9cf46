"""HTML pages that need more than the files of the stages: the registry, or a picture of the user."""
