"""The commands of `dagctl`, by what they do: work locally, change the orchestrator, look at it, develop."""
