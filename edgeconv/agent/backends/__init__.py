"""One file a runtime, all with the same verbs; see ``base``."""
