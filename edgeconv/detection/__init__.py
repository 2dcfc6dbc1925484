"""Object detectors: what their configuration says, and what is done after their network. No TensorFlow."""
