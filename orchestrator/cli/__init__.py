"""The command line: `dagctl` for people and scripts, `dag-orchestrator` as the process that serves.

`dagctl` must answer `--help` at once, so a command's module holds its signature and examples only; what a command
needs (pydantic, httpx, rich, the engine) is imported when it runs.
"""
