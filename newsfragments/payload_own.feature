An authority's entries may say kind, image, enabled and initscript in themselves, not only by tags.
