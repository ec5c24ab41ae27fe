"""The Kubernetes API as the orchestrator uses it: objects of one namespace, watched and changed."""
