"""An engine behind sessions: the host obeys orchestrators, the service carries sessions over gRPC."""
