"""Content-addressed bytes: chunks, packs, manifests."""
