"""``python -m edgeconv.agent``, and the entry of the shipped file."""

from .main import main

if __name__ == "__main__":
    main()
