"""Triggers: what starts executions besides people and programs. What a document declares lives in `dagengine.spec`."""
