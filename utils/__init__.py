"""The ground of all packages: settings, errors, files, devices, processes, plugins, checkpoints."""
