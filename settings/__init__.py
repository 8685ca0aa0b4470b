"""Settings of programs: the command line and YAML files, ranges of numbers, files of the user."""
