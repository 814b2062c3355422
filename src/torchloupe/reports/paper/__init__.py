"""A report to hand in, in LaTeX or Markdown."""
