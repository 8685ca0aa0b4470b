"""What all packages use: errors, files, paths, checkpoints, devices."""
