"""One file a command; parses and prints, decides nothing."""
