"""TensorFlow Serving's side: publish a version."""
