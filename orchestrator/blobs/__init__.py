"""Large values beside the facts that cite them: `references` is the form, `base` the port, `in_store` an adapter."""
