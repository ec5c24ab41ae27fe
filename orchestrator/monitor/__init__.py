"""Monitoring: what the orchestrator counts, and how people and Prometheus see it. `monitor.Monitor` is the way in."""
