"""What runs on a device: the Python standard library and numpy only, Python 3.8 or newer.

The package is shipped as one file (``edgeconv.devices.shipping``) and knows nothing of the rest of edgeconv;
``wire`` is used by both sides.
"""
