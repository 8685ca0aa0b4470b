"""From weights and images to saliency maps."""
