"""What the orchestrator remembers: the port (`base`) and its adapters (`sqlite`). Only `app` names an adapter."""
