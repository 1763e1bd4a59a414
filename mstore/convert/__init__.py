"""From a checkpoint to a proven SavedModel."""
