"""The cut-off beginnings of models as plain NumPy: written, checked against the source, and shipped."""
