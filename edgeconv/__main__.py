"""``python -m edgeconv`` is the same as ``edgeconv``."""

from edgeconv.cli.main import main

if __name__ == "__main__":
    main()
