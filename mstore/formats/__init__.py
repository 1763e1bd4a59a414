"""The files people bring, read without TensorFlow."""
