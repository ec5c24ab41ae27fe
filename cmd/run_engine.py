"""Run an engine: `python cmd/run_engine.py --help`."""

from dagengine.cli import main

main()
