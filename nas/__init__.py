"""What search.py is made of, apart from the networks: settings, data, watching, drawings, the page, the comparison."""
