"""Files to tensors: reading, layouts, transforms, datasets, generated scenes."""
