"""The disposable process that imports TensorFlow; nothing else does."""
