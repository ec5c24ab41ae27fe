"""Journals in files: their form, and folding them again without a server. `dagctl export` and `replay` call it."""
