"""Files to tensors: reading, layouts, transforms, data sets, generated scenes."""
