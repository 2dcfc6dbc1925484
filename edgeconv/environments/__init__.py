"""Side environments: a Python of its own for what cannot live beside edgeconv; made only when asked for."""
