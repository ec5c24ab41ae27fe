"""Run an orchestrator: `python cmd/run_orchestrator.py --help`."""

from orchestrator.cli.server import main

main()
