"""From a delivery of images to an immutable, versioned and split dataset."""
