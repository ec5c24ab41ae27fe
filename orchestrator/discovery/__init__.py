"""Discovery: which engines there should be. The dispatcher dials what a `Discovery` names."""
