from orchestrator.cli import server

raise SystemExit(server.main())
