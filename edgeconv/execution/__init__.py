"""Workers, cache, manifest, scheduling. Stages are known here only by the interface in ``stage``."""
