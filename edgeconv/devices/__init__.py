"""Where a runtime runs: this machine, a side environment, an emulated board, a board over SSH."""
