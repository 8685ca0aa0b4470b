"""Tables: one writer for Markdown, LaTeX, CSV and aligned text; tables of scores; the tables in our documents."""
