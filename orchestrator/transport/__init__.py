"""Sessions with engines: `base` is the port, `grpc_link` dials them, `in_process` reaches those in this process."""
