"""edgeconv takes a trained TensorFlow model to proven, measured artifacts for edge devices."""
