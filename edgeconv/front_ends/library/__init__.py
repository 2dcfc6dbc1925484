"""What TensorFlow's front-end ops compute, as plain functions on NumPy arrays.

The text of these functions is what goes into a generated ``NAME.front_end.py``, so each module needs nothing
but NumPy and the standard library (Pillow where an image file is decoded), and no function needs one of
another module. Strings are object arrays of ``bytes``.
"""
