"""The coordinator as real processes: SuperLink, executor, TLS gateway, and the runs that they carry."""
